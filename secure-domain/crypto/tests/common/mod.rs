//! Reads the vector files in `tests/vectors`: `name = value` lines, a blank line between records, `[section]` lines, `#` notes.
#![allow(dead_code, missing_docs, unreachable_pub)]
use std::collections::HashMap;

pub struct Record {
    pub section: String,
    fields: HashMap<String, String>,
}

impl Record {
    /// The text of a field that must be there.
    pub fn text(&self, name: &str) -> &str {
        self.fields.get(name).unwrap_or_else(|| panic!("{self:?} has no field {name}"))
    }

    pub fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    pub fn hex(&self, name: &str) -> Vec<u8> {
        hex(self.text(name))
    }

    pub fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        self.hex(name).try_into().unwrap_or_else(|_| panic!("{self:?}: {name} has the wrong length"))
    }

    pub fn number(&self, name: &str) -> u32 {
        self.text(name).parse().unwrap()
    }

    pub fn is_valid(&self) -> bool {
        match self.text("result") {
            "valid" => true,
            // "acceptable" marks key wraps of one 64-bit register, which RFC 3394 section 2 does not allow; we refuse them.
            "invalid" | "acceptable" => false,
            other => panic!("{self:?}: result {other}"),
        }
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = ["id", "label", "source", "count", "test"].iter().find_map(|name| self.fields.get(*name));
        write!(f, "[{}] {}", self.section, name.map_or("", String::as_str))
    }
}

pub fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "odd number of digits");
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

pub fn records(file: &str) -> Vec<Record> {
    let path = format!("{}/tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut section = String::new();
    let mut records = Vec::new();
    let mut fields = HashMap::new();
    for line in text.lines().map(str::trim).chain([""]) {
        if line.starts_with('#') {
            continue;
        } else if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if let Some((name, value)) = line.split_once('=') {
            fields.insert(name.trim().to_owned(), value.trim().to_owned());
        } else if !fields.is_empty() {
            records.push(Record { section: section.clone(), fields: std::mem::take(&mut fields) });
        }
    }
    records
}

/// The block cipher that a section name begins with, given the length of the key.
pub fn algorithm(section: &str, key_len: usize) -> Option<crypto::Algorithm> {
    use crypto::Algorithm::*;
    let family = section.split([' ', '-']).next().unwrap();
    Some(match (family, key_len) {
        ("ARIA", 16) => Aria128,
        ("ARIA", 24) => Aria192,
        ("ARIA", 32) => Aria256,
        ("SEED", 16) => Seed128,
        ("AES", 16) => Aes128,
        ("AES", 24) => Aes192,
        ("AES", 32) => Aes256,
        _ => return None,
    })
}

/// The bytes that a label stands for in the derived files: SHA-256 of `label|0`, `label|1` and so on.
pub fn label_stream(label: &str, len: usize) -> Vec<u8> {
    (0..).flat_map(|i| crypto::algorithms::hash::sha256(format!("{label}|{i}").as_bytes())).take(len).collect()
}

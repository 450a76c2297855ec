//! What a program said was durable, and when: the files that a power cut after that must leave as they were.
//!
//! Times are lengths of the log of writes. The program waits after each word until the length was read, so what it speaks of was
//! complete before that, and what it does next comes after.
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

/// Digests of files by name.
pub type Digests = BTreeMap<String, String>;

/// Everything that was said.
#[derive(Debug, Default)]
pub struct Kept {
    files: BTreeMap<String, Vec<Word>>,
}

/// One word about a file.
#[derive(Debug)]
struct Word {
    /// Length of the log when it was durable.
    written: usize,
    /// The digest of the contents; none once the file is removed.
    state: Option<String>,
}

impl Kept {
    /// Takes down lines as `sha256sum` prints them, or `gone  NAME`; other lines are not ours. All of it was durable at `written`.
    pub fn note(&mut self, said: &str, written: usize) {
        for (what, name) in said.lines().filter_map(|line| line.trim().split_once("  ")) {
            let digest = what.len() == 64 && what.bytes().all(|byte| byte.is_ascii_hexdigit());
            if digest || what == "gone" {
                let state = digest.then(|| what.to_owned());
                self.files.entry(name.to_owned()).or_default().push(Word { written, state });
            }
        }
    }

    /// Lengths of the log at which something was said.
    pub fn times(&self) -> BTreeSet<usize> {
        self.files.values().flatten().map(|word| word.written).collect()
    }

    /// Judges the files that were `found` after a cut at `written`: each is what was last said of it before the cut, or what was said
    /// later. Gives the number of files about which something had been said.
    ///
    /// # Errors
    /// The first file that is neither.
    pub fn check(&self, written: usize, found: &Digests) -> Result<usize> {
        let mut judged = 0;
        for (name, words) in &self.files {
            let Some(last) = words.iter().rposition(|word| word.written <= written) else { continue };
            judge(&words[last..], found.get(name))
                .with_context(|| format!("{name}, durable at {}", words[last].written))?;
            judged += 1;
        }
        Ok(judged)
    }
}

fn judge(allowed: &[Word], found: Option<&String>) -> Result<()> {
    if allowed.iter().any(|word| word.state.as_ref() == found) {
        return Ok(());
    }
    match found {
        None => bail!("is lost"),
        Some(_) if allowed[0].state.is_none() => bail!("was removed and is there again"),
        Some(digest) => bail!("holds something else: {digest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: char) -> String {
        byte.to_string().repeat(64)
    }

    fn found(state: Option<char>) -> Digests {
        state.map(|byte| ("a/f".to_owned(), digest(byte))).into_iter().collect()
    }

    /// Durable at 10 as `1`, at 20 as `2`, removed at 30.
    fn kept() -> Kept {
        let mut kept = Kept::default();
        kept.note(&format!("$ work\r\n{}  a/f\nsome other line", digest('1')), 10);
        kept.note(&format!("{}  a/f", digest('2')), 20);
        kept.note("gone  a/f", 30);
        kept
    }

    #[test]
    fn a_durable_file_may_not_be_lost_changed_or_older() {
        let refused = |written, state| kept().check(written, &found(state)).unwrap_err().root_cause().to_string();
        let mut kept_only = Kept::default();
        kept_only.note(&format!("{}  a/f", digest('1')), 10);
        assert_eq!(kept_only.check(10, &found(None)).unwrap_err().root_cause().to_string(), "is lost");
        assert!(refused(10, Some('3')).contains("something else"));
        assert!(refused(20, Some('1')).contains("something else"));
        assert!(refused(30, Some('2')).contains("there again"));
    }

    #[test]
    fn what_was_said_later_may_have_happened_and_what_was_not_said_yet_is_free() {
        for (written, state) in
            [(9, None), (9, Some('7')), (10, Some('1')), (10, Some('2')), (20, Some('2')), (20, None), (30, None)]
        {
            kept().check(written, &found(state)).unwrap();
        }
        assert_eq!(kept().times(), [10, 20, 30].into());
        assert_eq!(kept().check(9, &found(None)).unwrap(), 0);
        assert_eq!(kept().check(10, &found(Some('1'))).unwrap(), 1);
    }
}

//! Rust source as far as counting needs it: code apart from comments and string contents, tests apart from the rest.

/// One source file, reduced.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Lines with code outside tests.
    pub code: usize,
    /// Lines with code in tests.
    pub tests: usize,
    /// `unsafe` in code outside tests: blocks, functions, implementations.
    pub unsafes: usize,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.code += other.code;
        self.tests += other.tests;
        self.unsafes += other.unsafes;
    }
}

/// Counts a file. Tests are what follows the first `#[cfg(test)]` on a module with a body: the house keeps them at the end.
pub fn count(text: &str) -> Count {
    let code = code_only(text);
    let lines: Vec<&str> = code.lines().collect();
    let is_tests = |at: usize| lines[at].trim() == "#[cfg(test)]" && opens_module(&lines[at + 1..]);
    let tests_from = (0..lines.len()).find(|&at| is_tests(at)).unwrap_or(lines.len());
    let filled = |lines: &[&str]| lines.iter().filter(|line| !line.trim().is_empty()).count();
    let (outside, tests) = lines.split_at(tests_from);
    let unsafes = outside.iter().flat_map(|line| words(line)).filter(|word| *word == "unsafe").count();
    Count { code: filled(outside), tests: filled(tests), unsafes }
}

/// Names of the modules that a file declares for tests alone and that are files of their own.
pub fn test_modules(text: &str) -> Vec<String> {
    let code = code_only(text);
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let declared = |at: &usize| lines[*at] == "#[cfg(test)]";
    let next = |at: usize| lines[at + 1..].iter().find(|line| !line.is_empty() && !line.starts_with("#["));
    let name = |line: &&str| line.strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned);
    (0..lines.len()).filter(declared).filter_map(|at| name(next(at)?)).collect()
}

fn opens_module(following: &[&str]) -> bool {
    let next = following.iter().map(|line| line.trim()).find(|line| !line.is_empty() && !line.starts_with("#["));
    next.is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
}

/// Words of the language: identifiers and keywords.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|letter: char| !letter.is_alphanumeric() && letter != '_').filter(|word| !word.is_empty())
}

/// The text with comments gone and the insides of strings and characters blanked; lines stay where they are.
fn code_only(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < letters.len() {
        let rest = &letters[at..];
        let skipped = match rest {
            ['/', '/', ..] => rest.iter().position(|&letter| letter == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => block_comment(rest),
            ['r', '"', ..] | ['r', '#', '"' | '#', ..] if !ends_word(&out) => raw_string(rest),
            ['"', ..] => string(rest),
            ['\'', ..] => character(rest),
            _ => 0,
        };
        if skipped == 0 {
            out.push(letters[at]);
            at += 1;
        } else {
            // A string stays visible as code, a comment does not.
            out.extend(if letters[at] == '/' { None } else { Some('"') });
            out.extend(rest[..skipped].iter().filter(|&&letter| letter == '\n'));
            at += skipped;
        }
    }
    out
}

fn ends_word(text: &str) -> bool {
    text.chars().next_back().is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn raw_string(rest: &[char]) -> usize {
    let hashes = rest[1..].iter().take_while(|&&letter| letter == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return 0; // A raw identifier.
    }
    let body = 2 + hashes;
    let closes =
        |at: &usize| rest[*at] == '"' && rest[at + 1..].iter().take(hashes).filter(|&&l| l == '#').count() == hashes;
    (body..rest.len()).find(closes).map_or(rest.len(), |end| end + 1 + hashes)
}

fn string(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A character literal; 0 for a lifetime.
fn character(rest: &[char]) -> usize {
    match rest {
        ['\'', '\\', _, ..] => rest.iter().skip(3).position(|&letter| letter == '\'').map_or(0, |end| end + 4),
        ['\'', _, '\'', ..] => 3,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_in_comments_and_strings_is_none() {
        let text = "// unsafe\n/* unsafe /* unsafe */ */\nlet a = \"unsafe \\\" unsafe\"; let b = r#\"unsafe \" \"#; let c = '\"';\n";
        assert_eq!(count(text), Count { code: 1, tests: 0, unsafes: 0 });
        assert_eq!(count("unsafe { f::<'a>('\\'') }\nlet unsafe_code = 1;\n"), Count { code: 2, tests: 0, unsafes: 1 });
    }

    #[test]
    fn tests_are_counted_apart() {
        let text = "//! Doc.\n#[cfg(test)]\nextern crate std;\n\nfn f() {}\n\n#[cfg(test)]\nmod tests {\n    // note\n    unsafe {}\n}\n";
        assert_eq!(count(text), Count { code: 3, tests: 4, unsafes: 0 });
    }

    #[test]
    fn modules_for_tests_alone_are_named() {
        let text = "#[cfg(test)]\nextern crate std;\nmod code;\n#[cfg(test)]\nmod model;\n#[cfg(test)]\n#[allow(dead_code)]\nmod tests;\n#[cfg(test)]\nmod inside {}\n#[cfg(test)]";
        assert_eq!(test_modules(text), ["model", "tests"]);
    }
}

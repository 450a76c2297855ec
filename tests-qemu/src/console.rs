//! A console as text: escape sequences and carriage returns taken out, readable while it grows.
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// Takes a terminal's control sequences (ECMA-48: CSI and two-byte ones) and carriage returns out of a stream of bytes.
#[derive(Debug, Default)]
pub struct Plain {
    state: State,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Text,
    Escape,
    Sequence,
}

impl Plain {
    /// The next byte, if it is text.
    pub fn next(&mut self, byte: u8) -> Option<u8> {
        let (state, text) = match (self.state, byte) {
            (_, 0x1b) => (State::Escape, None),
            (State::Escape, b'[') => (State::Sequence, None),
            (State::Escape, _) => (State::Text, None),
            (State::Sequence, 0x40..=0x7e) => (State::Text, None),
            (State::Sequence, _) => (State::Sequence, None),
            (State::Text, b'\r') => (State::Text, None),
            (State::Text, _) => (State::Text, Some(byte)),
        };
        self.state = state;
        text
    }
}

/// What has been said so far, and whether more can come. One thread adds, others wait for text.
#[derive(Debug, Default)]
pub struct Transcript {
    inner: Mutex<Inner>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    text: String,
    closed: bool,
}

/// Why a pattern was not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unseen {
    /// The time was up.
    TimedOut,
    /// The speaker is gone.
    Closed,
}

impl Transcript {
    /// Adds bytes of text; what is not ASCII becomes `?`, so that any offset is a character boundary.
    pub fn add(&self, bytes: impl Iterator<Item = u8>) {
        let mut inner = self.lock();
        inner.text.extend(bytes.map(|byte| if byte.is_ascii() { char::from(byte) } else { '?' }));
        self.grown.notify_all();
    }

    /// Nothing will be added any more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.grown.notify_all();
    }

    /// Length of the text in bytes.
    pub fn len(&self) -> usize {
        self.lock().text.len()
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The text from offset `from` on.
    pub fn since(&self, from: usize) -> String {
        self.lock().text[from..].to_owned()
    }

    /// Waits until `pattern` stands somewhere behind offset `from`; gives the offsets of its first and behind its last byte.
    ///
    /// # Errors
    /// When `patience` is over or the transcript closed without it.
    pub fn find(&self, pattern: &str, from: usize, patience: Duration) -> Result<(usize, usize), Unseen> {
        let deadline = Instant::now() + patience;
        let mut inner = self.lock();
        let mut searched = from;
        loop {
            if let Some(at) = inner.text[searched..].find(pattern) {
                return Ok((searched + at, searched + at + pattern.len()));
            }
            if inner.closed {
                return Err(Unseen::Closed);
            }
            // What was searched cannot match any more, but for a beginning of the pattern at its end.
            searched = searched.max(inner.text.len().saturating_sub(pattern.len()));
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Unseen::TimedOut);
            }
            inner = self.grown.wait_timeout(inner, left).expect("no holder of the lock panics").0;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of the lock panics")
    }
}

/// Whether a line is the hypervisor's or the secure domain's.
pub fn is_ours(line: &str) -> bool {
    line.starts_with("[haechi] ") || line.starts_with("[secure] ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &[u8]) -> String {
        let mut plain = Plain::default();
        text.iter().filter_map(|byte| plain.next(*byte)).map(char::from).collect()
    }

    #[test]
    fn control_sequences_are_taken_out_wherever_they_stand() {
        assert_eq!(plain(b"haechi:~# \x1b[6n"), "haechi:~# ");
        assert_eq!(plain(b"a\x1b[1;31mb\x1b[0mc\x1bMd\r\n"), "abcd\n");
        assert_eq!(plain(b"a\x1b\x1b[Jb"), "ab");
    }

    #[test]
    fn pattern_is_not_found_before_the_offset_or_after_the_end() {
        let transcript = Transcript::default();
        transcript.add(b"login: ok".iter().copied());
        assert_eq!(transcript.find("login", 1, Duration::ZERO), Err(Unseen::TimedOut));
        assert_eq!(transcript.find("ok", 1, Duration::ZERO), Ok((7, 9)));
        transcript.close();
        assert_eq!(transcript.find("more", 0, Duration::from_secs(60)), Err(Unseen::Closed));
    }

    #[test]
    fn pattern_that_comes_in_pieces_is_found() {
        let transcript = Transcript::default();
        std::thread::scope(|scope| {
            let found = scope.spawn(|| transcript.find("haechi:~# ", 0, Duration::from_secs(60)));
            for piece in [&b"boot\nhae"[..], b"chi:~", b"# "] {
                transcript.add(piece.iter().copied());
                std::thread::sleep(Duration::from_millis(2));
            }
            assert_eq!(found.join().expect("it does not panic"), Ok((5, 15)));
        });
    }
}

//! Merges the output of three speakers onto one UART.
//!
//! The general domain's bytes pass unchanged and at once: it may draw prompts and progress bars. Another speaker's line is
//! held until it is whole, then printed with its prefix on a line of its own; if the general domain was in the middle of a
//! line, a line break goes first, and its next byte continues at the start of the following line.
//!
//! The general domain can make the secure domain speak, so the secure domain's lines are bounded ([`crate::BURST`]).
//!
//! One thing the general domain cannot do is begin a line with another speaker's prefix: such a line gets a mark behind the
//! prefix, so that whoever reads a log by prefixes is not deceived. (A terminal can still be made to show anything, by cursor
//! movements; a log cannot.)

use core::fmt::Write as _;

use crate::limit::{Limit, Verdict};

/// Longest line of the secure domain and the hypervisor in bytes; a longer one is broken.
pub const LINE_BYTES: usize = 160;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// The general domain, through its PL011.
    General,
    /// The secure domain, through `Function::Log`.
    Secure,
    /// EL2 itself.
    Hypervisor,
}

impl Speaker {
    const fn prefix(self) -> &'static [u8] {
        match self {
            Speaker::General => b"",
            Speaker::Secure => b"[secure] ",
            Speaker::Hypervisor => b"[haechi] ",
        }
    }
}

/// A line that is not whole yet.
#[derive(Clone, Debug)]
struct Line {
    bytes: [u8; LINE_BYTES],
    len: usize,
}

impl Line {
    const EMPTY: Line = Line { bytes: [0; LINE_BYTES], len: 0 };

    /// Adds a byte; returns false if the line is full.
    fn add(&mut self, byte: u8) -> bool {
        let Some(place) = self.bytes.get_mut(self.len) else { return false };
        *place = byte;
        self.len += 1;
        true
    }

    fn text(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl core::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        if text.bytes().all(|byte| self.add(byte)) { Ok(()) } else { Err(core::fmt::Error) }
    }
}

/// The multiplexer.
#[derive(Clone, Debug)]
pub struct Mux {
    /// Whether the last byte sent left the UART's line open.
    mid_line: bool,
    /// Bytes of another speaker's prefix that the general domain's line has begun with so far; `None` once it differs.
    forged: Option<usize>,
    secure: Line,
    hypervisor: Line,
    /// Of the secure domain's lines.
    limit: Limit,
    /// The time, as the last caller told it, in milliseconds.
    now_ms: u64,
}

impl Default for Mux {
    fn default() -> Self {
        Mux::new()
    }
}

impl Mux {
    /// At the start of a line.
    pub const fn new() -> Self {
        Mux {
            mid_line: false,
            forged: Some(0),
            secure: Line::EMPTY,
            hypervisor: Line::EMPTY,
            limit: Limit::new(),
            now_ms: 0,
        }
    }

    /// Tells the time, in milliseconds from any beginning.
    pub fn set_time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Lines of the secure domain that were left out and not told yet.
    pub fn dropped(&self) -> u64 {
        self.limit.dropped()
    }

    /// Takes `bytes` from `speaker` and gives what is due to `sink`, the physical UART.
    pub fn push(&mut self, speaker: Speaker, bytes: &[u8], sink: &mut impl FnMut(u8)) {
        for &byte in bytes {
            match speaker {
                Speaker::General => self.pass(byte, sink),
                _ => self.gather(speaker, byte, sink),
            }
        }
    }

    /// A byte of the general domain.
    fn pass(&mut self, byte: u8, sink: &mut impl FnMut(u8)) {
        if matches!(byte, b'\n' | b'\r') || !self.mid_line {
            self.forged = Some(0);
        }
        self.emit(byte, sink);
        let Some(len) = self.forged.filter(|_| !matches!(byte, b'\n' | b'\r')) else { return };
        let prefixes = [Speaker::Secure, Speaker::Hypervisor].map(Speaker::prefix);
        self.forged = prefixes.iter().any(|prefix| prefix.get(len) == Some(&byte)).then_some(len + 1);
        if self.forged == Some(PREFIX_BYTES) {
            FORGED.iter().for_each(|byte| self.emit(*byte, sink));
            self.forged = None;
        }
    }

    /// Prints what `speaker` has said of an unfinished line, as before a stop.
    pub fn flush(&mut self, speaker: Speaker, sink: &mut impl FnMut(u8)) {
        if self.line(speaker).is_some_and(|line| line.len > 0) {
            self.print_line(speaker, sink);
        }
    }

    fn gather(&mut self, speaker: Speaker, byte: u8, sink: &mut impl FnMut(u8)) {
        match byte {
            b'\n' => self.print_line(speaker, sink),
            b'\r' => {}
            _ => {
                let byte = printable(byte);
                if !self.line(speaker).is_some_and(|line| line.add(byte)) {
                    self.print_line(speaker, sink);
                    if let Some(line) = self.line(speaker) {
                        line.add(byte);
                    }
                }
            }
        }
    }

    fn print_line(&mut self, speaker: Speaker, sink: &mut impl FnMut(u8)) {
        let Some(line) = self.line(speaker) else { return };
        let line = core::mem::replace(line, Line::EMPTY);
        if speaker == Speaker::Secure {
            match self.limit.judge(self.now_ms) {
                Verdict::Drop => return,
                Verdict::Print { dropped: 0 } => {}
                Verdict::Print { dropped } => self.tell_dropped(dropped, sink),
            }
        }
        self.print(speaker, line.text(), sink);
    }

    fn tell_dropped(&mut self, dropped: u64, sink: &mut impl FnMut(u8)) {
        let mut text = Line::EMPTY;
        // It is shorter than a line, and would only be cut.
        let _ = write!(text, "{dropped} line(s) of the secure domain were left out");
        self.print(Speaker::Hypervisor, text.text(), sink);
    }

    fn print(&mut self, speaker: Speaker, text: &[u8], sink: &mut impl FnMut(u8)) {
        let open: &[u8] = if self.mid_line { b"\r\n" } else { b"" };
        for part in [open, speaker.prefix(), text, b"\r\n"] {
            for &byte in part {
                self.emit(byte, sink);
            }
        }
    }

    fn emit(&mut self, byte: u8, sink: &mut impl FnMut(u8)) {
        self.mid_line = byte != b'\n';
        sink(byte);
    }

    fn line(&mut self, speaker: Speaker) -> Option<&mut Line> {
        match speaker {
            Speaker::General => None,
            Speaker::Secure => Some(&mut self.secure),
            Speaker::Hypervisor => Some(&mut self.hypervisor),
        }
    }
}

/// Length of each prefix without its blank.
const PREFIX_BYTES: usize = 8;

/// What goes behind a prefix that the general domain has written itself.
const FORGED: &[u8] = b" (general domain)";

/// A byte that cannot move the cursor or forge another speaker's line.
fn printable(byte: u8) -> u8 {
    match byte {
        b'\t' => b' ',
        0x20..=0x7e => byte,
        _ => b'?',
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn say(mux: &mut Mux, speaker: Speaker, text: &str) -> String {
        let mut out = Vec::new();
        mux.push(speaker, text.as_bytes(), &mut |byte| out.push(byte));
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn the_general_domain_cannot_pass_for_another_speaker() {
        let said = |text: &[u8]| {
            let (mut mux, mut out) = (Mux::new(), std::vec::Vec::new());
            mux.push(Speaker::General, text, &mut |byte| out.push(byte));
            std::string::String::from_utf8(out).unwrap()
        };
        assert_eq!(said(b"[haechi] off\r\n"), "[haechi] (general domain) off\r\n");
        assert_eq!(said(b"ok\n[secure] fine\n"), "ok\n[secure] (general domain) fine\n");
        assert_eq!(said(b"ok\r[secure]"), "ok\r[secure] (general domain)");
        assert_eq!(said(b"[    0.0] [haechi] is quoted"), "[    0.0] [haechi] is quoted");
        assert_eq!(said(b"[haecho] [hsechi] "), "[haecho] [hsechi] ");
    }

    #[test]
    fn control_bytes_of_the_secure_domain_do_not_reach_the_terminal() {
        let text = say(&mut Mux::new(), Speaker::Secure, "a\x1b[2J\x07\tb\r\n");
        assert_eq!(text, "[secure] a?[2J? b\r\n");
    }

    #[test]
    fn a_line_without_end_is_broken_at_its_bound() {
        let text = say(&mut Mux::new(), Speaker::Secure, &"x".repeat(LINE_BYTES * 2 + 1));
        let line = std::format!("[secure] {}\r\n", "x".repeat(LINE_BYTES));
        assert_eq!(text, line.repeat(2));
    }

    #[test]
    fn a_line_is_printed_whole_and_the_general_domains_line_goes_on_after_it() {
        let mut mux = Mux::new();
        assert_eq!(say(&mut mux, Speaker::General, "login: "), "login: ");
        assert_eq!(say(&mut mux, Speaker::Hypervisor, "core 1 "), "");
        assert_eq!(say(&mut mux, Speaker::Secure, "ready\n"), "\r\n[secure] ready\r\n");
        assert_eq!(say(&mut mux, Speaker::Hypervisor, "is up\n"), "[haechi] core 1 is up\r\n");
        assert_eq!(say(&mut mux, Speaker::General, "root"), "root");
    }

    #[test]
    fn the_general_domain_cannot_fill_the_log_with_the_complaints_of_the_secure_one() {
        let mut mux = Mux::new();
        let complaints = "malformed ring\n".repeat(10_000);
        let said = say(&mut mux, Speaker::Secure, &complaints);
        assert_eq!(said.lines().count(), crate::BURST as usize);
        assert_eq!(mux.dropped(), 10_000 - u64::from(crate::BURST));
        mux.set_time(crate::INTERVAL_MS);
        let told = "[haechi] 9936 line(s) of the secure domain were left out\r\n[secure] at last\r\n";
        assert_eq!(say(&mut mux, Speaker::Secure, "at last\n"), told);
        assert_eq!(mux.dropped(), 0);
    }

    #[test]
    fn the_hypervisor_is_never_silenced() {
        let said = say(&mut Mux::new(), Speaker::Hypervisor, &"line\n".repeat(1000));
        assert_eq!(said.lines().count(), 1000);
    }

    #[test]
    fn flush_prints_an_unfinished_line_once() {
        let mut mux = Mux::new();
        assert_eq!(say(&mut mux, Speaker::Hypervisor, "panic"), "");
        let mut out = Vec::new();
        mux.flush(Speaker::Hypervisor, &mut |byte| out.push(byte));
        mux.flush(Speaker::Hypervisor, &mut |byte| out.push(byte));
        mux.flush(Speaker::General, &mut |byte| out.push(byte));
        assert_eq!(out, b"[haechi] panic\r\n");
    }

    proptest! {
        #[test]
        fn general_bytes_pass_unchanged_whatever_the_others_say(
            pieces in proptest::collection::vec((0..3u8, proptest::collection::vec(any::<u8>(), 0..20)), 0..40),
        ) {
            let mut mux = Mux::new();
            let mut other_length = 0;
            for (speaker, bytes) in pieces {
                let speaker = [Speaker::General, Speaker::Secure, Speaker::Hypervisor][usize::from(speaker)];
                let mut out = Vec::new();
                mux.push(speaker, &bytes, &mut |byte| out.push(byte));
                if speaker == Speaker::General {
                    prop_assert_eq!(&out, &bytes);
                } else {
                    other_length += bytes.len();
                    prop_assert!(out.iter().all(|byte| matches!(byte, 0x20..=0x7e | b'\r' | b'\n')));
                    prop_assert!(out.is_empty() || out.ends_with(b"\r\n"));
                }
            }
            let mut rest = 0;
            mux.flush(Speaker::Secure, &mut |_| rest += 1);
            prop_assert!(rest <= other_length.min(LINE_BYTES) + 13);
        }
    }
}

//! Frames that come from an RPMB device, or from whoever sits on the way to it.

use anchor::rpmb::{FRAME_BYTES, Fields, Frame, FrameLink, NONCE_BYTES, RpmbAnchor, kind};
use anchor::{Error, MonotonicStore, Record};
use crypto::host;

const KEY: [u8; 32] = [7; 32];

/// A link that answers each question with the next step of the input: some answers are right but for one thing, some are
/// authentic, some are noise. It runs dry.
struct Liar<'a> {
    steps: core::slice::Iter<'a, [u8; 8]>,
    asked: Fields,
}

impl Liar<'_> {
    /// Eight bytes of input: what to change in the right answer, and values for that.
    fn answer(&self, [what, value, result, data, .., last]: [u8; 8]) -> Frame {
        let asked = &self.asked;
        let bit = |bit: u8| u16::from(what >> bit & 1);
        let fields = Fields {
            data: [data; 256],
            nonce: if what & 1 == 0 { asked.nonce } else { [value; NONCE_BYTES] },
            write_counter: asked.write_counter + u32::from(value) % 3,
            address: asked.address ^ (bit(1) & u16::from(value)),
            block_count: 1,
            result: bit(2) * u16::from(result),
            kind: kind::response(asked.kind) ^ (bit(3) * u16::from(value)),
        };
        let frame = fields.frame();
        if what & 0x10 == 0 {
            return frame.signed(&host::mac_key(&KEY)).expect("the module serves");
        }
        let mut bytes = frame.0;
        bytes[usize::from(last) * 2 % FRAME_BYTES] ^= value;
        Frame(bytes)
    }
}

impl FrameLink for Liar<'_> {
    fn start(&mut self, requests: &[Frame]) -> Result<(), Error> {
        self.asked = requests[0].fields();
        Ok(())
    }

    fn poll(&mut self) -> Option<Result<Frame, Error>> {
        let step = self.steps.next().copied();
        Some(step.map(|step| self.answer(step)).ok_or(Error::Silent))
    }

    fn wait(&mut self) -> bool {
        false
    }
}

/// The input is a raw frame, as much of it as there is, and answers of eight bytes.
pub fn run(data: &[u8]) {
    let mut raw = Frame([0; FRAME_BYTES]);
    let len = data.len().min(FRAME_BYTES);
    raw.0[..len].copy_from_slice(&data[..len]);
    assert_eq!(raw.fields().frame().0[228..], raw.0[228..], "a frame says what its fields say");

    let mut nonce = 0u128;
    let nonces = || {
        nonce += 1;
        nonce.to_le_bytes()
    };
    let (steps, _) = data.as_chunks();
    let link = Liar { steps: steps.iter(), asked: Fields::new(0) };
    let mut anchor = RpmbAnchor::new(link, host::mac_key(&KEY), 0, nonces).expect("blocks 0 and 1 are addresses");
    for _ in steps {
        let Ok(snapshot) = anchor.read() else { continue };
        // The data of these answers is one byte again and again: no record but the one of a blank device.
        assert_eq!((snapshot.counter, snapshot.record), (0, Record::EMPTY));
        let record = Record::new(&[1, 2, 3]).expect("three bytes are few enough");
        assert_eq!(anchor.start(0, &record), Ok(()));
        let end = anchor.poll().expect("every answer is there at once");
        assert!(end.is_err(), "no answer brings the block that was written");
        assert_eq!(anchor.start(1, &record), Err(Error::Unread));
    }
}

//! A simulated RPMB device and the way to it, for tests: it loses answers, loses power, lies and repeats itself.

use alloc::{boxed::Box, collections::BTreeMap, vec, vec::Vec};

use crypto::{host, module::MacKey};

use super::frame::{BLOCK_BYTES, FRAME_BYTES, Fields, Frame, kind, result};
use super::{Error, FrameLink};

/// What goes wrong in an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The device did what it was asked, and its answer is lost.
    LostAnswer,
    /// Power fails before the device acts. The link stays dead until [`Device::power_on`].
    CutBefore,
    /// Power fails after the device has acted.
    CutAfter,
    /// Power fails while the block is written: half of it is new. The standard promises better.
    Torn,
    /// The request is withheld; [`Device::release`] hands it over later.
    Withheld,
    /// A bit of the answer's MAC is flipped.
    WrongMac,
    /// The answer of an earlier exchange comes again: the one so many exchanges ago.
    Replayed(usize),
    /// The answer is noise.
    Garbage,
    /// The device reports that it failed, and did nothing.
    Failed,
}

/// An RPMB device.
#[derive(Clone)]
pub struct Device {
    key: Option<[u8; 32]>,
    /// Its count of writes. Tests may change it.
    pub writes: u32,
    /// Its blocks. Tests may change them, as no adversary could.
    pub blocks: Vec<[u8; BLOCK_BYTES]>,
    register: Fields,
    answer: Option<Result<Frame, Error>>,
    history: Vec<Frame>,
    withheld: Vec<Frame>,
    powered: bool,
    /// Exchanges that were started.
    pub exchanges: usize,
    /// What goes wrong in which exchange.
    pub faults: BTreeMap<usize, Fault>,
    /// Calls of `poll` and `wait` until an answer is there.
    pub delay: usize,
    waiting: usize,
}

impl Device {
    /// A device without a key, with `blocks` blocks of zeros.
    pub fn new(blocks: usize) -> Device {
        Device {
            key: None,
            writes: 0,
            blocks: vec![[0; BLOCK_BYTES]; blocks],
            register: Fields::new(0),
            answer: None,
            history: Vec::new(),
            withheld: Vec::new(),
            powered: true,
            exchanges: 0,
            faults: BTreeMap::new(),
            delay: 0,
            waiting: 0,
        }
    }

    /// Lets the exchange after `later` others go wrong.
    pub fn fault(&mut self, later: usize, fault: Fault) {
        self.faults.insert(self.exchanges + later, fault);
    }

    /// Power is back, and all faults are over.
    pub fn power_on(&mut self) {
        self.powered = true;
        self.answer = None;
        self.register = Fields::new(0);
        self.faults.clear();
    }

    /// Hands over every request that was withheld, in order; nobody sees the answers.
    pub fn release(&mut self) {
        for frame in core::mem::take(&mut self.withheld) {
            self.serve(&frame);
        }
    }

    /// Does what one frame asks; the answer, unless it waits in the result register.
    fn serve(&mut self, request: &Frame) -> Option<Frame> {
        let fields = request.fields();
        let answer = match fields.kind {
            kind::PROGRAM_KEY => {
                self.register = self.program(request);
                return None;
            }
            kind::WRITE => {
                self.register = self.write(request, &fields);
                return None;
            }
            kind::READ_RESULT => self.register.clone(),
            kind::READ_COUNTER => {
                Fields { nonce: fields.nonce, write_counter: self.writes, ..self.reply(kind::READ_COUNTER, result::OK) }
            }
            kind::READ => self.read(&fields),
            other => self.reply(other & 0xff, result::GENERAL),
        };
        Some(self.sign(answer))
    }

    fn program(&mut self, request: &Frame) -> Fields {
        if self.key.is_some() {
            return self.reply(kind::PROGRAM_KEY, result::WRITE);
        }
        self.key = Some(request.mac());
        self.reply(kind::PROGRAM_KEY, result::OK)
    }

    fn write(&mut self, request: &Frame, fields: &Fields) -> Fields {
        let reply = |device: &Self, code| Fields {
            address: fields.address,
            write_counter: device.writes,
            ..device.reply(kind::WRITE, code)
        };
        let Some(key) = self.mac_key() else { return reply(self, result::NO_KEY) };
        if self.writes == u32::MAX {
            return reply(self, result::WRITE);
        }
        if usize::from(fields.address) >= self.blocks.len() || fields.block_count != 1 {
            return reply(self, result::ADDRESS);
        }
        if request.verify(&key).is_err() {
            return reply(self, result::AUTHENTICATION);
        }
        if fields.write_counter != self.writes {
            return reply(self, result::COUNTER);
        }
        self.blocks[usize::from(fields.address)] = fields.data;
        self.writes += 1;
        reply(self, result::OK)
    }

    fn read(&self, fields: &Fields) -> Fields {
        let reply = self.reply(kind::READ, result::OK);
        match self.blocks.get(usize::from(fields.address)) {
            _ if self.key.is_none() => reply,
            Some(data) => Fields { data: *data, nonce: fields.nonce, address: fields.address, block_count: 1, ..reply },
            None => Fields { nonce: fields.nonce, result: result::ADDRESS, ..reply },
        }
    }

    fn reply(&self, request: u16, code: u16) -> Fields {
        let code = if self.key.is_none() && request != kind::PROGRAM_KEY { result::NO_KEY } else { code };
        let expired = if self.writes == u32::MAX { result::EXPIRED } else { 0 };
        Fields { result: code | expired, ..Fields::new(kind::response(request)) }
    }

    fn mac_key(&self) -> Option<MacKey> {
        self.key.map(|key| host::mac_key(&key))
    }

    fn sign(&self, answer: Fields) -> Frame {
        match self.mac_key() {
            Some(key) => answer.frame().signed(&key).expect("the module of the process serves"),
            None => answer.frame(),
        }
    }

    /// The write in `requests` is torn: the first half of its block is new.
    fn tear(&mut self, requests: &[Frame]) {
        for fields in requests.iter().map(Frame::fields).filter(|fields| fields.kind == kind::WRITE) {
            let half = BLOCK_BYTES / 2;
            self.blocks[usize::from(fields.address)][..half].copy_from_slice(&fields.data[..half]);
            self.writes += 1;
        }
    }

    fn serve_all(&mut self, requests: &[Frame]) -> Result<Frame, Error> {
        let answers = requests.iter().filter_map(|request| self.serve(request));
        answers.collect::<Vec<_>>().pop().ok_or(Error::Silent)
    }

    fn honest(&mut self, requests: &[Frame]) -> Result<Frame, Error> {
        let answer = self.serve_all(requests);
        self.history.extend(answer.clone());
        answer
    }

    fn faulty(&mut self, requests: &[Frame], fault: Fault) -> Result<Frame, Error> {
        match fault {
            Fault::LostAnswer => {
                let _lost = self.honest(requests);
                Err(Error::Silent)
            }
            Fault::CutBefore => self.lose_power(),
            Fault::CutAfter => {
                let _lost = self.honest(requests);
                self.lose_power()
            }
            Fault::Torn => {
                self.tear(requests);
                self.lose_power()
            }
            Fault::Withheld => {
                self.withheld.extend_from_slice(requests);
                Err(Error::Silent)
            }
            Fault::WrongMac => self.honest(requests).map(|mut frame| {
                frame.0[200] ^= 1;
                frame
            }),
            Fault::Replayed(ago) => {
                let _hidden = self.honest(requests);
                let index = self.history.len().checked_sub(1 + ago);
                index.and_then(|index| self.history.get(index).cloned()).ok_or(Error::Silent)
            }
            Fault::Garbage => {
                let _hidden = self.honest(requests);
                Ok(Frame(core::array::from_fn::<_, FRAME_BYTES, _>(|index| (index * 7 + self.exchanges) as u8)))
            }
            Fault::Failed => {
                let kind = requests.first().map_or(0, |frame| frame.fields().kind);
                let nonce = requests.last().map_or([0; 16], |frame| frame.fields().nonce);
                Ok(self.sign(Fields { nonce, ..self.reply(kind, result::GENERAL) }))
            }
        }
    }

    fn lose_power(&mut self) -> Result<Frame, Error> {
        self.powered = false;
        Err(Error::Silent)
    }
}

impl FrameLink for Device {
    fn start(&mut self, requests: &[Frame]) -> Result<(), Error> {
        let fault = self.faults.remove(&self.exchanges);
        self.exchanges += 1;
        self.waiting = self.delay;
        self.answer = Some(match fault {
            _ if !self.powered => Err(Error::Silent),
            Some(fault) => self.faulty(requests, fault),
            None => self.honest(requests),
        });
        Ok(())
    }

    fn poll(&mut self) -> Option<Result<Frame, Error>> {
        if self.waiting > 0 {
            self.waiting -= 1;
            return None;
        }
        self.answer.take()
    }

    fn wait(&mut self) -> bool {
        self.answer.is_some()
    }
}

/// Nonces for tests: each is another, from `seed` on.
pub fn nonces(seed: u64) -> Box<dyn FnMut() -> [u8; 16]> {
    let mut next = u128::from(seed) << 64;
    Box::new(move || {
        next += 1;
        next.to_le_bytes()
    })
}

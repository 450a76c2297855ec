//! A bank of parallel NOR flash: two 16-bit chips side by side, 32 bits wide, with Intel's command set.
//!
//! A chip answers reads with its array, its status or a table about itself, as the last command says; both chips get each command
//! at once. Commands and status: Intel StrataFlash data sheets (command set 0x0001); the table: JEDEC JESD68.01 (CFI). QEMU's
//! model (`hw/block/pflash_cfi01.c`) differs in places: it erases at the first of the two erase commands, clears the ready bit
//! when the error bits are cleared, and programs what it is given without regard to what was there. This driver relies on none
//! of it.

use block::Registers;

use crate::Error;

/// The same command for both chips.
const fn both(command: u16) -> u32 {
    (command as u32) << 16 | command as u32
}

const READ_ARRAY: u32 = both(0xff);
const READ_QUERY: u32 = both(0x98);
const CLEAR_STATUS: u32 = both(0x50);
const WORD_PROGRAM: u32 = both(0x40);
const BUFFERED_PROGRAM: u32 = both(0xe8);
const BLOCK_ERASE: u32 = both(0x20);
const CONFIRM: u32 = both(0xd0);

/// Status: the chip is ready for the next command.
const READY: u32 = both(1 << 7);
/// Status: erasure failed, programming failed, no programming voltage, or the block is locked.
const FAILED: u32 = both(1 << 5 | 1 << 4 | 1 << 3 | 1 << 1);

/// Where the query command goes, and the fields of the table, in words of the chip.
mod query {
    pub(super) const COMMAND: usize = 0x55;
    pub(super) const SIGNATURE: usize = 0x10;
    pub(super) const COMMAND_SET: usize = 0x13;
    pub(super) const BUFFER_SIZE: usize = 0x2a;
    pub(super) const REGIONS: usize = 0x2c;
    pub(super) const REGION_BLOCKS: usize = 0x2d;
    pub(super) const REGION_BLOCK_SIZE: usize = 0x2f;
}

/// What is written to chips of which nobody knows what they wait for: as a command it is [`READ_ARRAY`], as a confirmation it is
/// wrong, and as data it leaves every bit as it is.
const NOTHING: u32 = !0;
/// Chips that wait for the words of a buffered program may have been told to wait for 2^16 of them.
const PENDING_LOG2: u32 = 17;

/// How often a chip is asked whether its write buffer is free. With nothing under way it is.
const BUFFER_PATIENCE: usize = 1000;

/// What the flash says about itself; for both chips together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a sector, the unit of erasure: a power of two.
    pub sector_bytes: usize,
    /// Number of sectors.
    pub sectors: usize,
    /// Words of the write buffer, a power of two; 1 if there is none.
    pub buffer_words: usize,
}

/// The flash bank.
pub struct Nor<R> {
    registers: R,
    geometry: Geometry,
    /// Where the operation under way takes place.
    busy: usize,
}

impl<R: Registers> Nor<R> {
    /// Asks the bank what it is. `blank` is the offset in bytes of a word that holds ones, or need not hold anything: a driver
    /// that died between the two halves of a command has left chips that take the next word for the other half.
    ///
    /// # Errors
    /// [`Error::NoDevice`] if it is no flash as described above with sectors of one size.
    pub fn probe(mut registers: R, blank: usize) -> Result<Nor<R>, Error> {
        let geometry = (0..=PENDING_LOG2).find_map(|log2| {
            (0..1 << log2).for_each(|_| registers.write(blank, NOTHING));
            registers.write(query::COMMAND * 4, READ_QUERY);
            geometry(&registers)
        });
        registers.write(blank, CLEAR_STATUS);
        registers.write(blank, READ_ARRAY);
        Ok(Nor { registers, geometry: geometry.ok_or(Error::NoDevice)?, busy: 0 })
    }

    /// What it is.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The bank's registers.
    pub fn registers(&mut self) -> &mut R {
        &mut self.registers
    }

    /// The word at `offset` bytes. Only while no operation is under way.
    pub fn word(&self, offset: usize) -> u32 {
        self.registers.read(offset)
    }

    /// How many words are programmed together from `word` on, where `words` are to be: the first and the last alone, those
    /// between in runs that do not cross a buffer.
    pub fn run(&self, word: usize, words: usize) -> usize {
        if word == 0 || word + 1 >= words {
            return 1;
        }
        let buffer = self.geometry.buffer_words;
        (buffer - word % buffer).min(words - 1 - word)
    }

    /// Starts erasing a sector.
    ///
    /// # Errors
    /// [`Error::NoDevice`] if there is no such sector.
    pub fn erase(&mut self, sector: usize) -> Result<(), Error> {
        if sector >= self.geometry.sectors {
            return Err(Error::NoDevice);
        }
        self.busy = sector * self.geometry.sector_bytes;
        self.registers.write(self.busy, BLOCK_ERASE);
        self.registers.write(self.busy, CONFIRM);
        Ok(())
    }

    /// Starts programming `words` at `offset` bytes: they lie in one buffer (see [`run`](Self::run)). Bits go from one to zero.
    ///
    /// # Errors
    /// [`Error::Device`] if a chip has no room in its buffer.
    pub fn program(&mut self, offset: usize, words: &[u32]) -> Result<(), Error> {
        self.busy = offset;
        if let [word] = words {
            self.registers.write(offset, WORD_PROGRAM);
            self.registers.write(offset, *word);
            return Ok(());
        }
        self.registers.write(offset, BUFFERED_PROGRAM);
        let free = (0..BUFFER_PATIENCE).any(|_| self.registers.read(offset) & READY == READY);
        if !free {
            self.registers.write(offset, READ_ARRAY);
            return Err(Error::Device);
        }
        // A buffer has at most 2^16 words: `geometry` sees to it.
        self.registers.write(offset, both((words.len() - 1) as u16));
        for (index, word) in words.iter().enumerate() {
            self.registers.write(offset + index * 4, *word);
        }
        self.registers.write(offset, CONFIRM);
        Ok(())
    }

    /// Whether the operation under way has finished, and how; then the array can be read again.
    ///
    /// # Errors
    /// [`Error::Device`] if a chip reports a failure.
    pub fn finished(&mut self) -> Option<Result<(), Error>> {
        let status = self.registers.read(self.busy);
        if status & READY != READY {
            return None;
        }
        let failed = status & FAILED != 0;
        if failed {
            self.registers.write(self.busy, CLEAR_STATUS);
        }
        self.registers.write(self.busy, READ_ARRAY);
        Some(if failed { Err(Error::Device) } else { Ok(()) })
    }
}

/// The table, while the chips show it.
fn geometry(registers: &impl Registers) -> Option<Geometry> {
    // Both chips must say the same, in the lower byte of their half.
    let byte = |index: usize| {
        let word = registers.read(index * 4);
        (word & 0xffff == word >> 16 && word & 0xff00 == 0).then_some((word & 0xff) as usize)
    };
    let pair = |index: usize| Some(byte(index)? | byte(index + 1)? << 8);
    let signature = [byte(query::SIGNATURE)?, byte(query::SIGNATURE + 1)?, byte(query::SIGNATURE + 2)?];
    let chip_sector = pair(query::REGION_BLOCK_SIZE)? * 256;
    let buffer_log2 = pair(query::BUFFER_SIZE)?;
    let known = signature == [b'Q' as usize, b'R' as usize, b'Y' as usize]
        && pair(query::COMMAND_SET)? == 1
        && byte(query::REGIONS)? == 1
        && chip_sector.is_power_of_two()
        && buffer_log2 <= 16;
    if !known {
        return None;
    }
    Some(Geometry {
        sector_bytes: chip_sector * 2,
        sectors: pair(query::REGION_BLOCKS)? + 1,
        // A chip's buffer of 2^n bytes is 2^(n - 1) of its words.
        buffer_words: if buffer_log2 == 0 { 1 } else { (1 << buffer_log2) / 2 },
    })
}

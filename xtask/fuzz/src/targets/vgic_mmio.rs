//! A hostile guest at the virtual GIC: any access to any frame, any SGI, any deactivation, on any vCPU. The physical GIC under it
//! must only ever hear of interrupts that are the guest's.

use vgic::{
    Change, Config, Frame, HCR_EOICOUNT_SHIFT, Kicks, ListRegister, ListRegisters, Messages, Physical, Read, Source,
    Version, Vgic,
};

const CPUS: usize = 3;
const HARDWARE: [u32; 4] = [27, 30, 33, 70];
const SOFTWARE: [u32; 4] = [23, 40, 41, 95];

/// The list registers of one core, and the physical GIC.
struct Core {
    registers: Vec<ListRegister>,
    hcr: u32,
}

impl ListRegisters for Core {
    fn count(&self) -> usize {
        self.registers.len()
    }

    fn read(&self, index: usize) -> ListRegister {
        self.registers[index]
    }

    fn write(&mut self, index: usize, value: ListRegister) {
        let intid = value.intid();
        let owned = HARDWARE.contains(&intid) || (!value.is_hardware() && (intid < 16 || SOFTWARE.contains(&intid)));
        assert!(value == ListRegister::EMPTY || owned, "INTID {intid} is not the guest's");
        assert!(!(value.is_hardware() && value.is_pending() && value.is_active()), "reserved state");
        self.registers[index] = value;
    }

    fn empty(&self) -> u32 {
        let used = |it: &ListRegister| it.is_pending() || it.is_active() || it.has_eoi();
        self.registers.iter().enumerate().filter(|(_, it)| !used(it)).fold(0, |all, (at, _)| all | 1 << at)
    }

    fn hcr(&self) -> u32 {
        self.hcr
    }

    fn set_hcr(&mut self, value: u32) {
        self.hcr = value;
    }
}

impl Physical for Core {
    fn apply(&mut self, cpu: usize, intid: u32, change: Change) {
        assert!(cpu < CPUS && HARDWARE.contains(&intid), "{change:?} of INTID {intid}, which is not the guest's");
        assert!(!matches!(change, Change::Route(target) if target >= CPUS));
    }

    fn pending(&mut self, cpu: usize, word: usize) -> u32 {
        u32::from(cpu < CPUS && word < 32).wrapping_neg()
    }

    fn active(&mut self, cpu: usize, word: usize) -> u32 {
        self.pending(cpu, word)
    }
}

impl Core {
    /// The guest acknowledges what list register `at` holds, or ends it.
    fn guest(&mut self, at: usize, acknowledge: bool) {
        let at = at % self.registers.len();
        let value = self.registers[at];
        if acknowledge && value.is_pending() && !value.is_active() {
            self.registers[at] = value.with_state(false, true);
        } else if !acknowledge && value.is_active() {
            self.registers[at] = value.with_state(value.is_pending(), false);
        } else if !acknowledge {
            self.hcr = self.hcr.wrapping_add(1 << HCR_EOICOUNT_SHIFT);
        }
    }
}

/// The first byte chooses the machine; then sixteen bytes a step: what, vCPU, frame, width, offset (4), value (8).
pub fn run(data: &[u8]) {
    let Some((&shape, steps)) = data.split_first() else { return };
    let version = if shape & 1 == 0 { Version::V3 } else { Version::V2 };
    let affinities = [0, 1, 0x1_0000_0100, 0, 0, 0, 0, 0];
    let messages = Some(Messages { first: 40, count: 2 });
    let vgic = Vgic::new(Config { version, cpus: CPUS, affinities, spis: 64, messages });
    HARDWARE.iter().for_each(|intid| assert!(vgic.assign(*intid, Source::Hardware)));
    SOFTWARE.iter().for_each(|intid| assert!(vgic.assign(*intid, Source::Virtual)));
    let count = usize::from(shape >> 1) % 16 + 1;
    let mut cores: Vec<Core> =
        (0..CPUS).map(|_| Core { registers: vec![ListRegister::EMPTY; count], hcr: 0 }).collect();
    for (cpu, core) in cores.iter_mut().enumerate() {
        let _ = vgic.cpu_on(cpu, core);
    }
    for step in steps.chunks_exact(16) {
        let cpu = usize::from(step[1]) % CPUS;
        let kicks = one(&vgic, cpu, &mut cores[cpu], step);
        assert_eq!(kicks.0 >> CPUS, 0, "a vCPU that does not exist was kicked");
        assert_eq!(kicks.0 >> cpu & 1, 0, "a core kicked itself");
    }
}

fn one(vgic: &Vgic, cpu: usize, core: &mut Core, step: &[u8]) -> Kicks {
    let frame = match step[2] % 8 {
        3 | 7 => Frame::Distributor,
        5 => Frame::Messages,
        _ => Frame::Redistributor(usize::from(step[2])),
    };
    let size = [1, 2, 4, 8][usize::from(step[3]) % 4];
    let offset = u64::from(u32::from_le_bytes([step[4], step[5], step[6], step[7]]) & 0x1_FFFF);
    let value = u64::from_le_bytes([step[8], step[9], step[10], step[11], step[12], step[13], step[14], step[15]]);
    let intid = HARDWARE.into_iter().chain(SOFTWARE).nth(value as usize % 8).unwrap_or(0);
    match step[0] % 16 {
        0 => vgic.sgi1r(cpu, value, core),
        1 => vgic.sgi0r(cpu, value, core),
        2 => vgic.dir(cpu, value, core),
        3 => vgic.sync(cpu, core),
        4 => vgic.maintenance(cpu, core),
        5 => vgic.set_level(cpu, intid, step[4] & 1 != 0, core),
        6 => vgic.physical_interrupt(cpu, value as u32 & 0x3FF, core).unwrap_or_default(),
        7 => vgic.cpu_off(cpu, core),
        8 => vgic.cpu_on(cpu, core),
        9 => {
            core.guest(value as usize, step[4] & 1 != 0);
            Kicks::NONE
        }
        10 => vgic.raise_edge(cpu, value as u32, core),
        11 | 12 => match vgic.mmio_read(cpu, frame, offset, size, core) {
            Read::Value(value) => {
                assert!(size == 8 || value >> (8 * size) == 0, "a value wider than the access");
                Kicks::NONE
            }
            Read::Again(kicks) => kicks,
        },
        13 => vgic.message(cpu, frame, offset & 0xFF, value as u32 & 0x7F, core).unwrap_or_default(),
        _ => vgic.mmio_write(cpu, frame, offset, size, value, core),
    }
}

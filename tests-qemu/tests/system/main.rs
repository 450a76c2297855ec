//! The system tests: `./x test`, or one of them with `./x test NAME`; with `--window` those that want a kernel of their own.
mod anchor;
mod boots;
mod console;
mod cores;
mod disk;
mod door;
mod exclusive;
mod hostile;
mod integrity;
mod isolation;
mod nvme;
mod pci;
mod pcie;
mod pool;
mod power;
mod power_cuts;
mod refusals;
mod reset;
mod restart;
mod secrecy;
mod window;

use std::process::ExitCode;

use tests_qemu::runner::{self, Filter};

fn main() -> ExitCode {
    let (flags, words): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|word| word.starts_with('-'));
    // The long ones first, so that the two workers end together.
    let groups = [
        power_cuts::groups(),
        hostile::groups(),
        isolation::groups(),
        cores::groups(),
        reset::groups(),
        restart::groups(),
        exclusive::groups(),
        disk::groups(),
        pci::groups(),
        pool::groups(),
        pcie::groups(),
        nvme::groups(),
        integrity::groups(),
        power::groups(),
        secrecy::groups(),
        boots::groups(),
        anchor::groups(),
        console::groups(),
        refusals::groups(),
        door::groups(),
    ];
    let mut groups = groups.into_iter().flatten().collect::<Vec<_>>();
    if flags.iter().any(|flag| flag == "--window") {
        groups = window::groups();
    }
    if flags.iter().any(|flag| flag == "--list") {
        runner::names(&groups).iter().for_each(|name| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    match runner::run(groups, &Filter::new(words)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("system tests: {error:#}");
            ExitCode::FAILURE
        }
    }
}

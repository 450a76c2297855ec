//! `./x build`: the firmware as flat images.
use anyhow::Result;

use crate::{board, firmware, paths};

/// What can be asked of `./x build`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Board: a name in board-configs/boards, or a file
    #[arg(long, value_name = "NAME|FILE")]
    board: Option<String>,
}

/// Builds hypervisor, secure domain and probe.
///
/// # Errors
/// What cargo says.
pub fn run(arguments: &Arguments) -> Result<()> {
    let (board, _) = board::find(arguments.board.as_deref())?;
    let made = firmware::build(&board)?;
    for image in [made.hypervisor, made.secure_domain, firmware::build_probe(&board)?] {
        println!("{} {} bytes", paths::shown(&image), std::fs::metadata(&image)?.len());
    }
    Ok(())
}

//! Board files: found by name or path, read by `board-configs`.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use board_configs::Board;

/// The board taken when none is named.
pub const DEFAULT: &str = "qemu-virt";

/// The absolute path of a board file, given as a name in `board-configs/boards` or as a file, and what it says. Without
/// a name, the environment's `BOARD`, else [`DEFAULT`].
///
/// # Errors
/// When there is no such board, which lists those there are; when the file is wrong.
pub fn find(board: Option<&str>) -> Result<(PathBuf, Board)> {
    let from_environment = std::env::var("BOARD").ok();
    let board = board.map(str::to_owned).or(from_environment).unwrap_or_else(|| DEFAULT.to_owned());
    let file = match Path::new(&board) {
        file if board.contains('/') || file.is_file() => file.to_owned(),
        _ => board_configs::directory().join(format!("{board}.toml")),
    };
    let read = board_configs::load(&file)?;
    Ok((fs::canonicalize(&file)?, read))
}

#[cfg(test)]
mod tests {
    #[test]
    fn unknown_board_lists_the_boards_there_are() {
        let error = super::find(Some("no-such-board")).unwrap_err().to_string();
        assert!(error.contains("no-such-board") && error.contains("qemu-virt"), "{error}");
    }
}

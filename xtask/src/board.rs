//! Board files: found by name or path.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::paths;

/// The board taken when none is named.
pub const DEFAULT: &str = "qemu-virt";

/// The absolute path of a board file, given as a name in `board-configs/boards` or as a file. Without either, the
/// environment's `BOARD`, else [`DEFAULT`].
///
/// # Errors
/// When there is no such board; the sentence lists those there are.
pub fn find(board: Option<&str>) -> Result<PathBuf> {
    let from_environment = std::env::var("BOARD").ok();
    let board = board.map(str::to_owned).or(from_environment).unwrap_or_else(|| DEFAULT.to_owned());
    let boards = paths::workspace().join("board-configs/boards");
    let named = boards.join(format!("{board}.toml"));
    if !board.contains('/') && named.is_file() {
        return Ok(named);
    }
    let file = Path::new(&board);
    if file.is_file() {
        return Ok(fs::canonicalize(file)?);
    }
    bail!("there is no board `{board}`; give a board file or one of: {}", names(&boards).join(", "))
}

fn names(boards: &Path) -> Vec<String> {
    let files = fs::read_dir(boards).into_iter().flatten().flatten();
    let files = files.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "toml"));
    let mut names: Vec<_> = files.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    #[test]
    fn unknown_board_lists_the_boards_there_are() {
        let error = super::find(Some("no-such-board")).unwrap_err().to_string();
        assert!(error.starts_with("there is no board `no-such-board`"), "{error}");
    }
}

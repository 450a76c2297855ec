//! Reading a board file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{Board, Error, Transport, check::check};

/// Where the project's board files are.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("boards")
}

/// The project's board of this name.
///
/// # Errors
/// See [`load`].
pub fn named(name: &str) -> Result<Board, Error> {
    load(&directory().join(format!("{name}.toml")))
}

/// Reads and checks the board file at `path`.
///
/// # Errors
/// No such file, or one that is no board file or says what cannot be.
pub fn load(path: &Path) -> Result<Board, Error> {
    let text = fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::Missing { path: path.into(), available: boards_beside(path) },
        _ => Error::Unreadable { path: path.into(), reason: error.to_string() },
    })?;
    parse(path, &text)
}

/// As [`load`], with another transport of the virtual devices than the file says, if one is named.
///
/// # Errors
/// See [`load`]; no such transport, or one for which the file says no place.
pub fn load_with(path: &Path, transport: Option<&str>) -> Result<Board, Error> {
    let mut board = load(path)?;
    let Some(name) = transport else { return Ok(board) };
    let refused = |message| Error::Content { path: path.into(), message };
    let named =
        Transport::named(name).ok_or_else(|| refused(format!("there is no transport `{name}`: mmio or pci")))?;
    board.channel.transport = named;
    check(&board.name, &board).map_err(refused)?;
    Ok(board)
}

/// Checks `text`, the contents of the board file at `path`.
///
/// # Errors
/// A text that is no board file or says what cannot be.
pub fn parse(path: &Path, text: &str) -> Result<Board, Error> {
    let board: Board = toml::from_str(text).map_err(|error| Error::Form {
        path: path.into(),
        line: error.span().map_or(0, |span| line_of(text, span.start)),
        message: error.message().lines().collect::<Vec<_>>().join("; "),
    })?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    check(&stem, &board).map_err(|message| Error::Content { path: path.into(), message })?;
    Ok(board)
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

fn boards_beside(path: &Path) -> Vec<String> {
    let entries = path.parent().and_then(|directory| fs::read_dir(directory).ok()).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|it| it == "toml"));
    let mut names: Vec<String> =
        files.filter_map(|path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned())).collect();
    names.sort();
    names
}

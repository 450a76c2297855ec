//! Why a board file is refused.

use std::{fmt, path::PathBuf};

/// Why a board file is refused; each displays as one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no such file.
    Missing {
        /// The file.
        path: PathBuf,
        /// Names of the boards that are there.
        available: Vec<String>,
    },
    /// The file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The file does not have the form of a board file.
    Form {
        /// The file.
        path: PathBuf,
        /// Line, from 1; 0 where the whole file is meant.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The file says what cannot be.
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Missing { path, available } if available.is_empty() => {
                write!(f, "there is no board file {}", path.display())
            }
            Error::Missing { path, available } => {
                write!(f, "there is no board file {}; boards there: {}", path.display(), available.join(", "))
            }
            Error::Unreadable { path, reason } => write!(f, "cannot read board file {}: {reason}", path.display()),
            Error::Form { path, line: 0, message } => write!(f, "board file {}: {message}", path.display()),
            Error::Form { path, line, message } => write!(f, "board file {}, line {line}: {message}", path.display()),
            Error::Content { path, message } => write!(f, "board file {}: {message}", path.display()),
        }
    }
}

impl std::error::Error for Error {}

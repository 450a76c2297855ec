//! Why a machine's device tree is refused.

use alloc::string::String;
use core::fmt;

use dtoolkit::error::FdtParseError;

use crate::{MAX_DEPTH, MAX_TREE_BYTES};

/// Why a device tree is refused; each displays as a sentence about the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Less than the header says.
    Truncated {
        /// Bytes that are there.
        has: usize,
        /// Bytes that must be there.
        needs: usize,
    },
    /// The first bytes are not those of a flattened device tree.
    Magic(u32),
    /// More than [`MAX_TREE_BYTES`].
    TooLarge {
        /// Bytes that the header states.
        size: usize,
    },
    /// The flattened format is broken.
    Format(FdtParseError),
    /// Nodes inside nodes, more than [`MAX_DEPTH`] deep.
    TooDeep {
        /// Path of the node.
        node: String,
    },
    /// There is no such node.
    NoNode {
        /// What was looked for.
        what: String,
    },
    /// A node lacks a property.
    NoProperty {
        /// Path of the node.
        node: String,
        /// Name of the property.
        property: &'static str,
    },
    /// A property does not say what it should.
    Property {
        /// Path of the node.
        node: String,
        /// Name of the property.
        property: &'static str,
        /// What is wrong, as the end of a sentence.
        wrong: &'static str,
    },
    /// More of something than this hypervisor takes.
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many it takes.
        limit: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Truncated { has, needs } => {
                write!(f, "the device tree is cut short: it has {has} bytes and needs {needs}")
            }
            Error::Magic(found) => write!(f, "this is no device tree: it begins with {found:#010x}, not 0xd00dfeed"),
            Error::TooLarge { size } => {
                write!(f, "the device tree has {size} bytes; more than {MAX_TREE_BYTES} are not allowed")
            }
            Error::Format(error) => write!(f, "the device tree is damaged: {error}"),
            Error::TooDeep { node } => {
                write!(f, "node {node} of the device tree lies more than {MAX_DEPTH} levels deep")
            }
            Error::NoNode { what } => write!(f, "the device tree has no {what}"),
            Error::NoProperty { node, property } => write!(f, "node {node} of the device tree has no '{property}'"),
            Error::Property { node, property, wrong } => {
                write!(f, "'{property}' of node {node} of the device tree {wrong}")
            }
            Error::TooMany { what, limit } => write!(f, "the device tree names more than {limit} {what}"),
        }
    }
}

impl core::error::Error for Error {}

impl From<FdtParseError> for Error {
    fn from(error: FdtParseError) -> Self {
        Error::Format(error)
    }
}

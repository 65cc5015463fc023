//! What rows of the maps may be.

use alloc::string::String;
use alloc::vec::Vec;

/// A row of a map that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {row} of the {map}: {fault}")]
pub struct MapError {
    /// `URL map` or `SSL map`.
    pub map: &'static str,
    /// The row's number; the first is 1.
    pub row: usize,
    /// What is wrong with it.
    pub fault: RowFault,
}

/// What is wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowFault {
    /// The name is not one that a client can ask for.
    #[error("`{0}` is not a host name: write it without scheme, port and path")]
    Host(String),
    /// The path is not one that a request's path can begin with.
    #[error(
        "`{0}` is not a path: it must begin with `/`, and be as clients send it: without `?`, `#` and spaces, in ASCII"
    )]
    Path(String),
    /// Nothing could be selected.
    #[error("it names no server")]
    NoServers,
    /// Another row says where the same goes.
    #[error("it is for the same as row {0}: write their servers in one")]
    Duplicate(usize),
}

/// One row's servers, and its number.
#[derive(Clone, Debug)]
pub(crate) struct Entry<S> {
    pub(crate) row: usize,
    pub(crate) servers: Vec<S>,
}

impl<S> Entry<S> {
    pub(crate) fn new(row: usize, servers: Vec<S>) -> Result<Entry<S>, RowFault> {
        match servers.is_empty() {
            true => Err(RowFault::NoServers),
            false => Ok(Entry { row, servers }),
        }
    }
}

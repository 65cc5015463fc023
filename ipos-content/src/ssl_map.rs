//! Which servers a TLS server name belongs to (FIG. 12).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map;
use alloc::string::String;
use alloc::vec::Vec;

use crate::map::Entry;
use crate::{HostName, MapError, RowFault};

/// A row of the SSL map as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SslRow<S> {
    /// The server name; `*.` in front stands for exactly one label.
    pub sni: String,
    /// Its servers.
    pub servers: Vec<S>,
}

/// The SSL map: TLS server name to servers.
///
/// A name itself counts before the wildcard that it falls under. `*.a.example` is for `b.a.example`, neither for
/// `a.example` nor for `c.b.a.example`, as in certificates (RFC 9525 §6.3).
#[derive(Clone, Debug)]
pub struct SslMap<S> {
    names: BTreeMap<Box<str>, Entry<S>>,
    /// By what follows the `*.`.
    wildcards: BTreeMap<Box<str>, Entry<S>>,
}

impl<S> SslMap<S> {
    /// Takes the rows, in any order.
    ///
    /// # Errors
    /// The first row that has no servers, is not for a host name, or is for the same as another.
    pub fn new(rows: impl IntoIterator<Item = SslRow<S>>) -> Result<SslMap<S>, MapError> {
        let mut map = SslMap {
            names: BTreeMap::new(),
            wildcards: BTreeMap::new(),
        };
        for (row, number) in rows.into_iter().zip(1..) {
            map.insert(row, number).map_err(|fault| MapError {
                map: "SSL map",
                row: number,
                fault,
            })?;
        }
        Ok(map)
    }

    /// The servers for a ClientHello with this name. Nothing is allocated.
    pub fn get(&self, server_name: &HostName) -> Option<&[S]> {
        let name = server_name.as_str();
        let wildcard = || self.wildcards.get(name.split_once('.')?.1);
        let entry = self.names.get(name).or_else(wildcard)?;
        Some(&entry.servers)
    }

    /// Whether there are no rows: ClientHellos need not be read for it.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.wildcards.is_empty()
    }

    fn insert(&mut self, row: SslRow<S>, number: usize) -> Result<(), RowFault> {
        let entry = Entry::new(number, row.servers)?;
        let (rows, name) = match row.sni.strip_prefix("*.") {
            Some(parent) => (&mut self.wildcards, parent),
            None => (&mut self.names, &*row.sni),
        };
        let host = HostName::new(name.as_bytes()).ok_or_else(|| RowFault::Host(row.sni.clone()))?;
        match rows.entry(Box::from(host.as_str())) {
            btree_map::Entry::Occupied(same) => Err(RowFault::Duplicate(same.get().row)),
            btree_map::Entry::Vacant(free) => {
                free.insert(entry);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;

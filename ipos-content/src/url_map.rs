//! Which servers a host and a path belong to (FIG. 12).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::iter;

use crate::map::Entry;
use crate::{HostName, MapError, RowFault};

/// A row of the URL map as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlRow<S> {
    /// The host; `None`: any, and requests without a host.
    pub host: Option<String>,
    /// What the path begins with; `None`: any path, and requests without one.
    pub path: Option<String>,
    /// Its servers.
    pub servers: Vec<S>,
}

/// The URL map: host and path prefix to servers.
///
/// * Rows for the request's host are looked at before those for any host. If none of them has the path, those for any
///   host count.
/// * Of these the longest prefix counts. It must end where a segment does: `/img` has `/img` and `/img/a`, not
///   `/imgs`; `/img/` has `/img/a` and not `/img`.
/// * Paths are compared byte by byte, as they are sent: `/IMG`, `/%69mg` and `/./img` do not begin with `/img`, and
///   `/img/../a` does. A map says where requests go, it does not keep them from anything: an application that must
///   not be reached has no place on a server of the map.
#[derive(Clone, Debug)]
pub struct UrlMap<S> {
    hosts: BTreeMap<Box<str>, Prefixes<S>>,
    any_host: Prefixes<S>,
}

/// The rows of one host, in the order of their prefixes.
#[derive(Clone, Debug)]
struct Prefixes<S>(Vec<Prefix<S>>);

#[derive(Clone, Debug)]
struct Prefix<S> {
    path: Box<str>,
    /// The longest of the others that this one begins with.
    outer: Option<usize>,
    entry: Entry<S>,
}

impl<S> UrlMap<S> {
    /// Takes the rows, in any order.
    ///
    /// # Errors
    /// The first row that has no servers, is not for a host name or a path, or is for the same as another.
    pub fn new(rows: impl IntoIterator<Item = UrlRow<S>>) -> Result<UrlMap<S>, MapError> {
        let mut map = UrlMap {
            hosts: BTreeMap::new(),
            any_host: Prefixes(Vec::new()),
        };
        for (row, number) in rows.into_iter().zip(1..) {
            map.insert(row, number).map_err(|fault| MapError {
                map: "URL map",
                row: number,
                fault,
            })?;
        }
        map.hosts.values_mut().for_each(Prefixes::nest);
        map.any_host.nest();
        Ok(map)
    }

    /// The servers for a request to `host` with `path`, as they are in a [`Request`](crate::Request). Nothing is
    /// allocated.
    pub fn get(&self, host: Option<&HostName>, path: &[u8]) -> Option<&[S]> {
        let of_host = host.and_then(|host| self.hosts.get(host.as_str()));
        let mut prefixes = of_host.into_iter().chain([&self.any_host]);
        prefixes.find_map(|prefixes| prefixes.get(path))
    }

    /// Whether there are no rows: requests need not be read for it.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.any_host.0.is_empty()
    }

    fn insert(&mut self, row: UrlRow<S>, number: usize) -> Result<(), RowFault> {
        let entry = Entry::new(number, row.servers)?;
        let path = row.path.map(path).transpose()?.unwrap_or_default();
        let prefixes = match row.host {
            Some(host) => {
                let name = HostName::new(host.as_bytes()).ok_or(RowFault::Host(host))?;
                let prefixes = self.hosts.entry(Box::from(name.as_str()));
                prefixes.or_insert(Prefixes(Vec::new()))
            }
            None => &mut self.any_host,
        };
        prefixes.insert(path, entry)
    }
}

impl<S> Prefixes<S> {
    fn insert(&mut self, path: Box<str>, entry: Entry<S>) -> Result<(), RowFault> {
        match self.0.binary_search_by(|prefix| prefix.path.cmp(&path)) {
            Ok(at) => Err(RowFault::Duplicate(self.0[at].entry.row)),
            Err(at) => {
                let outer = None;
                self.0.insert(at, Prefix { path, outer, entry });
                Ok(())
            }
        }
    }

    /// Finds each one's outer one: what it begins with is in order just before it, or outer to that.
    fn nest(&mut self) {
        for at in 0..self.0.len() {
            let (before, rest) = self.0.split_at_mut(at);
            let Some(inner) = rest.first_mut() else { break };
            let last = before.len().checked_sub(1);
            let mut outer = iter::successors(last, |&at| before.get(at)?.outer);
            inner.outer = outer.find(|&at| {
                before
                    .get(at)
                    .is_some_and(|outer| inner.path.starts_with(&*outer.path))
            });
        }
    }

    /// All that `path` begins with are in order before it, the last of them outer to what is just before it.
    fn get(&self, path: &[u8]) -> Option<&[S]> {
        let before = self
            .0
            .partition_point(|prefix| prefix.path.as_bytes() <= path);
        let last = self.0.get(before.checked_sub(1)?);
        let mut outer = iter::successors(last, |inner| self.0.get(inner.outer?));
        let longest = outer.find(|prefix| prefix.has(path))?;
        Some(&longest.entry.servers)
    }
}

impl<S> Prefix<S> {
    /// Whether `path` begins with this one, up to the end of a segment.
    fn has(&self, path: &[u8]) -> bool {
        let rest = path.strip_prefix(self.path.as_bytes());
        rest.is_some_and(|rest| self.path.ends_with('/') || matches!(rest, [] | [b'/', ..]))
    }
}

fn path(path: String) -> Result<Box<str>, RowFault> {
    let is_sent = |byte| matches!(byte, b'!'..=b'~') && !matches!(byte, b'?' | b'#');
    match path.starts_with('/') && path.bytes().all(is_sent) {
        true => Ok(path.into()),
        false => Err(RowFault::Path(path)),
    }
}

#[cfg(test)]
mod tests;

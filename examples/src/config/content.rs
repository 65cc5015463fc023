//! The sections that say what requests are selected by: maps, sessions.

use std::time::Duration;

use ipos_content::{MapError, RowFault, SslMap, SslRow, UrlMap, UrlRow};
use ipos_core::config::{Content, Session};
use ipos_http::{CookieError, SameSite, SetCookie};
use serde::Deserialize;

use super::Fault;
use super::check::{Checked, check_name, ensure};

/// The cookie's name where the file has none.
const COOKIE: &str = "IPOSSESSION";
/// The longest lifetime of a session, in seconds: a year.
const LIFETIME: u64 = 365 * 24 * 3600;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UrlMapSection {
    pub(super) host: Option<String>,
    pub(super) path: Option<String>,
    pub(super) servers: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SslMapSection {
    pub(super) sni: String,
    pub(super) servers: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SslSection {
    #[serde(default)]
    pub(super) affinity: bool,
}

/// The fields of [`Session`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionSection {
    pub(super) cookie: Option<String>,
    /// Empty: the cookie has none.
    pub(super) path: Option<String>,
    pub(super) http_only: Option<bool>,
    pub(super) same_site: Option<String>,
    pub(super) max_age_s: Option<u32>,
    pub(super) secure: Option<bool>,
    pub(super) lifetime_s: Option<u64>,
    pub(super) direct: Option<String>,
}

/// All of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct ContentSections<'a> {
    pub(super) url_map: &'a [UrlMapSection],
    pub(super) ssl_map: &'a [SslMapSection],
    pub(super) ssl: &'a SslSection,
    pub(super) session: Option<&'a SessionSection>,
}

impl<'a> ContentSections<'a> {
    /// Whether a device can use them.
    pub(super) fn check(self) -> Checked {
        UrlMap::new(self.url_rows()).map_err(|error| misplaced("url_map", error))?;
        SslMap::new(self.ssl_rows()).map_err(|error| misplaced("ssl_map", error))?;
        for (key, name) in self.servers() {
            check_name(&key, name)?;
        }
        self.session.map_or(Ok(()), SessionSection::check)
    }

    /// The servers that the maps name, each with its place.
    pub(super) fn servers(self) -> impl Iterator<Item = (String, &'a str)> {
        let url = self.url_map.iter().map(|row| &row.servers).enumerate();
        let ssl = self.ssl_map.iter().map(|row| &row.servers).enumerate();
        let maps = url
            .map(|row| ("url_map", row))
            .chain(ssl.map(|row| ("ssl_map", row)));
        maps.flat_map(|(map, (row, servers))| {
            let place = move |at| format!("{map}[{row}].servers[{at}]");
            let servers = servers.iter().enumerate();
            servers.map(move |(at, name)| (place(at), name.as_str()))
        })
    }

    /// What the device is told of them; `key` is that of the sessions' ids.
    pub(super) fn content(self, key: [u8; 32]) -> Content {
        Content {
            url_map: self.url_rows().collect(),
            ssl_map: self.ssl_rows().collect(),
            ssl_affinity: self.ssl.affinity,
            session: self.session.map(|session| session.session(key)),
        }
    }

    fn url_rows(self) -> impl Iterator<Item = UrlRow<String>> {
        self.url_map.iter().map(|row| UrlRow {
            host: row.host.clone(),
            path: row.path.clone(),
            servers: row.servers.clone(),
        })
    }

    fn ssl_rows(self) -> impl Iterator<Item = SslRow<String>> {
        self.ssl_map.iter().map(|row| SslRow {
            sni: row.sni.clone(),
            servers: row.servers.clone(),
        })
    }
}

/// The row of a map, and the key of it, that cannot be used. Rows are counted from 0, as in all keys.
fn misplaced(map: &str, error: MapError) -> Fault {
    let row = error.row.saturating_sub(1);
    let key = match error.fault {
        RowFault::Host(_) if map == "ssl_map" => ".sni",
        RowFault::Host(_) => ".host",
        RowFault::Path(_) => ".path",
        RowFault::NoServers => ".servers",
        RowFault::Duplicate(_) => "",
    };
    let key = format!("{map}[{row}]{key}");
    match error.fault {
        RowFault::Duplicate(other) => {
            let other = other.saturating_sub(1);
            let what = format_args!("{map}[{other}] is for the same: write their servers in one");
            Fault::new(key, what)
        }
        fault => Fault::new(key, fault),
    }
}

impl SessionSection {
    fn check(&self) -> Checked {
        self.same_site()?;
        if let Err(error) = self.cookie() {
            let key = match error {
                CookieError::Path => "session.path",
                CookieError::SameSite => "session.secure",
                _ => "session.cookie",
            };
            return Err(Fault::new(key, error));
        }
        ensure(
            self.max_age_s != Some(0),
            "session.max_age_s",
            "0 would remove the cookie at once: leave it out, and clients forget it when they are closed",
        )?;
        let lifetime = self
            .lifetime_s
            .is_none_or(|lifetime| (1..=LIFETIME).contains(&lifetime));
        ensure(
            lifetime,
            "session.lifetime_s",
            format_args!("1 to {LIFETIME} s are possible"),
        )
    }

    fn same_site(&self) -> Result<Option<SameSite>, Fault> {
        match self.same_site.as_deref() {
            None => Ok(None),
            Some("strict") => Ok(Some(SameSite::Strict)),
            Some("lax") => Ok(Some(SameSite::Lax)),
            Some("none") => Ok(Some(SameSite::None)),
            Some(other) => Err(Fault::new(
                "session.same_site",
                format_args!("unknown value `{other}`: `strict`, `lax` and `none` are possible"),
            )),
        }
    }

    /// A session's cookie, as the device will make it.
    fn cookie(&self) -> Result<SetCookie, CookieError> {
        let session = self.session([0; 32]);
        let mut cookie = SetCookie::builder(&session.cookie, "0");
        if let Some(path) = &session.path {
            cookie = cookie.path(path);
        }
        if let Some(same_site) = session.same_site {
            cookie = cookie.same_site(same_site);
        }
        if session.secure {
            cookie = cookie.secure();
        }
        cookie.build()
    }

    /// The defaults, with what the file sets.
    fn session(&self, key: [u8; 32]) -> Session {
        let default = Session::new(self.cookie.as_deref().unwrap_or(COOKIE), key);
        let path = match &self.path {
            None => default.path,
            Some(path) => Some(path.clone()).filter(|path| !path.is_empty()),
        };
        Session {
            path,
            max_age: self.max_age_s,
            // What else it may be was refused before.
            same_site: self.same_site().ok().flatten().or(default.same_site),
            http_only: self.http_only.unwrap_or(default.http_only),
            secure: self.secure.unwrap_or(default.secure),
            lifetime: self
                .lifetime_s
                .map_or(default.lifetime, Duration::from_secs),
            direct: self.direct.clone(),
            cookie: default.cookie,
            key,
        }
    }
}

#[cfg(test)]
mod tests;

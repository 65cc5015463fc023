//! What requests are selected by, and sessions.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use ipos_content::{SslRow, UrlRow};
use ipos_http::{CookieError, SameSite, SetCookie};

use super::ConfigError;
use crate::content::Rules;
use crate::time::Duration;

/// What the content of requests says of their servers (FIG. 12). Empty: it is not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// The URL map: names of servers by host and path.
    pub url_map: Vec<UrlRow<String>>,
    /// The SSL map: names of servers by TLS server name.
    pub ssl_map: Vec<SslRow<String>>,
    /// TLS clients that resume a session of TLS 1.2 or before go to the server that they had it with.
    pub ssl_affinity: bool,
    /// Sessions; `None`: no cookies.
    pub session: Option<Session>,
}

/// Sessions: the stack adds a cookie to the answers of plain HTTP/1.x applications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The cookie's name.
    pub cookie: String,
    /// Its Path.
    pub path: Option<String>,
    /// Its Max-Age, in seconds. Without it a client forgets the session when it is closed.
    pub max_age: Option<u32>,
    /// Its SameSite.
    pub same_site: Option<SameSite>,
    /// Scripts of the page do not see it.
    pub http_only: bool,
    /// It goes over TLS only: where TLS ends in front of the device.
    pub secure: bool,
    /// How long a session that nobody uses stays in the cookie map.
    pub lifetime: Duration,
    /// The second embodiment: answers of a connection that another server has opened get a field of this name with the
    /// address where this one is reached directly. `None`: they do not.
    pub direct: Option<String>,
    /// Where the ids of new sessions come from: secret, and another one at each start. One that was used before gives the ids of
    /// then once more, in a reload too.
    pub key: [u8; 32],
}

impl Session {
    /// A cookie that scripts do not see, for `/`, and a lifetime of half an hour.
    pub fn new(cookie: impl Into<String>, key: [u8; 32]) -> Session {
        Session {
            cookie: cookie.into(),
            path: Some("/".to_string()),
            max_age: None,
            same_site: Some(SameSite::Lax),
            http_only: true,
            secure: false,
            lifetime: Duration::from_secs(1800),
            direct: None,
            key,
        }
    }

    /// The cookie for a session.
    pub(crate) fn set_cookie(&self, id: &str) -> Result<SetCookie, CookieError> {
        let mut cookie = SetCookie::builder(&self.cookie, id);
        if let Some(path) = &self.path {
            cookie = cookie.path(path);
        }
        if let Some(seconds) = self.max_age {
            cookie = cookie.max_age(seconds);
        }
        if let Some(same_site) = self.same_site {
            cookie = cookie.same_site(same_site);
        }
        if self.http_only {
            cookie = cookie.http_only();
        }
        if self.secure {
            cookie = cookie.secure();
        }
        cookie.build()
    }
}

impl Content {
    /// Whether it can be used.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let refused = |field, problem: &dyn ToString| ConfigError {
            field,
            problem: problem.to_string().into(),
        };
        Rules::new(self).map_err(|error| refused(error.map, &error))?;
        let Some(session) = &self.session else {
            return Ok(());
        };
        let cookie = session.set_cookie("0");
        cookie.map_err(|error| refused("session.cookie", &error))?;
        let is_name = |name: &String| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            !name.is_empty() && name.bytes().all(plain)
        };
        if !session.direct.as_ref().is_none_or(is_name) {
            return Err(refused(
                "session.direct",
                &"must be a field's name: letters, digits, - and _",
            ));
        }
        if session.lifetime.is_zero() {
            return Err(refused("session.lifetime_s", &"must be at least 1"));
        }
        Ok(())
    }
}

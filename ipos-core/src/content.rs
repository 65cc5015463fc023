//! Content rules: which servers may get what a client asks for (FIG. 7, FIG. 12).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use arrayvec::ArrayVec;
use ipos_content::{
    Hello, Inspector, Kinds, MapError, REQUEST_MAX, Reading, Request, SslMap, SslRow, UrlMap,
    UrlRow,
};

use crate::config::Content;

/// Names of servers that may be selected alike.
pub(crate) type Servers = Arc<[Arc<str>]>;

/// Which servers a request wants: those of the cookie map, then those of the URL or SSL map. Where none of the first lives
/// the next count, and then any server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    lists: ArrayVec<Servers, 2>,
}

impl Wanted {
    /// One of these servers, whatever the request is.
    pub(crate) fn among(servers: Servers) -> Wanted {
        let mut wanted = Wanted::default();
        wanted.push(Some(servers));
        wanted
    }

    pub(crate) fn lists(&self) -> impl Iterator<Item = &Servers> {
        self.lists.iter()
    }

    fn push(&mut self, servers: Option<Servers>) {
        if let Some(servers) = servers {
            // There are no more rules than places.
            let _ = self.lists.try_push(servers);
        }
    }
}

/// The maps, as they are looked up.
#[derive(Debug)]
pub(crate) struct Rules {
    url: UrlMap<Servers>,
    ssl: SslMap<Servers>,
    /// The session cookie's name.
    cookie: Option<Arc<str>>,
    kinds: Kinds,
}

impl Rules {
    /// The rules of a configuration.
    ///
    /// # Errors
    /// A row of a map does not hold.
    pub(crate) fn new(content: &Content) -> Result<Rules, MapError> {
        let servers = |servers: &[alloc::string::String]| -> Vec<Servers> {
            let names: Vec<Arc<str>> = servers.iter().map(|name| name.as_str().into()).collect();
            match names.is_empty() {
                // The map refuses the row.
                true => Vec::new(),
                false => alloc::vec![names.into()],
            }
        };
        let url = UrlMap::new(content.url_map.iter().map(|row| UrlRow {
            host: row.host.clone(),
            path: row.path.clone(),
            servers: servers(&row.servers),
        }))?;
        let ssl = SslMap::new(content.ssl_map.iter().map(|row| SslRow {
            sni: row.sni.clone(),
            servers: servers(&row.servers),
        }))?;
        let cookie = content.session.as_ref();
        let cookie = cookie.map(|session| session.cookie.as_str().into());
        let mut kinds = Kinds::empty();
        let http = Kinds::HTTP1 | Kinds::HTTP2;
        kinds.set(http, !url.is_empty() || cookie.is_some());
        kinds.set(Kinds::TLS, !ssl.is_empty() || content.ssl_affinity);
        Ok(Rules {
            url,
            ssl,
            cookie,
            kinds,
        })
    }

    /// What reads a new connection's request; `None` where nothing depends on it.
    pub(crate) fn inspector(&self) -> Option<Box<Inspector>> {
        let inspector = || Box::new(Inspector::new(self.kinds, REQUEST_MAX));
        (!self.kinds.is_empty()).then(inspector)
    }

    /// Whether any rule looks at the content of a request.
    pub(crate) fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// The servers for what was read; `None`: that needs more bytes. `session` looks the cookie map up.
    pub(crate) fn wanted(
        &self,
        reading: Reading<'_>,
        session: impl Fn(&[u8]) -> Option<Arc<str>>,
    ) -> Option<Wanted> {
        match reading {
            Reading::More => None,
            Reading::Unknown => Some(Wanted::default()),
            Reading::Request(request) => Some(self.wanted_by_request(&request, session)),
            Reading::Tls(hello) => Some(self.wanted_by_hello(&hello, session)),
        }
    }

    fn wanted_by_request(
        &self,
        request: &Request<'_>,
        session: impl Fn(&[u8]) -> Option<Arc<str>>,
    ) -> Wanted {
        let mut wanted = Wanted::default();
        let cookie = self.cookie.as_deref().and_then(|name| request.cookie(name));
        wanted.push(cookie.and_then(session).map(only));
        let row = self.url.get(request.host.as_ref(), request.path);
        wanted.push(row.and_then(|row| row.first().cloned()));
        wanted
    }

    fn wanted_by_hello(
        &self,
        hello: &Hello<'_>,
        session: impl Fn(&[u8]) -> Option<Arc<str>>,
    ) -> Wanted {
        let mut wanted = Wanted::default();
        // A session id that is only random is not in the map.
        let ids = hello.affinity().into_iter().chain([hello.session_id]);
        let known = ids.filter(|id| !id.is_empty());
        let server = known.map(ssl_identifier).find_map(|id| session(&id));
        wanted.push(server.map(only));
        let row = (hello.server_name.as_ref()).and_then(|name| self.ssl.get(name));
        wanted.push(row.and_then(|row| row.first().cloned()));
        wanted
    }
}

fn only(server: Arc<str>) -> Servers {
    [server].into()
}

/// Where the cookie map has an SSL identifier: apart from the ids of sessions, which are hexadecimal.
const SSL: &[u8] = b"ssl:";

/// The cookie map's id for what a TLS client resumes by: a ticket may be longer than an id.
pub(crate) fn ssl_identifier(id: &[u8]) -> Box<[u8]> {
    use siphasher::sip128::SipHasher13;
    // All servers of a farm must agree. Who makes two ids alike sends both of its own clients to one server.
    let hash = SipHasher13::new().hash(id).as_bytes();
    [SSL, &hash].concat().into()
}

//! An HTTP request to its redirect.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddrV4};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, LOCATION,
    RETRY_AFTER,
};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode, Version};
use ipos_core::Instant;
use ipos_proto::Protocol;

use super::State;
use super::choice::Choice;
use super::config::Group;

/// When a client that no server could be named to may ask again, in seconds.
const RETRY: &str = "1";

/// Application groups (FIG. 2D), by host name.
pub(super) struct Groups {
    named: HashMap<String, Choice>,
    /// For all other hosts.
    others: Option<Choice>,
}

impl Groups {
    pub(super) fn new(groups: &[Group]) -> Groups {
        let mut named = HashMap::new();
        let mut others = None;
        for group in groups {
            let choice = Choice::new(&group.target);
            match &group.host {
                Some(host) => drop(named.insert(host.clone(), choice)),
                None => others = Some(choice),
            }
        }
        Groups { named, others }
    }

    fn of(&mut self, host: Option<&str>) -> Option<&mut Choice> {
        let named = host.and_then(|host| self.named.get_mut(host));
        named.or(self.others.as_mut())
    }
}

/// What a listener knows of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) client: IpAddr,
    /// The port that the client has connected to.
    pub(super) port: u16,
    /// `None`: 302, and 307 where a client must repeat more than a GET or HEAD.
    pub(super) status: Option<StatusCode>,
}

pub(super) type Answer = Response<Full<Bytes>>;

impl State {
    /// The answer to a request: a redirect to a server of its group.
    pub(super) fn redirect<B>(
        &mut self,
        now: Instant,
        asked: Asked,
        request: &Request<B>,
    ) -> Answer {
        let Asked {
            client,
            port,
            status,
        } = asked;
        if request.method() == Method::CONNECT {
            let mut answer = refusal(
                StatusCode::METHOD_NOT_ALLOWED,
                "CONNECT is not for this server",
            );
            set(
                &mut answer,
                ALLOW,
                "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
            );
            return answer;
        }
        let (Ok(host), Some(target)) = (host(request), target(request)) else {
            return refusal(
                StatusCode::BAD_REQUEST,
                "the request's host or target cannot be read",
            );
        };
        let State {
            servers,
            groups,
            rng,
            ..
        } = self;
        let Some(choice) = groups.of(host.as_deref()) else {
            return refusal(StatusCode::MISDIRECTED_REQUEST, "no group has this host");
        };
        let protocol = Some(Protocol::Tcp);
        let places = choice.choose(now, client, protocol, servers, rng);
        let server = places.first().and_then(|at| servers.get(*at));
        let addresses = server.map(|server| server.addresses(choice.wanted(protocol)));
        let Some(address) = addresses.and_then(|all| nearest(all, port)) else {
            let mut answer = refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "no server is there at the moment",
            );
            set(&mut answer, RETRY_AFTER, RETRY);
            return answer;
        };
        let location = match address.port() {
            80 => format!("http://{}{target}", address.ip()),
            _ => format!("http://{address}{target}"),
        };
        let Ok(value) = HeaderValue::from_bytes(location.as_bytes()) else {
            return refusal(
                StatusCode::BAD_REQUEST,
                "the request's target cannot be repeated",
            );
        };
        let simple = matches!(*request.method(), Method::GET | Method::HEAD);
        let usual = if simple {
            StatusCode::FOUND
        } else {
            StatusCode::TEMPORARY_REDIRECT
        };
        let mut answer = text(status.unwrap_or(usual), &location);
        answer.headers_mut().insert(LOCATION, value);
        set(&mut answer, CACHE_CONTROL, "no-store");
        answer
    }
}

/// The address with the port that the client has come to, or else the first.
fn nearest(addresses: impl Iterator<Item = SocketAddrV4>, port: u16) -> Option<SocketAddrV4> {
    let mut first = None;
    for address in addresses {
        if address.port() == port {
            return Some(address);
        }
        first = first.or(Some(address));
    }
    first
}

/// The host that a request is for, in lower case, without port and final dot (RFC 9112 §3.2.2, §3.3). Only HTTP/1.0 may have none.
fn host<B>(request: &Request<B>) -> Result<Option<String>, ()> {
    let mut values = request.headers().get_all(HOST).iter();
    let header = match (values.next(), values.next()) {
        (None, _) if request.version() <= Version::HTTP_10 => None,
        (Some(value), None) => Some(value),
        _ => return Err(()),
    };
    let plain = |authority: &Authority| {
        let host = authority.host().to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host).to_owned();
        Some(host).filter(|host| !host.is_empty())
    };
    if let Some(authority) = request.uri().authority() {
        return Ok(plain(authority));
    }
    match header {
        // Empty: the client knows no name (RFC 9112 §3.2).
        Some(value) if !value.is_empty() => {
            let authority = Authority::try_from(value.as_bytes()).map_err(|_| ())?;
            if authority.as_str().contains('@') {
                return Err(());
            }
            Ok(plain(&authority))
        }
        _ => Ok(None),
    }
}

/// What follows the authority in the redirect: path and query as they came; nothing for `*` (RFC 9112 §3.2.4).
fn target<B>(request: &Request<B>) -> Option<&str> {
    match request.uri().path_and_query()?.as_str() {
        "*" => Some(""),
        target => Some(target).filter(|target| target.starts_with('/')),
    }
}

/// An answer after which the connection ends.
fn refusal(status: StatusCode, why: &str) -> Answer {
    let mut answer = text(status, why);
    set(&mut answer, CONNECTION, "close");
    answer
}

fn text(status: StatusCode, line: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{line}\n"))));
    *answer.status_mut() = status;
    set(&mut answer, CONTENT_TYPE, "text/plain");
    answer
}

fn set(answer: &mut Answer, name: HeaderName, value: &'static str) {
    answer
        .headers_mut()
        .insert(name, HeaderValue::from_static(value));
}

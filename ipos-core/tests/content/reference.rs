//! Whatever is asked, the server is the one that a naive reading of the rules finds.

use std::collections::{BTreeMap, BTreeSet};

use ipos_content::UrlRow;
use proptest::prelude::*;

use super::common::Farm;
use super::common::talk::ms;
use super::{assert_received, drain, keep, kill, session, tell, url, with_sessions};

/// A request in words.
#[derive(Clone, Debug)]
struct Ask {
    host: Option<&'static str>,
    path: String,
    absolute: bool,
    /// The session that this server has begun; the last one is nobody's.
    cookie: Option<usize>,
    body: usize,
    cuts: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Plan {
    rows: BTreeMap<(Option<&'static str>, String), BTreeSet<usize>>,
    draining: usize,
    dead: usize,
    asks: Vec<Ask>,
}

const HOSTS: [&str; 2] = ["a.example", "b.example"];
/// The last one is not in the farm.
const NAMES: [&str; 5] = ["s1", "s2", "s3", "s4", "s5"];

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["/a", "/b", "/ab", "/"]), 1..4)
        .prop_map(|segments| segments.concat())
}

fn host() -> impl Strategy<Value = Option<&'static str>> {
    prop::option::of(prop::sample::select(HOSTS.to_vec()))
}

prop_compose! {
    fn an_ask()(
        host in host(),
        path in path(),
        absolute: bool,
        cookie in prop::option::weighted(0.3, 0..5_usize),
        body in 0..40_usize,
        cuts in prop::collection::vec(1..30_usize, 1..5),
    ) -> Ask {
        Ask { host, path, absolute, cookie, body, cuts }
    }
}

prop_compose! {
    fn plan()(
        rows in prop::collection::btree_map(
            (host(), path()),
            prop::collection::btree_set(0..5_usize, 1..4),
            0..6,
        ),
        draining in 1..8_usize,
        dead in 1..8_usize,
        asks in prop::collection::vec(an_ask(), 1..6),
    ) -> Plan {
        Plan { rows, draining, dead, asks }
    }
}

impl Ask {
    fn bytes(&self, ids: &[String]) -> Vec<u8> {
        let target = match self.host {
            Some(host) if self.absolute => format!("http://{host}{}?q", self.path),
            _ => self.path.clone(),
        };
        let mut request = format!("POST {target} HTTP/1.1\r\n");
        if let Some(host) = self.host {
            request += &format!("hOST:\t{}:80 \r\n", host.to_uppercase());
        }
        if let Some(cookie) = self.cookie {
            let unknown = "f".repeat(32);
            let id = ids.get(cookie).unwrap_or(&unknown);
            request += &format!("Cookie: x=\"1\"; id={id}; id={unknown}\r\n");
        }
        request += &format!("Content-Length: {}\r\n\r\n", self.body);
        [request.as_bytes(), &vec![b'x'; self.body]].concat()
    }
}

impl Plan {
    fn takes(&self, at: usize) -> bool {
        at < 4 && at != self.draining && at != self.dead
    }

    /// The servers that may get it, by the text of the rules.
    fn servers(&self, ask: &Ask, holders: &[Option<usize>; 5]) -> BTreeSet<usize> {
        if let Some(at) = ask.cookie.and_then(|cookie| holders[cookie])
            && self.takes(at)
        {
            return BTreeSet::from([at]);
        }
        let begins = |prefix: &str| {
            prefix == ask.path
                || ask.path.starts_with(prefix)
                    && (prefix.ends_with('/') || ask.path[prefix.len()..].starts_with('/'))
        };
        let of_host = |host: Option<&str>| {
            let rows = self.rows.iter();
            let rows = rows.filter(|((of, prefix), _)| *of == host && begins(prefix));
            rows.max_by_key(|((_, prefix), _)| prefix.len())
        };
        let row = (ask.host.is_some().then(|| of_host(ask.host)).flatten()).or(of_host(None));
        let named = row.map(|(_, servers)| servers.iter().copied().filter(|at| self.takes(*at)));
        let named: BTreeSet<usize> = named.into_iter().flatten().collect();
        // Then the first server, which is below its threshold.
        if named.is_empty() {
            BTreeSet::from([0])
        } else {
            named
        }
    }

    fn farm(&self) -> Farm {
        let rows = self.rows.iter().map(|((host, path), servers)| {
            let names: Vec<&str> = servers.iter().map(|at| NAMES[*at]).collect();
            url(*host, Some(path), &names)
        });
        let rows: Vec<UrlRow<String>> = rows.collect();
        Farm::with(4, |_, config| {
            keep(config);
            with_sessions(config);
            config.content.url_map = rows.clone();
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_server_is_the_one_of_a_naive_reference(plan in plan()) {
        let mut farm = plan.farm();
        // They adopt what they do not know from then on.
        farm.run(ms(3_000));
        let ids: Vec<String> = (0..4).map(|at| session(&mut farm, at)).collect();
        if plan.draining < 4 {
            drain(&mut farm, plan.draining, true);
        }
        if plan.dead < 4 {
            kill(&mut farm, plan.dead);
        }
        let mut holders = [Some(0), Some(1), Some(2), Some(3), None];
        for ask in &plan.asks {
            let expected = plan.servers(ask, &holders);
            let bytes = ask.bytes(&ids);
            let mut client = super::ask(&mut farm, []);
            let (mut rest, mut cuts) = (&bytes[..], ask.cuts.iter().cycle());
            while !rest.is_empty() {
                let len = cuts.next().map_or(1, |len| rest.len().min(*len));
                tell(&mut farm, &mut client, [&rest[..len]]);
                rest = &rest[len..];
            }
            let at = assert_received(&mut farm, &client, &bytes);
            prop_assert!(expected.contains(&at), "{} and not {:?}: {:?}", at, expected, ask);
            // Who serves a session that nobody has, has it.
            if let Some(cookie) = ask.cookie {
                let holder = holders[cookie].filter(|holder| plan.takes(*holder));
                holders[cookie] = holder.or(Some(at));
            }
            farm.run(ms(5));
        }
    }
}

//! Requests to redirects.

use hyper::header::{HOST, LOCATION, RETRY_AFTER};
use hyper::{Method, Request, StatusCode, Uri, Version};
use proptest::prelude::*;

use super::super::redirect::{Answer, Asked};
use super::*;

const SETTINGS: &str = r#"
synch.interface = "c0"
http = [{ listen = "10.77.0.5:80" }]

[[group]]
host = "WWW.FirstSite.com."
service = "first"

[[group]]
service = "web"
"#;

const ASKED: Asked = Asked {
    client: CLIENT,
    port: 80,
    status: None,
};

fn request(method: Method, target: &str, host: &str) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = target.parse().unwrap();
    request.headers_mut().insert(HOST, host.parse().unwrap());
    request
}

fn get(target: &str) -> Request<()> {
    request(Method::GET, target, "10.77.0.5")
}

fn location(answer: &Answer) -> &str {
    answer.headers()[LOCATION].to_str().unwrap()
}

fn ask(state: &mut State, request: &Request<()>) -> Answer {
    state.redirect(at(0), ASKED, request)
}

#[test]
fn servers_take_turns_and_the_target_stays() {
    let mut state = heard(SETTINGS, &mut [11, 12, 13].map(Voice::new));
    let targets = [
        "/",
        "/a/b?c=d&e=%20f",
        "//other/x",
        "/?",
        "*",
        "http://x/y?z",
        "/a#b",
    ];
    let expected = [
        "http://10.77.0.11/",
        "http://10.77.0.12/a/b?c=d&e=%20f",
        "http://10.77.0.13//other/x",
        "http://10.77.0.11/?",
        "http://10.77.0.12",
        "http://10.77.0.13/y?z",
        "http://10.77.0.11/a",
    ];
    for (target, expected) in targets.into_iter().zip(expected) {
        let answer = ask(&mut state, &get(target));
        assert_eq!(answer.status(), StatusCode::FOUND);
        assert_eq!(location(&answer), expected);
    }
}

#[test]
fn methods_with_a_body_are_repeated_unless_302_is_wanted() {
    let mut state = heard(SETTINGS, &mut [Voice::new(11)]);
    for (method, usual) in [
        (Method::GET, StatusCode::FOUND),
        (Method::HEAD, StatusCode::FOUND),
        (Method::POST, StatusCode::TEMPORARY_REDIRECT),
        (Method::PUT, StatusCode::TEMPORARY_REDIRECT),
        (Method::DELETE, StatusCode::TEMPORARY_REDIRECT),
    ] {
        let request = request(method, "/", "x");
        assert_eq!(ask(&mut state, &request).status(), usual);
        for status in [StatusCode::FOUND, StatusCode::TEMPORARY_REDIRECT] {
            let asked = Asked {
                status: Some(status),
                ..ASKED
            };
            assert_eq!(state.redirect(at(0), asked, &request).status(), status);
        }
    }
}

/// FIG. 2D: the host name decides on the group, whatever its case, port and final dot.
#[test]
fn groups() {
    let mut voices = [11, 12].map(Voice::new);
    voices[0].listen = vec![(8080, "first")];
    let mut state = heard(SETTINGS, &mut voices);
    for host in [
        "www.firstsite.com",
        "WWW.firstsite.COM:80",
        "www.firstsite.com.",
    ] {
        let answer = ask(&mut state, &request(Method::GET, "/", host));
        assert_eq!(location(&answer), "http://10.77.0.11:8080/");
    }
    // The request's target has the last word (RFC 9112 §3.2.2).
    let answer = ask(
        &mut state,
        &request(Method::GET, "http://www.firstsite.com/x", "other"),
    );
    assert_eq!(location(&answer), "http://10.77.0.11:8080/x");
    for host in ["firstsite.com", "", "10.77.0.5:80", "[::1]:80"] {
        let answer = ask(&mut state, &request(Method::GET, "/", host));
        assert_eq!(location(&answer), "http://10.77.0.12/", "{host}");
    }
    let only = SETTINGS.replace("[[group]]\nservice = \"web\"", "");
    let mut state = heard(&only, &mut [Voice::new(11)]);
    assert_eq!(
        ask(&mut state, &get("/")).status(),
        StatusCode::MISDIRECTED_REQUEST
    );
}

#[test]
fn requests_that_say_nothing_clear_are_refused() {
    let mut state = heard(SETTINGS, &mut [Voice::new(11)]);
    let mut without = get("/");
    without.headers_mut().clear();
    assert_eq!(ask(&mut state, &without).status(), StatusCode::BAD_REQUEST);
    *without.version_mut() = Version::HTTP_10;
    assert_eq!(ask(&mut state, &without).status(), StatusCode::FOUND);
    let mut twice = get("/");
    twice.headers_mut().append(HOST, "b".parse().unwrap());
    for bad in [
        twice,
        request(Method::GET, "/", "a b"),
        request(Method::GET, "/", "user@a"),
        get("user@host:80"),
        get("host:80"),
    ] {
        let answer = ask(&mut state, &bad);
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{bad:?}");
    }
    let tunnel = request(Method::CONNECT, "a:443", "a:443");
    assert_eq!(
        ask(&mut state, &tunnel).status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
}

#[test]
fn nobody_is_sent_to_the_dead() {
    let mut state = heard(SETTINGS, &mut [11, 12].map(Voice::new));
    let mut voice = Voice::new(12);
    voice.sequence = 2;
    let later = at(0) + SILENCE + Duration::from_millis(1);
    voice.speak(&mut state, later, 0);
    for _ in 0..4 {
        let answer = state.redirect(later, ASKED, &get("/"));
        assert_eq!(location(&answer), "http://10.77.0.12/");
    }
    let answer = state.redirect(later + SILENCE + SILENCE, ASKED, &get("/"));
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()[RETRY_AFTER], "1");
    assert!(!answer.headers().contains_key(LOCATION));
}

/// Of several sockets of one service, the one with the port that the client has come to.
#[test]
fn the_port_is_kept_where_it_can_be() {
    let mut voice = Voice::new(11);
    voice.listen = vec![(8080, "web"), (80, "web"), (81, "web")];
    let mut state = heard(SETTINGS, &mut [voice]);
    for (port, expected) in [(80, ""), (81, ":81"), (9, ":8080")] {
        let answer = state.redirect(at(0), Asked { port, ..ASKED }, &get("/"));
        assert_eq!(location(&answer), format!("http://10.77.0.11{expected}/"));
    }
}

/// Between two adverts the clients sent to a server count as its connections.
#[test]
fn clients_sent_count_until_the_next_advert() {
    let text = SETTINGS.replace(
        "service = \"web\"",
        "service = \"web\"\npolicy = \"least-connections\"",
    );
    let mut voices = [11, 12].map(Voice::new);
    let mut state = heard(&text, &mut voices);
    let [one, two] = &mut voices;
    one.speak(&mut state, at(1), 10);
    two.speak(&mut state, at(1), 14);
    let mut counts = [0; 2];
    for _ in 0..24 {
        let answer = state.redirect(at(1), ASKED, &get("/"));
        counts[usize::from(location(&answer) == "http://10.77.0.12/")] += 1;
    }
    assert_eq!(counts, [14, 10]);
    one.speak(&mut state, at(2), 0);
    assert_eq!(
        location(&state.redirect(at(2), ASKED, &get("/"))),
        "http://10.77.0.11/"
    );
}

/// The same client goes to the same server, and to another one only where that one is gone.
#[test]
fn maglev_goes_by_the_client() {
    let text = SETTINGS.replace(
        "service = \"web\"",
        "service = \"web\"\npolicy = \"maglev\"",
    );
    let mut state = heard(&text, &mut [11, 12, 13].map(Voice::new));
    let mut places = std::collections::HashSet::new();
    for last in 0..50 {
        let asked = Asked {
            client: Ipv4Addr::new(192, 0, 2, last).into(),
            ..ASKED
        };
        let mut ask = || location(&state.redirect(at(0), asked, &get("/"))).to_owned();
        let place = ask();
        assert_eq!(ask(), place);
        places.insert(place);
    }
    assert_eq!(places.len(), 3);
}

proptest! {
    /// Whatever a client asks for, it is never sent to anybody but a server of the group.
    #[test]
    fn any_target(target in "[ -~]{1,60}", slash in any::<bool>(), host in "[ -~]{0,20}") {
        let target = if slash { format!("/{target}") } else { target };
        let (Ok(uri), Ok(host)) = (target.parse::<Uri>(), host.parse()) else {
            return Ok(());
        };
        let mut request = get("/");
        *request.uri_mut() = uri;
        request.headers_mut().insert(HOST, host);
        let mut state = heard(SETTINGS, &mut [Voice::new(11)]);
        let answer = ask(&mut state, &request);
        match answer.status() {
            StatusCode::FOUND => {
                let to: Uri = location(&answer).parse().unwrap();
                prop_assert_eq!(to.host(), Some("10.77.0.11"));
                prop_assert_eq!(to.port(), None);
                prop_assert_eq!(to.scheme_str(), Some("http"));
            }
            status => {
                prop_assert_eq!(status, StatusCode::BAD_REQUEST);
                prop_assert!(!answer.headers().contains_key(LOCATION));
            }
        }
    }
}

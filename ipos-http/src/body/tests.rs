use super::*;
use crate::Connection;

fn request(version: Version, framing: Framing) -> RequestHead {
    RequestHead {
        method: Method::Other,
        version,
        connection: Connection::default(),
        framing,
        authenticates_connection: false,
    }
}

fn response(status: u16, framing: Framing) -> ResponseHead {
    ResponseHead {
        status,
        version: Version::Http11,
        connection: Connection::default(),
        framing,
    }
}

/// Whether the body is empty.
fn of(status: u16, framing: Framing, method: Method) -> Result<bool, Opaque> {
    let head = response(status, framing);
    Body::of_response(&head, method, Version::Http11).map(|body| body.is_complete())
}

#[test]
fn bodies_of_requests() {
    use Version::{Http10, Http11};
    let of = |version, framing| {
        Body::of_request(&request(version, framing)).map(|body| body.is_complete())
    };
    assert_eq!(of(Http11, Framing::Absent), Ok(true));
    assert_eq!(of(Http11, Framing::Length(0)), Ok(true));
    assert_eq!(of(Http10, Framing::Length(1)), Ok(false));
    assert_eq!(of(Http11, Framing::Chunked), Ok(false));
    assert_eq!(of(Http10, Framing::Chunked), Err(Opaque::Framing));
    assert_eq!(of(Http11, Framing::Doubtful), Err(Opaque::Framing));
}

#[test]
fn bodies_of_responses() {
    use Framing::{Absent, Chunked, Doubtful, Length};
    use Method::{Head, Other};
    for (status, framing, method, empty) in [
        (200, Length(0), Other, Ok(true)),
        (200, Length(9), Other, Ok(false)),
        (404, Chunked, Other, Ok(false)),
        (200, Absent, Other, Err(Opaque::Closes)),
        (200, Doubtful, Other, Err(Opaque::Framing)),
        (200, Length(9), Head, Ok(true)),
        (200, Chunked, Head, Ok(true)),
        (200, Absent, Head, Ok(true)),
        (200, Doubtful, Head, Err(Opaque::Framing)),
        (204, Absent, Other, Ok(true)),
        (204, Length(0), Other, Ok(true)),
        (204, Length(9), Other, Err(Opaque::Framing)),
        (204, Chunked, Other, Err(Opaque::Framing)),
        (304, Absent, Other, Ok(true)),
        (304, Length(9), Other, Ok(true)),
        (304, Chunked, Other, Ok(true)),
    ] {
        assert_eq!(of(status, framing, method), empty, "{status} {framing:?}");
    }
}

#[test]
fn http_1_0_has_no_chunks() {
    let mut head = response(200, Framing::Chunked);
    let body = |head: &ResponseHead, asked| Body::of_response(head, Method::Other, asked).err();
    assert_eq!(body(&head, Version::Http11), None);
    assert_eq!(body(&head, Version::Http10), Some(Opaque::Framing));
    head.version = Version::Http10;
    assert_eq!(body(&head, Version::Http11), Some(Opaque::Framing));
}

#[test]
fn a_length_is_counted_down() {
    let mut body = Body::of_request(&request(Version::Http11, Framing::Length(5))).unwrap();
    assert_eq!(body.take(b"abc"), Ok(&b""[..]));
    assert!(!body.is_complete());
    assert_eq!(body.take(b"defg"), Ok(&b"fg"[..]));
    assert!(body.is_complete());
    assert_eq!(body.take(b"fg"), Ok(&b"fg"[..]));
}

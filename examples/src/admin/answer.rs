//! Requests to the admin address, and their answers.

use std::fmt::Display;
use std::net::IpAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue, ORIGIN,
    RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode};
use ipos_core::{Flow, MigrateError};
use ipos_engine::{Control, DrainStatus, Operator};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::snapshot::{ROWS, ROWS_MAX, Snapshot, Wanted};
use super::{metrics, tables};

/// An answer, whole.
pub(super) type Answer = Response<Full<Bytes>>;

/// Longest body of a request, in bytes.
const BODY: usize = 4 * 1024;
/// How long a body may take, and how long the engine may take for its answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest deadline of a drain, in seconds: a week.
const DEADLINE: u64 = 7 * 24 * 3600;

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
/// The status page, and all that it consists of.
const PAGE: &str = include_str!("status.html");
/// The page asks this address, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                      connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// Why a request gets no other answer.
struct Problem {
    status: StatusCode,
    what: String,
}

impl Problem {
    fn new(status: StatusCode, what: impl Display) -> Problem {
        let what = what.to_string();
        Problem { status, what }
    }

    fn bad(what: impl Display) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, what)
    }
}

/// Whether an address of this host alone was asked for as such. A page of elsewhere whose name is made to lead here (DNS
/// rebinding) would read what is told to this host alone.
fn is_of_this_host(host: &HeaderValue) -> bool {
    let authority = Authority::try_from(host.as_bytes());
    authority.is_ok_and(|authority| {
        let name = authority.host();
        let literal = name.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost") || literal.parse::<IpAddr>().is_ok()
    })
}

/// Answers one request, to an address that is this host's alone, or not.
pub(super) async fn answer<B: Body<Error: Display>>(
    control: &Control,
    local: bool,
    request: Request<B>,
) -> Answer {
    let host = request.headers().get(HOST);
    if local && host.is_some_and(|host| !is_of_this_host(host)) {
        let what = json!({ "error": "this address is asked for by its number, or as localhost" });
        return json_answer(StatusCode::FORBIDDEN, &what);
    }
    match route(control, request).await {
        Ok(answer) => answer,
        Err(Problem { status, what }) => {
            let mut answer = json_answer(status, &json!({ "error": what }));
            if status == StatusCode::SERVICE_UNAVAILABLE {
                answer.headers_mut().insert(RETRY_AFTER, 1.into());
            }
            answer
        }
    }
}

async fn route<B: Body<Error: Display>>(
    control: &Control,
    request: Request<B>,
) -> Result<Answer, Problem> {
    let (head, body) = request.into_parts();
    let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
    // A HEAD is a GET whose answer is not sent.
    let method = match head.method {
        Method::HEAD => Method::GET,
        ref other => other.clone(),
    };
    let allowed = match path {
        "/" | "/metrics" | "/tables" | "/healthz" => "GET",
        "/drain" => "GET, POST",
        "/undrain" | "/migrate" => "POST",
        _ => {
            let what = format_args!(
                "there is no {path} here: /, /metrics, /tables, /healthz, /drain, /undrain and /migrate are"
            );
            return Err(Problem::new(StatusCode::NOT_FOUND, what));
        }
    };
    if !allowed.split(", ").any(|one| one == method.as_str()) {
        let what = json!({ "error": format!("{path} takes {allowed}") });
        let mut answer = json_answer(StatusCode::METHOD_NOT_ALLOWED, &what);
        let allow = HeaderValue::from_static(allowed);
        answer.headers_mut().insert(ALLOW, allow);
        return Ok(answer);
    }
    if path != "/tables" && !query.is_empty() {
        return Err(Problem::bad(format_args!("{path} takes no parameters")));
    }
    if method == Method::GET {
        return match path {
            "/" => Ok(finish(StatusCode::OK, HTML, PAGE)),
            "/metrics" => metrics(control).await,
            "/tables" => {
                let snapshot = snapshot(control, wanted(query)?).await?;
                Ok(json_answer(StatusCode::OK, &tables::tables(&snapshot)))
            }
            "/healthz" => {
                let snapshot = snapshot(control, Wanted::NO_ROWS).await?;
                Ok(json_answer(StatusCode::OK, &tables::health(&snapshot)))
            }
            _ => drain_answer(control, |operator| operator.drain_status()).await,
        };
    }
    // Programs send no Origin (RFC 6454 §7), browsers do for another page's script: no page is to operate a device.
    if head.headers.contains_key(ORIGIN) {
        let what = "a browser may look, and change nothing";
        return Err(Problem::new(StatusCode::FORBIDDEN, what));
    }
    let body = read(body).await?;
    match path {
        "/drain" => {
            let deadline = deadline(&body)?;
            drain_answer(control, move |operator| {
                operator.drain(deadline);
                operator.drain_status()
            })
            .await
        }
        "/undrain" => {
            drain_answer(control, |operator| {
                operator.undrain();
                operator.drain_status()
            })
            .await
        }
        _ => migrate(control, &body).await,
    }
}

/// Runs a command on the engine's thread.
async fn ask<T: Send + 'static>(
    control: &Control,
    command: impl FnOnce(&mut Operator<'_>) -> T + Send + 'static,
) -> Result<T, Problem> {
    let unavailable = |what: &dyn Display| Problem::new(StatusCode::SERVICE_UNAVAILABLE, what);
    let (answer, answered) = oneshot::channel();
    let run = move |operator: &mut Operator<'_>| {
        // Who asked may be gone.
        let _ = answer.send(command(operator));
    };
    control.run(run).map_err(|error| unavailable(&error))?;
    match timeout(PATIENCE, answered).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(unavailable(&"the device has ended")),
        Err(_) => Err(unavailable(&"the device does not answer")),
    }
}

async fn snapshot(control: &Control, wanted: Wanted) -> Result<Snapshot, Problem> {
    ask(control, move |operator| Snapshot::take(operator, &wanted)).await
}

async fn metrics(control: &Control) -> Result<Answer, Problem> {
    let snapshot = snapshot(control, Wanted::NO_ROWS).await?;
    let text = metrics::text(&snapshot);
    let text = text.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    Ok(finish(StatusCode::OK, metrics::TYPE, text))
}

/// What `/tables` is asked for.
fn wanted(query: &str) -> Result<Wanted, Problem> {
    let mut wanted = Wanted {
        rows: ROWS,
        ..Wanted::NO_ROWS
    };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let number = || value.parse::<usize>().ok();
        match &*name {
            "rows" => {
                let rows = number().filter(|rows| *rows <= ROWS_MAX);
                let what = format_args!("rows: {value} is not a number from 0 to {ROWS_MAX}");
                wanted.rows = rows.ok_or_else(|| Problem::bad(what))?;
            }
            "from" => {
                let what = format_args!("from: {value} is not what `next` of a table was");
                wanted.from = number().ok_or_else(|| Problem::bad(what))?;
            }
            "table" => wanted.table = Some(value.into_owned()),
            other => {
                let what = format_args!("{other}: unknown; rows, table and from are possible");
                return Err(Problem::bad(what));
            }
        }
    }
    if let Some(table) = &wanted.table
        && !tables::NAMES.contains(&table.as_str())
    {
        let what = format_args!(
            "table: there is no {table}: {} are",
            tables::NAMES.join(", ")
        );
        return Err(Problem::bad(what));
    }
    Ok(wanted)
}

async fn read<B: Body<Error: Display>>(body: B) -> Result<Vec<u8>, Problem> {
    let read = BodyExt::collect(Limited::new(body.map_err(|error| error.to_string()), BODY));
    let late = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body does not come");
    match timeout(PATIENCE, read).await.map_err(late)? {
        Ok(body) => Ok(body.to_bytes().into()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            let what = format_args!("a body has {BODY} bytes at most");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, what))
        }
        Err(error) => Err(Problem::bad(error)),
    }
}

/// The body of a request, as JSON.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8], example: &str) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::bad(format_args!("{error}: a body is {example}")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainBody {
    deadline_s: Option<u64>,
}

/// The deadline that the body of a drain sets, if it does.
fn deadline(body: &[u8]) -> Result<Option<Duration>, Problem> {
    if body.is_empty() {
        return Ok(None);
    }
    let DrainBody { deadline_s } = parse(body, r#"empty, or {"deadline_s": 30}"#)?;
    match deadline_s {
        Some(seconds) if seconds > DEADLINE => {
            let what = format_args!("deadline_s: 0 to {DEADLINE} are possible");
            Err(Problem::bad(what))
        }
        seconds => Ok(seconds.map(Duration::from_secs)),
    }
}

async fn drain_answer(
    control: &Control,
    command: impl FnOnce(&mut Operator<'_>) -> Option<DrainStatus> + Send + 'static,
) -> Result<Answer, Problem> {
    let status = ask(control, command).await?;
    Ok(json_answer(StatusCode::OK, &tables::drain(status)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MigrateBody {
    flow: String,
    to: String,
}

async fn migrate(control: &Control, body: &[u8]) -> Result<Answer, Problem> {
    let example = r#"{"flow": "tcp 192.0.2.1:40000 > 10.77.0.11:80", "to": "s3"}"#;
    let MigrateBody { flow, to } = parse(body, example)?;
    let flow: Flow = flow
        .parse()
        .map_err(|error| Problem::bad(format_args!("flow: {error}")))?;
    let told = json!({ "flow": flow.to_string(), "to": to });
    let refused = ask(control, {
        let to = to.clone();
        move |operator| operator.migrate(&flow, &to)
    });
    match refused.await? {
        // It moves at its next quiet point.
        Ok(()) => Ok(json_answer(StatusCode::ACCEPTED, &told)),
        Err(error) => {
            let (status, key) = match error {
                MigrateError::UnknownFlow => (StatusCode::NOT_FOUND, "flow"),
                MigrateError::UnknownServer => (StatusCode::NOT_FOUND, "to"),
                MigrateError::Datagrams => (StatusCode::CONFLICT, "flow"),
                _ => (StatusCode::CONFLICT, "to"),
            };
            let value = if key == "to" { to } else { flow.to_string() };
            let what = format_args!("{key}: {value}: {error}");
            Err(Problem::new(status, what))
        }
    }
}

fn json_answer(status: StatusCode, value: &Value) -> Answer {
    finish(status, JSON, format!("{value}\n"))
}

fn finish(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let value = hyper::header::HeaderValue::from_static;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, value(content_type));
    headers.insert(CACHE_CONTROL, value("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, value("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, value(POLICY));
    answer
}

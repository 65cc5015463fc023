//! Visits: one connection through each door, kept alive, and who has answered its requests.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::farm::{FarmError, Interrupt};

/// Every so many requests of a connection asks for it to move.
const MOVES: usize = 5;
/// Between two requests of a connection.
const PAUSE: Duration = Duration::from_millis(30);
/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of the visits: the object that `--json` prints.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Visits {
    /// Requests that were answered.
    pub requests: usize,
    /// Connections that have failed; each is the end of its visitor.
    pub errors: Vec<String>,
    /// How often a connection's next request was answered by another server.
    pub moves: usize,
    /// Requests answered, by server.
    pub answered: BTreeMap<String, usize>,
}

/// Makes `requests` requests in all, over one connection for each of `doors`.
///
/// # Errors
/// The visitors cannot run; what happens to a connection is in [`Visits::errors`].
pub fn run(
    doors: &[SocketAddr],
    requests: usize,
    interrupt: &Interrupt,
) -> Result<Visits, FarmError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(FarmError::of("visitors"))?;
    let all = async {
        let mut visitors = JoinSet::new();
        for (number, &door) in doors.iter().enumerate() {
            let share = (requests + doors.len() - 1 - number) / doors.len();
            visitors.spawn(visit(door, share, interrupt.clone()));
        }
        visitors.join_all().await
    };
    let mut sum = Visits::default();
    for visits in runtime.block_on(all) {
        sum.requests += visits.requests;
        sum.errors.extend(visits.errors);
        sum.moves += visits.moves;
        for (server, count) in visits.answered {
            *sum.answered.entry(server).or_default() += count;
        }
    }
    Ok(sum)
}

/// One connection.
async fn visit(door: SocketAddr, requests: usize, interrupt: Interrupt) -> Visits {
    let mut visits = Visits::default();
    let made = ask_all(door, requests, &interrupt, &mut visits).await;
    if let Err(error) = made {
        visits.errors.push(format!("{door}: {error}"));
    }
    visits
}

async fn ask_all(
    door: SocketAddr,
    requests: usize,
    interrupt: &Interrupt,
    visits: &mut Visits,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(door).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Its errors come out of `send_request` too.
    tokio::spawn(connection);
    let mut before: Option<String> = None;
    for number in 1..=requests {
        if interrupt.is_set() {
            break;
        }
        let path = match number % MOVES {
            0 => "/go/any",
            _ => "/visit",
        };
        let server = tokio::time::timeout(PATIENCE, ask(&mut sender, path)).await??;
        visits.requests += 1;
        visits.moves += usize::from(before.as_ref().is_some_and(|before| *before != server));
        *visits.answered.entry(server.clone()).or_default() += 1;
        before = Some(server);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// One request; the server that has answered it.
async fn ask(
    sender: &mut SendRequest<Empty<Bytes>>,
    path: &str,
) -> Result<String, Box<dyn Error + Send + Sync>> {
    sender.ready().await?;
    let request = Request::get(path).header(HOST, "farm");
    let response = sender.send_request(request.body(Empty::new())?).await?;
    if response.status() != StatusCode::OK {
        return Err(format!("{path}: status {}", response.status()).into());
    }
    let body = response.into_body().collect().await?.to_bytes();
    let answer: Value = serde_json::from_slice(&body)?;
    let server = answer.get("server").and_then(Value::as_str);
    Ok(server.ok_or("no server in the answer")?.to_owned())
}

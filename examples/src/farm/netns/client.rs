//! The clients: hyper over the kernel's TCP in the client's namespace.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use ipos_lab::Namespace;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::LOOK;
use crate::farm::{Exchange, FarmError, Interrupt, Plan};

/// What the report calls it.
pub(super) const NAME: &str =
    "built-in HTTP/1.1 client (hyper) on the kernel's TCP, a new connection for each request";
/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What clients have done so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Requests that are done.
    pub(super) finished: AtomicUsize,
    /// Those of them that have failed.
    pub(super) errors: AtomicUsize,
}

/// Makes the plan's requests, spread over `addresses`, and returns when all are done or `interrupt` is set. `look` is called
/// all the time.
pub(super) fn run(
    namespace: &Namespace,
    plan: &Plan,
    addresses: Vec<SocketAddr>,
    interrupt: &Interrupt,
    tally: &Arc<Tally>,
    look: impl Fn() + Send,
) -> Result<Vec<Exchange>, FarmError> {
    let failed = || FarmError::of::<std::io::Error>("clients");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed())?;
    let (requests, workers) = (plan.requests, plan.concurrency.min(plan.requests));
    let all = async {
        let mut set = JoinSet::new();
        for worker in 0..workers {
            let (addresses, interrupt) = (addresses.clone(), interrupt.clone());
            let tally = Arc::clone(tally);
            set.spawn(async move {
                let mut exchanges = Vec::new();
                for (server, &address) in addresses
                    .iter()
                    .enumerate()
                    .cycle()
                    .skip(worker)
                    .step_by(workers)
                    .take((requests - worker).div_ceil(workers))
                {
                    if interrupt.is_set() {
                        break;
                    }
                    let made = exchange(server, address).await;
                    let failed = usize::from(made.result.is_err());
                    tally.errors.fetch_add(failed, Ordering::Relaxed);
                    tally.finished.fetch_add(1, Ordering::Relaxed);
                    exchanges.push(made);
                }
                exchanges
            });
        }
        tokio::select! {
            exchanges = set.join_all() => exchanges.concat(),
            never = repeat(look) => match never {},
        }
    };
    Ok(namespace.run(|| runtime.block_on(all))?)
}

async fn repeat(look: impl Fn()) -> Infallible {
    loop {
        look();
        tokio::time::sleep(LOOK).await;
    }
}

/// One request on a connection of its own.
async fn exchange(server: usize, address: SocketAddr) -> Exchange {
    let start = Instant::now();
    let result = match tokio::time::timeout(PATIENCE, get(address)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("{address}: {}", chain(&*error))),
        Err(_) => Err(format!(
            "{address}: no answer within {} s",
            PATIENCE.as_secs()
        )),
    };
    let latency = micros(start.elapsed());
    let (result, first_byte) = match result {
        Ok((by, took)) => (Ok(by), Some((format!("s{}", server + 1), micros(took)))),
        Err(error) => (Err(error), None),
    };
    Exchange {
        latency,
        first_byte,
        result,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// `GET /`; the server that answered, and how long the head of its response took.
async fn get(address: SocketAddr) -> Result<(String, Duration), Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Its errors come out of `send_request` too.
    tokio::spawn(connection);
    let request = Request::get("/")
        .header(HOST, address.to_string())
        .body(Empty::<Bytes>::new())?;
    let asked = Instant::now();
    let response = sender.send_request(request).await?;
    let took = asked.elapsed();
    if response.status() != StatusCode::OK {
        return Err(format!("status {}", response.status()).into());
    }
    let server = response
        .headers()
        .get("x-server")
        .ok_or("no X-Server in the response")?
        .to_str()?
        .to_owned();
    let body = response.into_body().collect().await?.to_bytes();
    if body.strip_suffix(b"\n") != Some(server.as_bytes()) {
        return Err(format!(
            "X-Server says {server}, the body is {:?}",
            body.escape_ascii().to_string()
        )
        .into());
    }
    Ok((server, took))
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}

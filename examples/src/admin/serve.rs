//! Connections to the admin address.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use ipos_engine::Control;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::answer::{self, Answer};
use crate::connections::{self, accept};

/// Connections at once. Full: clients wait in the kernel's queue.
const CONNECTIONS: usize = 32;
/// How long a client may take for a request's head, and an idle connection stays.
const SILENT: Duration = Duration::from_secs(10);
/// A connection ends after so long, between two requests.
const LIFETIME: Duration = Duration::from_secs(60);
/// Longest request head, in bytes: longer ones are answered with 431.
const HEAD: usize = 16 * 1024;

/// Serves for ever.
pub(super) async fn listen(listener: StdListener, control: Control) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let local = listener.local_addr()?.ip().is_loopback();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    accept(listener, places, |stream, client| {
        let control = control.clone();
        async move {
            if let Err(error) = connection(stream, control, local).await {
                tracing::debug!(%client, %error, "admin connection");
            }
        }
    })
    .await;
    Ok(())
}

async fn connection(stream: TcpStream, control: Control, local: bool) -> hyper::Result<()> {
    let service = service_fn(|request: Request<Incoming>| {
        let control = &control;
        async move { Ok::<Answer, Infallible>(answer::answer(control, local, request).await) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(SILENT)
        .max_buf_size(HEAD);
    connections::serve(&builder, stream, service, LIFETIME).await
}

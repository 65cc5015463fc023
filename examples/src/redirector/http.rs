//! Connections for HTTP.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::EXPECT;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::Redirector;
use super::redirect::{Answer, Asked};
use super::serve;

/// Longest request head, in bytes, and what is read ahead of a body: longer ones are answered with 431.
const HEAD: usize = 16 * 1024;
/// As much of a body is read and forgotten: a client that is not listened to might not listen either, and a connection that
/// ends before its last byte has come loses the answer.
const BODY: usize = 1 << 20;
/// What a connection has to end in, once its lifetime is over.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Answers what comes to the listener at `at` in the settings.
pub(super) async fn listen(
    redirector: Arc<Redirector>,
    at: usize,
    listener: TcpListener,
    places: serve::Places,
) {
    serve::accept(listener, places, move |stream, client| {
        connection(Arc::clone(&redirector), at, stream, client)
    })
    .await;
}

async fn connection(redirector: Arc<Redirector>, at: usize, stream: TcpStream, client: SocketAddr) {
    let Ok(own) = stream.local_addr() else {
        return;
    };
    let silent = redirector.settings.silent;
    let lifetime = redirector.settings.lifetime;
    let asked = Asked {
        client: client.ip(),
        port: own.port(),
        status: redirector
            .settings
            .http
            .get(at)
            .and_then(|http| http.status),
    };
    let service = service_fn(|mut request: Request<Incoming>| {
        let redirector = &redirector;
        async move {
            let answer = redirector.with(|state, now| state.redirect(now, asked, &request));
            // Reading would ask for a body that the client holds back until it is wanted.
            if !request.headers().contains_key(EXPECT) {
                // What has not come by then is not waited for.
                let _late = timeout(silent, drain(request.body_mut())).await;
            }
            Ok::<Answer, Infallible>(answer)
        }
    });
    let mut served = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(silent)
            // A client that has said all that it wants to say still listens.
            .half_close(true)
            .max_buf_size(HEAD)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = sleep(lifetime) => {
            served.as_mut().graceful_shutdown();
            match timeout(LAST_WORDS, served).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%client, %error, "HTTP connection");
    }
}

/// Reads a body's first [`BODY`] bytes.
async fn drain(body: &mut Incoming) {
    let mut left = BODY;
    while let Some(Ok(frame)) = body.frame().await {
        match left.checked_sub(frame.data_ref().map_or(0, |data| data.len())) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

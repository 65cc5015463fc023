//! Connections for HTTP.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::EXPECT;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::Redirector;
use super::redirect::{Answer, Asked};
use crate::connections::{self, Places, accept};

/// Longest request head, in bytes, and what is read ahead of a body: longer ones are answered with 431.
const HEAD: usize = 16 * 1024;
/// As much of a body is read and forgotten: a client that is not listened to might not listen either, and a connection that
/// ends before its last byte has come loses the answer.
const BODY: usize = 1 << 20;

/// Answers what comes to the listener at `at` in the settings.
pub(super) async fn listen(
    redirector: Arc<Redirector>,
    at: usize,
    listener: TcpListener,
    places: Places,
) {
    accept(listener, places, move |stream, client| {
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
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(silent)
        // A client that has said all that it wants to say still listens.
        .half_close(true)
        .max_buf_size(HEAD);
    if let Err(error) = connections::serve(&builder, stream, service, lifetime).await {
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

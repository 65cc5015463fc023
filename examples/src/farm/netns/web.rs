//! The web server of a server namespace: hyper over the kernel's TCP.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use ipos_lab::Namespace;
use tokio::sync::oneshot;

use crate::farm::FarmError;

/// Where it listens.
pub(super) const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// What is waited for where nothing can be accepted: no descriptor is free, for example.
const PAUSE: Duration = Duration::from_millis(10);

/// A server on a thread of its own; it ends when this is dropped.
pub(super) struct Web {
    served: Arc<AtomicU64>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    /// Serves `name` inside `namespace`.
    pub(super) fn start(namespace: &Namespace, name: &str) -> Result<Web, FarmError> {
        let part = format!("web server of {name}");
        let failed = || FarmError::of::<std::io::Error>(part.clone());
        let listener = namespace
            .run(|| TcpListener::bind(ADDRESS))?
            .map_err(failed())?;
        listener.set_nonblocking(true).map_err(failed())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed())?;
        let (end, ended) = oneshot::channel();
        let name = name.to_owned();
        let served = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&served);
        let thread = namespace.spawn(&format!("web {name}"), move || {
            if let Err(error) = runtime.block_on(serve(listener, name, &count, ended)) {
                tracing::error!(%error, "web server ended");
            }
        })?;
        Ok(Web {
            served,
            end: Some(end),
            thread: Some(thread),
        })
    }

    /// Requests answered so far.
    pub(super) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a web server panicked");
        }
    }
}

/// Accepts until `ended`.
async fn serve(
    listener: TcpListener,
    name: String,
    served: &Arc<AtomicU64>,
    mut ended: oneshot::Receiver<()>,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut ended => return Ok(()),
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // No descriptor is free, or the connection is gone already.
                tracing::debug!(%error, "accept");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (name, count) = (name.clone(), Arc::clone(served));
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                count.fetch_add(1, Ordering::Relaxed);
                let answer = answer(&request, &name);
                async move { Ok::<_, Infallible>(answer) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "connection");
            }
        });
    }
}

type Answer = Response<Either<Full<Bytes>, Zeros>>;

/// `/`: the server's name; `/bytes/N`: N zero bytes. `X-Server` says the name in both.
fn answer(request: &Request<Incoming>, name: &str) -> Answer {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => (StatusCode::OK, text(format!("{name}\n"))),
        (&Method::GET, path) => match path
            .strip_prefix("/bytes/")
            .and_then(|count| count.parse().ok())
        {
            Some(left) => (StatusCode::OK, Either::Right(Zeros { left })),
            None => (
                StatusCode::NOT_FOUND,
                text(format!("there are / and /bytes/N, not {path}\n")),
            ),
        },
        (method, _) => (
            StatusCode::METHOD_NOT_ALLOWED,
            text(format!("GET is possible, not {method}\n")),
        ),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Ok(name) = name.parse() {
        response.headers_mut().insert("x-server", name);
    }
    response
}

fn text(text: String) -> Either<Full<Bytes>, Zeros> {
    Either::Left(Full::new(Bytes::from(text)))
}

/// A body of so many zero bytes.
struct Zeros {
    left: u64,
}

static CHUNK: [u8; 64 * 1024] = [0; 64 * 1024];

impl Body for Zeros {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let count = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(CHUNK.len());
        self.left -= count as u64;
        Poll::Ready(
            CHUNK
                .get(..count)
                .filter(|chunk| !chunk.is_empty())
                .map(|chunk| Ok(Frame::data(Bytes::from_static(chunk)))),
        )
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

//! Connections of the programs' own addresses: so many at once, and none for ever.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// What is waited for where a socket fails: no descriptor is free, for example.
const PAUSE: Duration = Duration::from_millis(10);
/// What a connection has to end in, once its lifetime is over.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Places for connections.
pub(crate) type Places = Arc<Semaphore>;

/// Accepts for ever: each connection is a task that holds a place. None free: clients wait in the kernel's queue.
pub(crate) async fn accept<F>(
    listener: TcpListener,
    places: Places,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    // The semaphore is never closed.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, client)) => {
                let served = serve(stream, client);
                tokio::spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            Err(error) => pause("accept", &error).await,
        }
    }
}

/// A socket has failed: it is tried again soon.
pub(crate) async fn pause(what: &str, error: &io::Error) {
    tracing::debug!(%error, "{what}");
    sleep(PAUSE).await;
}

/// Serves HTTP on one connection for its lifetime. Then the answer under way may still go out, but not to a client that does not
/// take it: that would keep the place.
pub(crate) async fn serve<T, S, B>(
    builder: &http1::Builder,
    stream: T,
    service: S,
    lifetime: Duration,
) -> hyper::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        ended = &mut served => ended,
        () = sleep(lifetime) => {
            served.as_mut().graceful_shutdown();
            timeout(LAST_WORDS, served).await.unwrap_or(Ok(()))
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use hyper::body::Bytes;
    use hyper::service::service_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    use super::*;

    const LIFETIME: Duration = Duration::from_secs(60);

    async fn answer(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        Ok(Response::new(Full::new(Bytes::from(vec![b'x'; 1_000_000]))))
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_no_answer_has_its_place_no_longer_than_others() {
        let (mut client, server) = duplex(64);
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let begin = Instant::now();
        let builder = http1::Builder::new();
        let served = serve(&builder, server, service_fn(answer), LIFETIME).await;
        served.unwrap();
        assert_eq!(begin.elapsed().as_secs(), (LIFETIME + LAST_WORDS).as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_under_way_is_the_last_one() {
        let (mut client, server) = duplex(64);
        let request = b"GET / HTTP/1.1\r\n\r\n";
        client.write_all(request).await.unwrap();
        let reader = async {
            sleep(LIFETIME + Duration::from_secs(1)).await;
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let builder = http1::Builder::new();
        let served = serve(&builder, server, service_fn(self::answer), LIFETIME);
        let (served, answer) = tokio::join!(served, reader);
        served.unwrap();
        assert!(answer.len() > 1_000_000);
    }
}

//! Datagrams and connections for DNS (RFC 1035 §4.2, RFC 7766).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

use super::Redirector;
use super::answer::Transport;
use crate::connections::{Places, accept, pause};

/// Longest query in a datagram that is read, in bytes: what is cut off makes it malformed.
const QUERY: usize = 4_096;

/// Answers datagrams, one after the other: nothing waits but in the kernel's bounded queue.
pub(super) async fn datagrams(redirector: Arc<Redirector>, socket: UdpSocket) {
    let mut buffer = vec![0; QUERY];
    loop {
        let (query, client) = match socket.recv_from(&mut buffer).await {
            Ok((length, client)) => (buffer.get(..length).unwrap_or_default(), client),
            Err(error) => {
                pause("DNS datagram", &error).await;
                continue;
            }
        };
        if let Some(answer) = answer(&redirector, client, Transport::Udp, query)
            && let Err(error) = socket.send_to(&answer, client).await
        {
            tracing::debug!(%client, %error, "DNS answer");
        }
    }
}

/// Answers connections.
pub(super) async fn listen(redirector: Arc<Redirector>, listener: TcpListener, places: Places) {
    accept(listener, places, move |stream, client| {
        let redirector = Arc::clone(&redirector);
        async move {
            let lifetime = redirector.settings.lifetime;
            match timeout(lifetime, connection(&redirector, stream, client)).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(error)) => tracing::debug!(%client, %error, "DNS connection"),
            }
        }
    })
    .await;
}

/// Each message comes after its length; answers are in the order of the queries.
async fn connection(
    redirector: &Redirector,
    mut stream: TcpStream,
    client: SocketAddr,
) -> io::Result<()> {
    let silent = redirector.settings.silent;
    let mut query = Vec::new();
    loop {
        timeout(silent, async {
            let length = stream.read_u16().await?;
            query.resize(usize::from(length), 0);
            stream.read_exact(&mut query).await
        })
        .await??;
        let Some(answer) = answer(redirector, client, Transport::Tcp, &query) else {
            return Ok(());
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        timeout(silent, stream.write_all(&framed)).await??;
    }
}

fn answer(
    redirector: &Redirector,
    client: SocketAddr,
    transport: Transport,
    query: &[u8],
) -> Option<Vec<u8>> {
    redirector.with(|state, now| state.answer(now, client.ip(), transport, query))
}

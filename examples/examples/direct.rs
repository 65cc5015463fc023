//! A client that goes to its server directly, once it knows where that is.
//!
//! ```text
//! cargo run --release --example direct -- http://app.example/ --connect 10.77.0.11:80 --requests 5
//! ```
//!
//! An answer of a server that another one has handed the connection to names the address where this one is reached itself
//! (`direct` of `[session]` in the configuration of `inic`). Whoever does not look at it loses nothing; whoever does
//! spares the farm the forwarding of its next packets. It shows the session's cookie there, as any client does.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, COOKIE, HOST, HeaderMap, SET_COOKIE};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use ipos_examples::program;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a server may take to be connected to, and to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer that is read, in bytes.
const LONGEST: usize = 64 << 20;

/// Asks for a page several times, each time on a connection of its own, and follows the answers' direct address.
#[derive(Debug, Parser)]
#[command(name = "direct", version)]
struct Arguments {
    /// What to ask for: http://host[:port]/path
    url: Uri,
    /// Where to connect to at first, instead of the URL's host.
    #[arg(long, value_name = "ADDRESS:PORT")]
    connect: Option<SocketAddr>,
    /// How many times to ask.
    #[arg(long, default_value_t = 3)]
    requests: usize,
    /// The header field that names the direct address.
    #[arg(long, default_value = "X-IpOS-Server")]
    header: String,
    /// One JSON object a request.
    #[arg(long)]
    json: bool,
}

/// Values by names.
type Cookies = BTreeMap<String, String>;

/// One request.
#[derive(Debug, Serialize)]
struct Exchange {
    /// Where the client connected to.
    connected: SocketAddr,
    status: u16,
    /// Bytes of the answer.
    bytes: usize,
    /// Where the answer says that its server is.
    direct: Option<SocketAddr>,
}

fn main() -> ExitCode {
    let arguments: Arguments = match program::arguments() {
        Ok(arguments) => arguments,
        Err(status) => return status,
    };
    program::init_logging("warn");
    let first = match first_address(&arguments) {
        Ok(first) => first,
        Err(error) => return program::fail(error, program::BAD_INPUT),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = runtime.map_err(Into::into).and_then(|runtime| {
        runtime.block_on(async {
            let (mut at, mut cookies) = (first, Cookies::new());
            for _ in 0..arguments.requests {
                at = follow(&arguments, first, at, &mut cookies).await?;
            }
            Ok::<_, Box<dyn Error>>(())
        })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => program::fail(error, 1),
    }
}

/// Where the first connection goes.
fn first_address(arguments: &Arguments) -> Result<SocketAddr, String> {
    let url = &arguments.url;
    let host = url.host().filter(|_| url.scheme_str() == Some("http"));
    let host = host.ok_or_else(|| format!("{url}: an http://host/path is needed"))?;
    if let Some(connect) = arguments.connect {
        return Ok(connect);
    }
    let host = host.trim_matches(['[', ']']);
    let found = (host, url.port_u16().unwrap_or(80)).to_socket_addrs();
    let mut found = found.map_err(|error| format!("{host}: {error}"))?;
    found.next().ok_or_else(|| format!("{host}: no address"))
}

/// One exchange with the server at `at`, or with the one at `first` where nobody connects there any more. Where the next one goes.
async fn follow(
    arguments: &Arguments,
    first: SocketAddr,
    at: SocketAddr,
    cookies: &mut Cookies,
) -> Result<SocketAddr, Box<dyn Error>> {
    let (at, stream) = match connect(at).await {
        Ok(stream) => (at, stream),
        Err(error) if at != first => {
            tracing::warn!("{at}: {error}: back to {first}");
            (first, connect(first).await?)
        }
        Err(error) => return Err(format!("{at}: {error}").into()),
    };
    let (status, headers, bytes) = timeout(PATIENCE, ask(arguments, stream, cookies))
        .await
        .map_err(|_| format!("{at}: no answer within {} s", PATIENCE.as_secs()))??;
    for set in headers.get_all(SET_COOKIE) {
        // Attributes aside: all requests are for one URL.
        let pair = set.to_str().ok().and_then(|set| set.split(';').next());
        if let Some((name, value)) = pair.and_then(|pair| pair.split_once('=')) {
            cookies.insert(name.trim().to_owned(), value.trim().to_owned());
        }
    }
    let direct = headers.get(&arguments.header);
    let direct = direct.and_then(|value| value.to_str().ok()?.parse().ok());
    let exchange = Exchange {
        connected: at,
        status: status.as_u16(),
        bytes,
        direct,
    };
    if arguments.json {
        println!("{}", serde_json::to_string(&exchange)?);
    } else {
        let told = direct.map(|direct| format!(", its server is at {direct}"));
        let told = told.unwrap_or_default();
        println!("{at}: {status}, {bytes} bytes{told}");
    }
    Ok(direct.unwrap_or(at))
}

async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    timeout(PATIENCE, TcpStream::connect(to)).await?
}

/// One request for the same host, whoever is asked.
async fn ask(
    arguments: &Arguments,
    stream: TcpStream,
    cookies: &Cookies,
) -> Result<(StatusCode, HeaderMap, usize), Box<dyn Error>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let url = &arguments.url;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let host = url.authority().map_or("", |authority| authority.as_str());
    let mut request = Request::get(path)
        .header(HOST, host)
        .header(CONNECTION, "close");
    if !cookies.is_empty() {
        let pairs = cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        request = request.header(COOKIE, pairs.collect::<Vec<_>>().join("; "));
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, LONGEST).collect().await;
    let body = body.map_err(|error| format!("the answer breaks off: {error}"))?;
    drop(connection);
    Ok((head.status, head.headers, body.to_bytes().len()))
}

//! The application: a board that all servers show, and pages that say who has answered.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::{get, post};
use axum::{Json, Router};
use ipos_core::Origin;
use ipos_tokio::Peer;
use serde_json::{Value, json};

/// Messages that the board keeps; the oldest makes room.
const MESSAGES: usize = 50;
/// Characters of a message; the rest is cut off.
const LONGEST: usize = 200;

/// What all servers of the farm share: in a farm of several machines it would be a database.
pub(super) struct Site {
    names: Vec<String>,
    answered: Vec<AtomicU64>,
    board: Mutex<VecDeque<Value>>,
}

impl Site {
    pub(super) fn new(names: Vec<String>) -> Site {
        Site {
            answered: names.iter().map(|_| AtomicU64::new(0)).collect(),
            names,
            board: Mutex::default(),
        }
    }

    fn board(&self) -> MutexGuard<'_, VecDeque<Value>> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One server of the site.
#[derive(Clone)]
struct Server {
    site: Arc<Site>,
    number: usize,
}

impl Server {
    fn name(&self) -> &str {
        self.site.names.get(self.number).map_or("", String::as_str)
    }

    /// Who has answered, and how the connection came here.
    fn answer(&self, peer: &Peer) -> Value {
        let count = self.site.answered.get(self.number);
        let answered = count.map(|count| count.fetch_add(1, Ordering::Relaxed) + 1);
        let from = match peer.origin() {
            Origin::Local => None,
            Origin::Migrated(from) => Some(from.to_string()),
        };
        json!({
            "server": self.name(),
            "answered": answered,
            "reached": peer.local_addr().to_string(),
            "moved_from": from,
            "servers": self.site.names,
        })
    }

    /// The servers of a type of requests: all but the first, where there are others.
    fn albums(&self) -> &[String] {
        match &self.site.names[..] {
            [_, others @ ..] if !others.is_empty() => others,
            all => all,
        }
    }
}

/// What the server with this number answers.
pub(super) fn router(site: Arc<Site>, number: usize) -> Router {
    Router::new()
        .route("/", get(|| async { Html(include_str!("page.html")) }))
        .route("/visit", get(visit))
        .route("/go/{server}", get(go))
        .route("/album", get(album))
        .route("/board", get(board))
        .route("/say", post(say))
        .with_state(Server { site, number })
}

async fn visit(State(server): State<Server>, ConnectInfo(peer): ConnectInfo<Peer>) -> Json<Value> {
    Json(server.answer(&peer))
}

/// Later requests of this connection are for the server named, or, of `any`, for one that the policy selects.
async fn go(
    State(server): State<Server>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(to): Path<String>,
) -> Result<Json<Value>, (StatusCode, String)> {
    if to == "any" {
        peer.move_to_any(&server.site.names);
    } else if server.site.names.contains(&to) {
        peer.move_to(&to);
    } else {
        let known = server.site.names.join(", ");
        let problem = format!("there is no server {to}, only {known} and any\n");
        return Err((StatusCode::NOT_FOUND, problem));
    }
    Ok(Json(server.answer(&peer)))
}

/// A type of requests that some servers are for: whoever asks for an album may ask for more.
async fn album(State(server): State<Server>, ConnectInfo(peer): ConnectInfo<Peer>) -> Json<Value> {
    if !server.albums().iter().any(|name| name == server.name()) {
        peer.move_to_any(server.albums());
    }
    Json(server.answer(&peer))
}

async fn board(State(server): State<Server>, ConnectInfo(peer): ConnectInfo<Peer>) -> Json<Value> {
    let mut answer = server.answer(&peer);
    if let Value::Object(fields) = &mut answer {
        let messages = server.site.board().iter().cloned().collect();
        fields.insert("messages".to_owned(), Value::Array(messages));
    }
    Json(answer)
}

async fn say(
    State(server): State<Server>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    text: String,
) -> Json<Value> {
    let text: String = text.trim().chars().take(LONGEST).collect();
    if !text.is_empty() {
        let mut board = server.site.board();
        if board.len() == MESSAGES {
            board.pop_front();
        }
        board.push_back(json!({ "text": text, "taken_by": server.name() }));
    }
    Json(server.answer(&peer))
}

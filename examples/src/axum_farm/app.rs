//! The application: a board that all servers show, and pages that say who has answered.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::{get, post};
use axum::{Json, Router};
use ipos_core::{Event, Origin};
use ipos_tokio::Peer;
use serde_json::{Value, json};

/// Messages that the board keeps; the oldest makes room.
const MESSAGES: usize = 50;
/// Characters of a message; the rest is cut off.
const LONGEST: usize = 200;

/// What the servers of one process share: in a farm of several processes it would be a database, there each has a board of its own.
#[derive(Default)]
pub(super) struct Site {
    names: Mutex<BTreeSet<String>>,
    board: Mutex<VecDeque<Value>>,
}

impl Site {
    pub(super) fn new(names: impl IntoIterator<Item = String>) -> Site {
        Site {
            names: Mutex::new(names.into_iter().collect()),
            board: Mutex::default(),
        }
    }

    /// The servers that are up.
    fn names(&self) -> Vec<String> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.iter().cloned().collect()
    }

    /// A server comes or goes.
    pub(super) fn hear(&self, event: &Event) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::ServerUp(name) => drop(names.insert(name.clone())),
            Event::ServerDown(name) => drop(names.remove(name)),
            _ => {}
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
    name: Arc<str>,
    answered: Arc<AtomicU64>,
}

impl Server {
    /// Who has answered, and how the connection came here.
    fn answer(&self, peer: &Peer) -> Value {
        let answered = self.answered.fetch_add(1, Ordering::Relaxed) + 1;
        let from = match peer.origin() {
            Origin::Local => None,
            Origin::Migrated(from) => Some(from.to_string()),
        };
        json!({
            "server": &*self.name,
            "answered": answered,
            "reached": peer.local_addr().to_string(),
            "moved_from": from,
            "servers": self.site.names(),
        })
    }

    /// The servers of a type of requests: all but the first, where there are others.
    fn albums(&self) -> Vec<String> {
        let mut names = self.site.names();
        if names.len() > 1 {
            names.remove(0);
        }
        names
    }
}

/// What the server of this name answers.
pub(super) fn router(site: Arc<Site>, name: &str) -> Router {
    Router::new()
        .route("/", get(|| async { Html(include_str!("page.html")) }))
        .route("/visit", get(visit))
        .route("/go/{server}", get(go))
        .route("/album", get(album))
        .route("/board", get(board))
        .route("/say", post(say))
        .with_state(Server {
            site,
            name: name.into(),
            answered: Arc::default(),
        })
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
    let names = server.site.names();
    if to == "any" {
        peer.move_to_any(&names);
    } else if names.contains(&to) {
        peer.move_to(&to);
    } else {
        let known = names.join(", ");
        let problem = format!("there is no server {to}, only {known} and any\n");
        return Err((StatusCode::NOT_FOUND, problem));
    }
    Ok(Json(server.answer(&peer)))
}

/// A type of requests that some servers are for: whoever asks for an album may ask for more.
async fn album(State(server): State<Server>, ConnectInfo(peer): ConnectInfo<Peer>) -> Json<Value> {
    let albums = server.albums();
    if !albums.iter().any(|name| **name == *server.name) {
        peer.move_to_any(&albums);
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
        board.push_back(json!({ "text": text, "taken_by": &*server.name }));
    }
    Json(server.answer(&peer))
}

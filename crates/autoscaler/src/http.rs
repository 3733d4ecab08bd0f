//! The sidecar's HTTP endpoint: `/metrics`, `/healthz`, `/readyz`, `/explain` (the last decision as JSON) and `/recording`
//! (what the flight recorder holds).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Response, StatusCode, Uri, header::CONTENT_TYPE},
    routing::get,
};
use mobula_planner::{Plan, Snapshot};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};

use crate::{
    document::{plan_document, table},
    metrics::Metrics,
    recorder::Recorder,
};

/// A loop that has not come round for so long is dead.
const LOOP_LIMIT: Duration = Duration::from_secs(300);

/// What the loop shows to the outside.
pub struct Board {
    /// Metrics of this process.
    pub metrics: Arc<Metrics>,
    /// The flight recorder.
    pub recorder: Arc<Recorder>,
    state: Mutex<BoardState>,
}

/// The last decision: rendered only when somebody asks.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What it was made from, and when: it may hold on for long.
    pub snapshot: Arc<Snapshot>,
    /// The plan as far as it was carried out.
    pub plan: Plan,
    /// What came of it, for people.
    pub outcome: String,
    /// Oddities of the input.
    pub warnings: Vec<String>,
    /// Unix time in ms at which it was last found to hold.
    pub confirmed_ms: i64,
}

impl Decision {
    /// The JSON of `/explain`.
    pub fn to_json(&self) -> Value {
        json!({
            "at_ms": self.snapshot.now_ms,
            "confirmed_ms": self.confirmed_ms,
            "versions": self.snapshot.versions,
            "outcome": self.outcome,
            "warnings": self.warnings,
            "plan": plan_document(&self.snapshot, &self.plan),
        })
    }

    /// The same for people (`/explain?output=table`).
    pub fn to_table(&self) -> String {
        let notes: Vec<String> = std::iter::once(self.outcome.clone()).chain(self.warnings.iter().cloned()).collect();
        table(&self.snapshot, &self.plan, &notes)
    }
}

struct BoardState {
    last_turn: Instant,
    not_ready: Option<String>,
    decision: Option<Arc<Decision>>,
}

impl Board {
    /// Nothing has happened yet.
    pub fn new(metrics: Arc<Metrics>, recorder: Arc<Recorder>) -> Self {
        let state = BoardState { last_turn: Instant::now(), not_ready: Some("starting".into()), decision: None };
        Board { metrics, recorder, state: Mutex::new(state) }
    }

    fn with<T>(&self, f: impl FnOnce(&mut BoardState) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The loop came round. `not_ready`: why the last tick made no plan.
    pub fn turn(&self, not_ready: Option<String>) {
        self.with(|state| {
            state.last_turn = Instant::now();
            state.not_ready = not_ready;
        });
    }

    /// A decision was made.
    pub fn decided(&self, decision: Decision) {
        self.with(|state| state.decision = Some(Arc::new(decision)));
    }

    /// The last decision holds on at Unix time `now_ms`.
    pub fn confirmed(&self, now_ms: i64, warnings: Vec<String>) {
        self.with(|state| {
            if let Some(decision) = &mut state.decision {
                let decision = Arc::make_mut(decision);
                (decision.confirmed_ms, decision.warnings) = (now_ms, warnings);
            }
        });
    }

    /// The last decision, if there is one.
    pub fn last_decision(&self) -> Option<Arc<Decision>> {
        self.with(|state| state.decision.clone())
    }

    /// Why the sidecar is not ready; `None`: it is.
    pub fn not_ready(&self) -> Option<String> {
        self.with(|state| state.not_ready.clone())
    }
}

/// Serves until `shutdown` is done.
pub async fn serve(
    listener: TcpListener,
    board: Arc<Board>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(board)).with_graceful_shutdown(shutdown).await
}

fn router(board: Arc<Board>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/explain", get(explain))
        .route("/recording", get(recording))
        .with_state(board)
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, axum::http::HeaderValue::from_static(content_type));
    response
}

const TEXT: &str = "text/plain; charset=utf-8";

async fn metrics(State(board): State<Arc<Board>>) -> Response<Body> {
    answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", board.metrics.render())
}

async fn healthz(State(board): State<Arc<Board>>) -> Response<Body> {
    let age = board.with(|state| state.last_turn.elapsed());
    if age < LOOP_LIMIT {
        answer(StatusCode::OK, TEXT, "ok\n")
    } else {
        answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("the loop has not come round for {} s\n", age.as_secs()))
    }
}

async fn readyz(State(board): State<Arc<Board>>) -> Response<Body> {
    match board.not_ready() {
        None => answer(StatusCode::OK, TEXT, "ok\n"),
        Some(reason) => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n")),
    }
}

async fn explain(State(board): State<Arc<Board>>, uri: Uri) -> Response<Body> {
    match board.last_decision() {
        None => answer(StatusCode::NOT_FOUND, TEXT, "no plan has been made yet\n"),
        Some(decision) if uri.query() == Some("output=table") => answer(StatusCode::OK, TEXT, decision.to_table()),
        Some(decision) => answer(StatusCode::OK, "application/json", decision.to_json().to_string()),
    }
}

async fn recording(State(board): State<Arc<Board>>) -> Response<Body> {
    match board.recorder.bytes() {
        Ok(bytes) => answer(StatusCode::OK, "application/octet-stream", bytes),
        Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
    }
}

//! `/metrics`, `/healthz` and `/readyz`.

use std::sync::Arc;

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use tokio::{net::TcpListener, sync::watch};

use super::{metrics::Metrics, world::World};

/// What is shown to the outside.
#[derive(Clone)]
pub struct Board {
    /// Metrics of this process.
    pub metrics: Arc<Metrics>,
    /// What is watched.
    pub world: Arc<World>,
    /// Whether series of custom resources are shown.
    pub with_resources: bool,
    /// False once the process is being stopped.
    pub is_alive: watch::Receiver<bool>,
}

/// Serves until `shutdown` is done.
///
/// # Errors
/// If the socket fails.
pub async fn serve(
    listener: TcpListener,
    board: Board,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(board)).with_graceful_shutdown(shutdown).await
}

fn router(board: Board) -> Router {
    let healthz = get(|| async { "ok\n" });
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", healthz)
        .route("/readyz", get(readyz))
        .with_state(board)
}

async fn metrics(State(board): State<Board>) -> impl IntoResponse {
    let headers = [("content-type", "text/plain; version=0.0.4; charset=utf-8")];
    (headers, board.metrics.render(&board.world, board.with_resources))
}

async fn readyz(State(board): State<Board>) -> (StatusCode, &'static str) {
    match (*board.is_alive.borrow(), board.world.is_synced()) {
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "being stopped\n"),
        (true, false) => (StatusCode::SERVICE_UNAVAILABLE, "the first listing is not complete\n"),
        (true, true) => (StatusCode::OK, "ok\n"),
    }
}

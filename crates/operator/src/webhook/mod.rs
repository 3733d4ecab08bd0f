//! The validating webhook: what the reconciler would refuse is refused when it is written.
//!
//! Off unless `ENABLE_WEBHOOKS=true`, as in KubeRay, whose paths these are. `review` is pure; [`serve()`] is
//! the HTTPS around it.

mod listen;
mod review;

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::post,
};
use kube::core::{
    DynamicObject,
    admission::{AdmissionRequest, AdmissionResponse, AdmissionReview},
};
use mobula_api::{Kind, Rules};
use tokio::net::TcpListener;

pub use listen::{CertificateError, CertificateFiles};

/// Most bytes of a review: it holds an object twice, and etcd takes no object of more than 1.5 MiB.
const MOST_BODY_BYTES: usize = 4 << 20;

/// What a webhook is asked about.
#[derive(Clone)]
struct Asked {
    kind: Kind,
    rules: Arc<Rules>,
}

/// Answers the API server until `shutdown` is done.
///
/// A certificate that can't be used ([`CertificateFiles::check`]) is logged, and the connections that come meanwhile fail.
///
/// # Errors
/// If the socket fails.
pub async fn serve(
    listener: TcpListener,
    certificate: CertificateFiles,
    rules: Rules,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let listener = listen::TlsListener::new(listener, certificate)?;
    axum::serve(listener, router(&Arc::new(rules))).with_graceful_shutdown(shutdown).await
}

fn router(rules: &Arc<Rules>) -> Router {
    let mut router = Router::new();
    for kind in Kind::ALL {
        let path = format!("/validate-ray-io-v1-{}", kind.as_str().to_ascii_lowercase());
        let asked = Asked { kind, rules: rules.clone() };
        router = router.route(&path, post(answer).with_state(asked));
    }
    router.layer(DefaultBodyLimit::max(MOST_BODY_BYTES))
}

async fn answer(State(asked): State<Asked>, body: Bytes) -> Response {
    let request =
        serde_json::from_slice::<AdmissionReview<DynamicObject>>(&body).map_err(|error| error.to_string()).and_then(
            |review| TryInto::<AdmissionRequest<DynamicObject>>::try_into(review).map_err(|error| error.to_string()),
        );
    let (status, response) = match request {
        Ok(request) => (StatusCode::OK, review::review(asked.kind, &request, &asked.rules)),
        Err(problem) => {
            tracing::warn!("no AdmissionReview of admission.k8s.io/v1: {problem}");
            (
                StatusCode::BAD_REQUEST,
                AdmissionResponse::invalid(format!("no AdmissionReview of admission.k8s.io/v1: {problem}")),
            )
        }
    };
    match serde_json::to_vec(&response.into_review()) {
        Ok(body) => (status, [(CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

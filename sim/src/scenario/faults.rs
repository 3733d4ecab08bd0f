//! What goes wrong, and when.

use serde::Deserialize;

use crate::chance::Spread;
use crate::span::Span;

/// Something that goes wrong at a time, or again and again.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fault {
    /// When it comes first.
    #[serde(default)]
    pub at: Span,
    /// It comes again after such a time.
    #[serde(default)]
    pub every: Option<Spread>,
    /// It no longer comes after this time.
    #[serde(default)]
    pub until: Option<Span>,
    /// What.
    pub kind: FaultKind,
    /// Name (or beginning of the name) of what it happens to; without one, chance chooses.
    #[serde(default)]
    pub of: Option<String>,
    /// How long it lasts, where it does not last for ever or only a moment.
    #[serde(default)]
    pub lasts: Option<Span>,
}

/// What goes wrong.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// A Kubernetes node is gone, with all its pods.
    NodeLost,
    /// A Kubernetes node is called unhealthy and tainted; its pods go on.
    NodeUnhealthy,
    /// A worker pod is evicted.
    PodEvicted,
    /// A worker pod stays Terminating when it is deleted next.
    PodStuck,
    /// The head's Ray container ends and is started again.
    HeadLost,
    /// The operator is killed, and another one starts at once.
    OperatorKilled,
    /// The sidecar is killed, and the kubelet starts it again.
    SidecarKilled,
    /// All watches end.
    WatchesCut,
    /// All watches end, and the history is forgotten.
    HistoryLost,
    /// The API server answers nobody.
    ApiDown,
    /// The GCS answers nobody.
    GcsHangs,
    /// The GCS answers with bytes that are no message.
    GcsGarbage,
    /// No pool has capacity.
    StockOut,
    /// Images are pulled ten times as slowly.
    SlowPull,
}

impl FaultKind {
    /// Whether it goes on until it ends.
    pub fn lasts(self) -> bool {
        matches!(
            self,
            FaultKind::NodeUnhealthy
                | FaultKind::ApiDown
                | FaultKind::GcsHangs
                | FaultKind::GcsGarbage
                | FaultKind::StockOut
                | FaultKind::SlowPull
        )
    }
}

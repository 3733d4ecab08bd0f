//! What goes wrong, and when.

use serde::Deserialize;

use super::Recurrence;
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
    /// It comes so often at most.
    #[serde(default)]
    pub times: Option<u64>,
    /// What.
    pub kind: FaultKind,
    /// Name (or beginning of the name) of what it happens to; without one, chance chooses.
    #[serde(default)]
    pub of: Option<String>,
    /// How long it lasts, where it does not last for ever or only a moment.
    #[serde(default)]
    pub lasts: Option<Span>,
    /// By how much clocks step.
    #[serde(default)]
    pub by: Option<Span>,
    /// A process is killed with so many more writes on their way to the API server, instead of at once: just before the last
    /// of them is served, or just after.
    #[serde(default)]
    pub after_writes: Option<u32>,
}

impl Fault {
    /// When it comes.
    pub fn recurrence(&self) -> Recurrence {
        Recurrence { at: self.at, every: self.every, until: self.until, times: self.times }
    }
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
    /// The head's Ray container ends and is started again. With GCS fault tolerance workers wait for it; without, they end, too.
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
    /// The wall clocks of the operator and all sidecars jump ahead of the API server's.
    ClockAhead,
    /// The wall clocks of the operator and all sidecars fall behind the API server's.
    ClockBehind,
}

impl FaultKind {
    /// Whether it must be said how long it goes on.
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

    /// Whether it may be said how long it goes on.
    pub fn may_last(self) -> bool {
        self.lasts() || self.steps_clocks() || self == FaultKind::PodStuck
    }

    /// Whether it needs `by`.
    pub fn steps_clocks(self) -> bool {
        matches!(self, FaultKind::ClockAhead | FaultKind::ClockBehind)
    }

    /// Whether it ends a process that writes.
    pub fn kills(self) -> bool {
        matches!(self, FaultKind::OperatorKilled | FaultKind::SidecarKilled)
    }

    /// Whether it happens to one of several.
    pub fn has_target(self) -> bool {
        use FaultKind::{GcsGarbage, GcsHangs, HeadLost, NodeLost, NodeUnhealthy, PodEvicted, PodStuck, SidecarKilled};
        let of_one = [NodeLost, NodeUnhealthy, PodEvicted, PodStuck, HeadLost, SidecarKilled, GcsHangs, GcsGarbage];
        of_one.contains(&self)
    }
}

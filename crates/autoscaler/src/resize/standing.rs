//! Where one pod's resize stands, by what the pod itself says.

use mobula_api::{FieldError, IpprStatus, PodView, Quantity, ResizeProgress, ResizeResource};
use mobula_planner::{Amount, NodeResize};

/// A pod that was annotated as being resized is given so long, in ms, to show its new spec: the two come by separate events.
const SETTLE_MS: i64 = 2_000;
/// What is written where the kubelet gave no reason.
const FAILED: &str = "the kubelet failed to resize the pod";
const TIMED_OUT: &str = "the resize took longer than resize-timeout";

/// CPU and memory (bytes): limits, or requests where there are no limits.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Size {
    /// CPU.
    pub cpu: Quantity,
    /// Memory in bytes.
    pub memory: Quantity,
}

/// What is to be done next.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: nobody resizes it.
    Settled,
    /// Ask Kubernetes for the target.
    Ask,
    /// Kubernetes works on it, for us or for somebody else.
    Wait,
    /// Kubernetes is done: tell the raylet.
    Sync,
    /// It failed, and there is nothing to take back: keep that in mind.
    Note,
}

/// Where one pod's resize stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Standing {
    /// What it has.
    pub size: Size,
    /// What it shall have.
    pub target: Size,
    /// The annotation as it should be now.
    pub status: IpprStatus,
    pub next: Next,
}

/// Where the resize of `pod` stands at `now_ms`; `None`: its size is not known.
pub(super) fn standing(pod: &PodView, timeout_ms: i64, now_ms: i64) -> Result<Option<Standing>, FieldError> {
    let container = &pod.ray_container;
    let (Some(size), Some(wanted)) = (
        size(container.actual.cpu(), container.actual.memory()),
        size(container.wanted.cpu(), container.wanted.memory()),
    ) else {
        return Ok(None);
    };
    let status = pod.ippr_status()?.unwrap_or_default();
    let is_ours = status.resizing_at_s.is_some();
    let mut resize = Standing { size, target: wanted, status, next: Next::Settled };
    if !is_ours {
        // Somebody else's resize: it is waited for, and neither corrected nor taken back.
        if pod.resize.is_some() || wanted != size {
            resize.next = Next::Wait;
        }
        return Ok(Some(resize));
    }
    if resize.take_suggestion(pod) {
        return Ok(Some(resize));
    }
    resize.next = if pod.resize.is_none() && resize.is_done(now_ms) { Next::Sync } else { Next::Wait };
    if pod.resize.as_ref().is_some_and(|condition| condition.progress == ResizeProgress::Error) {
        resize.take_back(failure_text(pod), now_ms);
    } else if resize.next == Next::Wait && resize.is_late(timeout_ms, now_ms) {
        resize.take_back(TIMED_OUT.to_owned(), now_ms);
    }
    Ok(Some(resize))
}

fn size(cpu: Option<Quantity>, memory: Option<Quantity>) -> Option<Size> {
    Some(Size { cpu: cpu?, memory: memory? })
}

fn failure_text(pod: &PodView) -> String {
    let message = pod.resize.as_ref().map(|condition| condition.message.as_str()).unwrap_or_default();
    if message.is_empty() { FAILED.to_owned() } else { message.to_owned() }
}

impl Standing {
    /// Aims lower where the kubelet says how much could be had. Never below what the pod has: growing must not take away.
    fn take_suggestion(&mut self, pod: &PodView) -> bool {
        let Some(suggestion) = pod.resize_suggestion() else { return false };
        let (target, has) = match suggestion.resource {
            ResizeResource::Cpu => (&mut self.target.cpu, self.size.cpu),
            ResizeResource::Memory => (&mut self.target.memory, self.size.memory),
        };
        let most = largest(suggestion.max, has);
        match suggestion.resource {
            ResizeResource::Cpu => self.status.suggested_max_cpu = Some(most.as_f64()),
            ResizeResource::Memory => self.status.suggested_max_memory = Some(most.trunc_units()),
        }
        if most >= *target {
            return false;
        }
        *target = most;
        self.status.resizing_at_s = None;
        self.next = Next::Ask;
        true
    }

    fn is_done(&self, now_ms: i64) -> bool {
        let age_ms = self.status.resizing_at_s.map(|at| now_ms.saturating_sub(at.saturating_mul(1_000)));
        // A negative age is a clock that was set back: waiting for it to catch up may take for ever.
        self.target == self.size && age_ms.is_some_and(|age| !(0..SETTLE_MS).contains(&age))
    }

    fn is_late(&self, timeout_ms: i64, now_ms: i64) -> bool {
        let deadline_ms = self.status.resizing_at_s.map(|at| at.saturating_mul(1_000).saturating_add(timeout_ms));
        deadline_ms.is_some_and(|deadline| deadline < now_ms)
    }

    /// It failed for good: back to what the pod has.
    fn take_back(&mut self, reason: String, now_ms: i64) {
        let is_new = self.status.last_failed_at_s.is_none();
        if is_new {
            self.status.last_failed_at_s = Some(now_ms.div_euclid(1_000));
            self.status.last_failed_reason = Some(reason);
        }
        if self.target != self.size {
            self.target = self.size;
            self.status.resizing_at_s = None;
            self.next = Next::Ask;
        } else if is_new {
            self.status.resizing_at_s = None;
            self.next = Next::Note;
        }
    }

    /// As the planner sees it.
    pub fn node_resize(&self) -> Option<NodeResize> {
        // While nobody of ours resizes it, its Ray node says what it has.
        let ours = self.next == Next::Ask || self.status.resizing_at_s.is_some();
        let desired = |quantity: Quantity| amount(quantity).filter(|_| ours);
        Some(NodeResize {
            current_cpu: amount(self.size.cpu)?,
            current_memory: amount(self.size.memory)?,
            desired_cpu: desired(self.target.cpu),
            desired_memory: desired(self.target.memory),
            suggested_max_cpu: self.status.suggested_max_cpu.and_then(Amount::from_f64),
            suggested_max_memory: self.status.suggested_max_memory.map(Amount::from_units),
            in_progress: !matches!(self.next, Next::Settled | Next::Note),
            failed: self.status.last_failed_at_s.is_some(),
        })
    }
}

fn largest(a: Quantity, b: Quantity) -> Quantity {
    if a < b { b } else { a }
}

fn amount(quantity: Quantity) -> Option<Amount> {
    Amount::from_f64(quantity.as_f64())
}

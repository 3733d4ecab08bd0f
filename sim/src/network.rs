//! The way from a process to the API server: latencies, errors, lost connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use mobula_apiserver::{Asked, Faults, Outcome, Refusal, Verb, Verdict};
use mobula_traces::Seeded;

use crate::chance::{happens, unit};
use crate::inbox::{Inbox, News};
use crate::scenario::Network;
use crate::span::Span;
use crate::world::Process;

/// Whether the API server is down for everybody. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Outage(Arc<AtomicBool>);

impl Outage {
    /// It is down from now on, or no longer.
    pub fn set(&self, is_down: bool) {
        self.0.store(is_down, Ordering::Relaxed);
    }

    fn is_there(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Ends a process with one of its writes on the way. Clones are the same.
#[derive(Clone, Debug)]
pub struct Death {
    process: Process,
    /// Writes until then; 0: it is not meant to die.
    writes: Arc<AtomicU32>,
    inbox: Inbox,
}

/// Later than a write that is served at this time: timers are rounded up to a ms.
const JUST_AFTER: Span = Span::from_ms(1);

impl Death {
    /// Nobody dies yet.
    pub fn of(process: Process, inbox: Inbox) -> Death {
        Death { process, writes: Arc::default(), inbox }
    }

    /// The write of this number from now on is the last.
    pub fn in_writes(&self, writes: u32) {
        self.writes.store(writes, Ordering::Relaxed);
    }

    /// A write is on its way and will be served after `latency`.
    fn see(&self, asked: &Asked, latency: Span, chance: &mut Seeded) {
        let is_write = matches!(asked.verb, Verb::Create | Verb::Update | Verb::Patch | Verb::Delete)
            && !asked.resource.ends_with("reviews");
        let left = self.writes.load(Ordering::Relaxed);
        if !is_write || left == 0 {
            return;
        }
        self.writes.store(left - 1, Ordering::Relaxed);
        if left == 1 {
            let after = if unit(chance) < 0.5 { Span::ZERO } else { latency.plus(JUST_AFTER) };
            self.inbox.put(News::Dies { process: self.process.clone(), after });
        }
    }
}

/// What happens on the way, drawn from `chance`.
pub fn faults(network: &Network, outage: Outage, death: Death, mut chance: Seeded) -> impl Faults + use<> {
    let network = network.clone();
    move |asked: &Asked| {
        let latency = network.latency.draw(&mut chance);
        let half = Span::from_us(latency.as_us() / 2);
        death.see(asked, half, &mut chance);
        let outcome = if outage.is_there() {
            Outcome::Refuse(Refusal::of_code(503, "the API server is down"))
        } else if happens(&mut chance, network.errors) {
            Outcome::Refuse(Refusal::of_code(500, "etcdserver: leader changed"))
        } else if happens(&mut chance, network.losses) {
            if unit(&mut chance) < 0.5 { Outcome::Lose } else { Outcome::LoseAnswer }
        } else {
            Outcome::Serve
        };
        Verdict {
            request_latency: half.to_duration(),
            answer_latency: latency.minus(half).to_duration(),
            watch_lag: network.watch_lag.draw(&mut chance).to_duration(),
            outcome,
        }
    }
}

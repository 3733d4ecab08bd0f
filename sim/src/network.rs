//! The way from a process to the API server: latencies, errors, lost connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mobula_apiserver::{Asked, Faults, Outcome, Refusal, Verdict};
use mobula_traces::Seeded;

use crate::chance::{happens, unit};
use crate::scenario::Network;
use crate::span::Span;

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

/// What happens on the way, drawn from `chance`.
pub fn faults(network: &Network, outage: Outage, mut chance: Seeded) -> impl Faults + use<> {
    let network = network.clone();
    move |_: &Asked| {
        let latency = network.latency.draw(&mut chance);
        let half = Span::from_us(latency.as_us() / 2);
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

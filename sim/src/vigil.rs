//! Looks on while others act, and keeps the first thing that must never be: in plans, in what is written to the API server, and in what the
//! operator does to pods. Soaks ask for it; other runs go without.

mod objects;
mod pods;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mobula_apiserver::{ApiServer, Changed};
use mobula_planner::{Memory, Plan, Policy, Severity, Snapshot, lint};

use crate::clock::VirtualClock;
use objects::Objects;
use pods::Pods;

/// Clones are the same.
#[derive(Clone, Default)]
pub struct Vigil(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    broken: Option<String>,
    /// The world itself acts, not the code under test.
    is_world: bool,
    objects: Objects,
    pods: Pods,
}

impl Vigil {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first thing that must never be.
    pub fn broken(&self) -> Option<String> {
        self.lock().broken.clone()
    }

    /// From now on, sees everything that is written.
    pub fn watch(&self, server: &ApiServer, clock: VirtualClock) {
        let vigil = self.clone();
        server.observe(move |changed| vigil.lock().see(changed, clock.now_us()));
    }

    /// The same policy, each of whose plans is looked at.
    pub fn over(&self, policy: Arc<dyn Policy>) -> Arc<dyn Policy> {
        Arc::new(Watched { policy, vigil: self.clone() })
    }

    /// What is done meanwhile is done by the world.
    pub fn by_world<T>(&self, act: impl FnOnce() -> T) -> T {
        let before = std::mem::replace(&mut self.lock().is_world, true);
        let done = act();
        self.lock().is_world = before;
        done
    }
}

impl State {
    fn see(&mut self, changed: &Changed<'_>, now_us: u64) {
        if self.broken.is_some() {
            return;
        }
        let broken = self.objects.see(changed).or_else(|| self.pods.see(changed, now_us, self.is_world));
        self.broken =
            broken.map(|what| format!("{} {}/{}: {what}", changed.kind.plural, changed.namespace, changed.name));
    }
}

/// A policy of which nobody knows that somebody looks on.
struct Watched {
    policy: Arc<dyn Policy>,
    vigil: Vigil,
}

impl Policy for Watched {
    fn name(&self) -> &'static str {
        self.policy.name()
    }

    fn plan(&self, snapshot: &Snapshot, memory: &Memory) -> (Plan, Memory) {
        let (plan, memory) = self.policy.plan(snapshot, memory);
        let violation = lint(snapshot, &plan).into_iter().find(|violation| violation.severity == Severity::Error);
        if let Some(violation) = violation {
            let mut state = self.vigil.lock();
            state.broken.get_or_insert_with(|| format!("a plan of {}: {violation}", self.policy.name()));
        }
        (plan, memory)
    }
}

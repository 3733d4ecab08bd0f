//! The clock of a run: virtual, and the same for everybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use mobula_autoscaler::clock::Clock as SidecarClock;
use tokio::time::Instant;

use crate::span::Span;

/// When every simulation begins: 2026-01-01T00:00:00Z, in Unix ms.
pub const START_UNIX_MS: i64 = 1_767_225_600_000;

/// Says what time it is. Copies agree.
#[derive(Copy, Clone, Debug)]
pub struct VirtualClock {
    start: Instant,
}

impl VirtualClock {
    /// A clock that begins now. Call it inside the run's runtime.
    pub fn start() -> VirtualClock {
        VirtualClock { start: Instant::now() }
    }

    /// Time since the beginning, in µs.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The moment that is so long after the beginning.
    pub fn instant(&self, at_us: u64) -> Instant {
        self.start + Span::from_us(at_us).to_duration()
    }

    /// Unix time in ms.
    pub fn unix_ms(&self) -> i64 {
        START_UNIX_MS.saturating_add(i64::try_from(self.now_us() / 1_000).unwrap_or(i64::MAX))
    }
}

/// The wall clock of the code under test, which can be wrong. Clones agree.
#[derive(Clone, Debug)]
pub struct WallClock {
    right: VirtualClock,
    ahead_ms: Arc<AtomicI64>,
}

impl WallClock {
    /// One that is right.
    pub fn new(right: VirtualClock) -> WallClock {
        WallClock { right, ahead_ms: Arc::default() }
    }

    /// It steps forward by so much, or back.
    pub fn step(&self, by_ms: i64) {
        self.ahead_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// Unix time in ms.
    pub fn unix_ms(&self) -> i64 {
        self.right.unix_ms().saturating_add(self.ahead_ms.load(Ordering::Relaxed))
    }
}

impl SidecarClock for WallClock {
    fn now_unix_ms(&self) -> i64 {
        self.unix_ms()
    }
}

//! When something comes: once, or again and again.

use mobula_traces::Seeded;

use crate::chance::Spread;
use crate::span::Span;

/// `at`, `every`, `until` and `times` of a scenario.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Recurrence {
    /// When it comes first.
    pub at: Span,
    /// It comes again after such a time.
    pub every: Option<Spread>,
    /// It no longer comes after this time.
    pub until: Option<Span>,
    /// It comes so often at most.
    pub times: Option<u64>,
}

impl Recurrence {
    /// Whether it still comes for the time number `number`, counted from 0, at `now_us`.
    pub fn comes(&self, now_us: u64, number: u64) -> bool {
        self.until.is_none_or(|until| now_us <= until.as_us()) && self.times.is_none_or(|times| number < times)
    }

    /// When it comes again, in µs.
    pub fn again_us(&self, now_us: u64, chance: &mut Seeded) -> Option<u64> {
        let gap_us = self.every?.draw(chance).as_us().max(1);
        Some(now_us.saturating_add(gap_us))
    }

    /// When it comes last; for ever is the end of time.
    pub fn last(&self) -> Span {
        match self.every {
            None => self.at,
            Some(_) => self.until.unwrap_or(Span::from_us(u64::MAX)).max(self.at),
        }
    }

    /// Which field is wrong, and how.
    pub(super) fn problem(&self) -> Option<(&'static str, &'static str)> {
        let is_once = self.every.is_none();
        match self {
            Recurrence { every: Some(every), .. } if every.mean_s() <= 0.0 => Some(("every", "must be above 0")),
            Recurrence { until: Some(_), .. } if is_once => Some(("until", "means nothing without `every`")),
            Recurrence { times: Some(_), .. } if is_once => Some(("times", "means nothing without `every`")),
            Recurrence { times: Some(0), .. } => Some(("times", "must be 1 or more")),
            _ => None,
        }
    }
}

//! Work from a trace: one job a row, in one of the forms of [`mobula_traces::jobs`].

use std::sync::Arc;

use mobula_traces::jobs::{self, Form, Job};
use serde::Deserialize;

use super::read::{BadScenario, Files, Place};
use super::{At, Scenario};
use crate::span::Span;

/// A trace.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Trace {
    /// The file, relative to the directory of traces or to the scenario.
    pub file: String,
    /// `mobula`, `openb` or `philly`.
    #[serde(default = "own_form")]
    pub form: String,
    /// `NAME` or `NAMESPACE/NAME` of the RayCluster; needed where there are several.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Jobs that come before this time of the trace are left out; it is the beginning of the simulation.
    #[serde(default)]
    pub from: Span,
    /// Jobs that come later in the trace are left out.
    #[serde(default)]
    pub until: Option<Span>,
    /// In placement mode: who goes first.
    #[serde(default)]
    pub queue: QueueOrder,
}

fn own_form() -> String {
    "mobula".to_owned()
}

/// Who goes first in placement mode.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueOrder {
    /// Whoever fits, in order of priority and arrival.
    #[default]
    Backfill,
    /// In order; if the first does not fit, all wait.
    Fifo,
}

/// The jobs of the scenario's trace.
pub(super) fn read(scenario: &Scenario, files: &Files<'_>, place: &Place<'_>) -> Result<Arc<Vec<Job>>, BadScenario> {
    let Some(trace) = &scenario.trace else { return Ok(Arc::default()) };
    let At { value: Trace { file, form, from, until, .. }, .. } = trace;
    let Some(known) = Form::by_name(form) else {
        let names = Form::ALL.map(|(name, _)| name).join(", ");
        return Err(place.bad(trace, "trace.form", format!("{form}: unknown: must be one of {names}")));
    };
    let bytes = files(file).map_err(|problem| place.bad(trace, "trace.file", format!("{file}: {problem}")))?;
    let jobs = jobs::read(known, &bytes);
    let jobs = jobs.map_err(|problem| place.bad(trace, "trace.file", format!("{file}: {problem}")))?;
    let (from_ms, until_ms) = (from.as_us() / 1_000, until.map_or(u64::MAX, |until| until.as_us() / 1_000));
    let kept = jobs.into_iter().filter(|job| (from_ms..=until_ms).contains(&job.arrival_ms));
    let kept: Vec<Job> = kept.map(|job| Job { arrival_ms: job.arrival_ms - from_ms, ..job }).collect();
    if kept.is_empty() {
        return Err(place.bad(trace, "trace", format!("{file}: no job comes within from and until")));
    }
    Ok(Arc::new(kept))
}

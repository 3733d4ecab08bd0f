//! What is counted and measured, in the text format that Prometheus scrapes.
//!
//! The names in [`ray`] are those of Ray's Python autoscaler, with its `_created` series and its `SessionName` label, so
//! that dashboards made for it go on working; the names in [`own`] are ours.

pub mod own;
pub mod ray;
mod text;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;

/// What a metric is.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Kind {
    /// Only grows. `created`: with a `_created` series, as Python's client library writes it.
    Counter {
        /// Whether a `_created` series is shown.
        created: bool,
    },
    /// Goes up and down.
    Gauge,
    /// Durations in seconds, shown as quantiles, sum and count.
    Summary,
    /// Durations in seconds in fixed buckets, as Python's client library writes it.
    Histogram {
        /// Upper bounds in seconds.
        bounds_s: &'static [f64],
    },
}

/// Name, kind and explanation of a metric.
#[derive(Debug)]
pub struct Descriptor {
    /// Full name (counters without `_total`).
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// What it is.
    pub kind: Kind,
}

/// Label names and values, in the order in which they are shown.
pub type LabelPairs = Vec<(&'static str, Cow<'static, str>)>;

/// All metrics of one process. Cheap to write; read only when scraped.
#[derive(Debug)]
pub struct Metrics {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    started_unix_ms: i64,
    session_name: String,
    families: BTreeMap<Id, Family>,
}

/// Address of a descriptor, which is static: quicker to compare than its name.
type Id = usize;

fn id(descriptor: &'static Descriptor) -> Id {
    std::ptr::from_ref(descriptor).addr()
}

#[derive(Debug)]
struct Family {
    descriptor: &'static Descriptor,
    series: BTreeMap<LabelPairs, Value>,
}

#[derive(Debug)]
enum Value {
    Number(f64),
    Durations(Box<Durations>),
}

/// Quantiles of the last few thousand durations; sum and count of all.
#[derive(Debug)]
struct Durations {
    current: Histogram<u32>,
    previous: Histogram<u32>,
    sum_s: f64,
    count: u64,
}

impl Durations {
    /// Longest duration told apart: 10 minutes, in µs.
    const MOST_MICROS: u64 = 600_000_000;
    /// After so many the older half is forgotten.
    const WINDOW: u64 = 4_096;

    fn new() -> Option<Self> {
        let empty = Histogram::new_with_bounds(1, Self::MOST_MICROS, 2).ok()?;
        Some(Durations { current: empty.clone(), previous: empty, sum_s: 0.0, count: 0 })
    }

    fn record(&mut self, duration: Duration) {
        if self.current.len() >= Self::WINDOW {
            std::mem::swap(&mut self.current, &mut self.previous);
            self.current.reset();
        }
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.current.saturating_record(micros.clamp(1, Self::MOST_MICROS));
        self.sum_s += duration.as_secs_f64();
        self.count += 1;
    }

    fn quantiles_s(&self) -> Option<[(f64, f64); 4]> {
        let mut all = self.previous.clone();
        all.add(&self.current).ok()?;
        Some([0.5, 0.9, 0.99, 1.0].map(|q| (q, all.value_at_quantile(q) as f64 / 1e6)))
    }
}

impl Metrics {
    /// Ray's metrics at zero, ours absent until they happen.
    pub fn new(started_unix_ms: i64) -> Self {
        let mut families = BTreeMap::new();
        for descriptor in ray::ALL {
            let mut series = BTreeMap::new();
            if ray::shown_from_the_start(descriptor) {
                series.insert(LabelPairs::new(), Value::Number(0.0));
            }
            families.insert(id(descriptor), Family { descriptor, series });
        }
        Metrics { state: Mutex::new(State { started_unix_ms, session_name: String::new(), families }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Numbers stay usable whatever happened to another thread.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value of Ray's `SessionName` label.
    pub fn set_session_name(&self, session_name: &str) {
        let mut state = self.lock();
        if state.session_name != session_name {
            session_name.clone_into(&mut state.session_name);
        }
    }

    /// Adds to a counter.
    pub fn add(&self, descriptor: &'static Descriptor, labels: LabelPairs, by: u64) {
        self.lock().number(descriptor, labels, |value| *value += by as f64);
    }

    /// Sets a gauge.
    pub fn set(&self, descriptor: &'static Descriptor, labels: LabelPairs, to: f64) {
        self.lock().number(descriptor, labels, |value| *value = to);
    }

    /// Sets all series of a gauge at once: those that are not named disappear.
    pub fn set_all(&self, descriptor: &'static Descriptor, values: impl IntoIterator<Item = (LabelPairs, f64)>) {
        let series = values.into_iter().map(|(labels, value)| (labels, Value::Number(value))).collect();
        self.lock().families.insert(id(descriptor), Family { descriptor, series });
    }

    /// Adds a duration to a summary.
    pub fn observe(&self, descriptor: &'static Descriptor, labels: LabelPairs, duration: Duration) {
        let mut state = self.lock();
        let series = state.series(descriptor);
        if let Some(Value::Durations(durations)) = series.get_mut(&labels) {
            durations.record(duration);
        } else if let Some(mut durations) = Durations::new() {
            durations.record(duration);
            series.insert(labels, Value::Durations(Box::new(durations)));
        }
    }

    /// The value of a counter or gauge; 0 if it never happened.
    pub fn value(&self, descriptor: &'static Descriptor, labels: &LabelPairs) -> f64 {
        match self.lock().families.get(&id(descriptor)).and_then(|family| family.series.get(labels)) {
            Some(Value::Number(number)) => *number,
            _ => 0.0,
        }
    }

    /// How many durations a summary has seen.
    pub fn count(&self, descriptor: &'static Descriptor, labels: &LabelPairs) -> u64 {
        match self.lock().families.get(&id(descriptor)).and_then(|family| family.series.get(labels)) {
            Some(Value::Durations(durations)) => durations.count,
            _ => 0,
        }
    }

    /// Everything, in Prometheus' text format (version 0.0.4).
    pub fn render(&self) -> String {
        text::render(&self.lock())
    }
}

impl State {
    fn series(&mut self, descriptor: &'static Descriptor) -> &mut BTreeMap<LabelPairs, Value> {
        &mut self
            .families
            .entry(id(descriptor))
            .or_insert_with(|| Family { descriptor, series: BTreeMap::new() })
            .series
    }

    fn number(&mut self, descriptor: &'static Descriptor, labels: LabelPairs, change: impl FnOnce(&mut f64)) {
        if let Value::Number(number) = self.series(descriptor).entry(labels).or_insert(Value::Number(0.0)) {
            change(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ray_names_are_shown_before_anything_happened() {
        let metrics = Metrics::new(1_500);
        metrics.set_session_name("session_1");
        let text = metrics.render();
        assert!(text.contains("autoscaler_stopped_nodes_total{SessionName=\"session_1\"} 0\n"), "{text}");
        assert!(text.contains("autoscaler_stopped_nodes_created{SessionName=\"session_1\"} 1.5\n"), "{text}");
        assert!(text.contains("autoscaler_update_time_seconds_bucket{SessionName=\"session_1\",le=\"+Inf\"} 0\n"));
    }

    #[test]
    fn series_that_are_gone_are_not_shown() {
        let metrics = Metrics::new(0);
        let label = |group: &str| vec![("NodeType", group.to_owned().into())];
        metrics.set_all(&ray::ACTIVE_NODES, [(label("a"), 1.0), (label("b"), 2.0)]);
        metrics.set_all(&ray::ACTIVE_NODES, [(label("b"), 3.0)]);
        let text = metrics.render();
        assert!(!text.contains("NodeType=\"a\""));
        assert!(text.contains("autoscaler_active_nodes{NodeType=\"b\",SessionName=\"\"} 3\n"), "{text}");
    }

    #[test]
    fn quantiles_are_close_to_what_was_recorded() {
        let metrics = Metrics::new(0);
        for ms in 1..=100 {
            metrics.observe(&own::GCS_SECONDS, vec![("call", "x".into())], Duration::from_millis(ms));
        }
        let text = metrics.render();
        let line = text.lines().find(|l| l.contains("quantile=\"0.5\"")).unwrap_or_default().to_owned();
        let median: f64 = line.rsplit(' ').next().and_then(|v| v.parse().ok()).unwrap_or_default();
        assert!((0.049..0.052).contains(&median), "{line}");
        assert!(text.contains("mobula_gcs_request_seconds_count{call=\"x\"} 100\n"), "{text}");
    }

    #[test]
    fn hostile_label_values_are_escaped() {
        let metrics = Metrics::new(0);
        metrics.add(&own::ERRORS, vec![("source", "a\"b\\c\nd".into())], 1);
        assert!(metrics.render().contains(r#"source="a\"b\\c\nd""#));
    }
}

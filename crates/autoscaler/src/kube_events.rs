//! Kubernetes Events on the RayCluster, where RBAC permits: the same lines that Ray's drivers are told.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::events::{EventLine, Severity};

/// A warning that goes on is said again after this time.
const REPEAT: Duration = Duration::from_secs(600);
/// Longest note that the API server takes.
const MAX_NOTE_BYTES: usize = 1024;
/// Most Events that wait to be sent.
const MAX_WAITING: usize = 100;

/// Who says it, and of what.
#[derive(Clone, Debug, Default)]
pub struct Regarding {
    /// API version in `ray.io/<version>`.
    pub crd_version: String,
    /// Namespace of the RayCluster.
    pub namespace: String,
    /// Name of the RayCluster.
    pub name: String,
    /// Its unique id.
    pub uid: String,
    /// The pod that we run in.
    pub instance: String,
}

/// Lines that wait to become Events. A warning that goes on becomes one only now and then.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<EventLine>,
    /// Topic of a warning and when it was taken in.
    warned: BTreeMap<String, Instant>,
}

impl Outbox {
    /// Takes in the lines of a tick.
    pub fn push(&mut self, lines: &[EventLine]) {
        self.warned.retain(|_, at| at.elapsed() < REPEAT);
        for line in lines {
            let is_repeated = line.severity == Severity::Warning && self.warned.contains_key(&line.topic);
            if is_repeated || self.waiting.len() >= MAX_WAITING {
                continue;
            }
            if line.severity == Severity::Warning {
                self.warned.insert(line.topic.clone(), Instant::now());
            }
            self.waiting.push_back(line.clone());
        }
    }

    /// Whether there is nothing to be sent.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Gives out the line that has waited longest.
    pub fn take_oldest(&mut self) -> Option<EventLine> {
        self.waiting.pop_front()
    }
}

/// The Event of a line, said at Unix time `now_ms`.
pub fn event(line: &EventLine, regarding: &Regarding, now_ms: i64) -> Value {
    let (kind, reason) = match line.severity {
        Severity::Warning => ("Warning", "DemandNotServed"),
        Severity::Info => ("Normal", "Scaled"),
    };
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": format!("{}-", regarding.name), "namespace": regarding.namespace},
        "eventTime": MicroTime(Timestamp::from_millisecond(now_ms).unwrap_or(Timestamp::UNIX_EPOCH)),
        "reportingController": "mobula.dev/sidecar",
        "reportingInstance": if regarding.instance.is_empty() { "mobula" } else { &regarding.instance },
        "action": "Scale",
        "reason": reason,
        "type": kind,
        "note": shortened(&line.message),
        "regarding": {
            "apiVersion": format!("ray.io/{}", regarding.crd_version),
            "kind": "RayCluster",
            "namespace": regarding.namespace,
            "name": regarding.name,
            "uid": regarding.uid,
        },
    })
}

fn shortened(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_NOTE_BYTES)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(severity: Severity, message: &str) -> EventLine {
        EventLine { severity, message: message.into(), topic: message.into() }
    }

    fn all(outbox: &mut Outbox) -> Vec<EventLine> {
        std::iter::from_fn(|| outbox.take_oldest()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_warning_that_goes_on_is_said_now_and_then() {
        let mut outbox = Outbox::default();
        let warning = [line(Severity::Warning, "no group fits")];
        outbox.push(&warning);
        outbox.push(&warning);
        assert_eq!(all(&mut outbox), warning);
        tokio::time::advance(REPEAT).await;
        outbox.push(&warning);
        assert_eq!(all(&mut outbox).len(), 1);
    }

    #[tokio::test]
    async fn what_was_done_is_said_each_time() {
        let mut outbox = Outbox::default();
        let done = line(Severity::Info, "Adding 1 node(s) of type g.");
        outbox.push(&[done.clone(), done.clone()]);
        assert_eq!(all(&mut outbox), [done.clone(), done]);
    }

    #[test]
    fn an_event_names_the_cluster_and_fits() {
        let regarding =
            Regarding { crd_version: "v1".into(), name: "a".into(), uid: "u".into(), ..Regarding::default() };
        let event = event(&line(Severity::Warning, &"ü".repeat(2_000)), &regarding, 1_767_225_600_123);
        assert_eq!(event["eventTime"], "2026-01-01T00:00:00.123000Z");
        assert_eq!(event["regarding"]["uid"], "u");
        assert!(event["note"].as_str().is_some_and(|note| note.len() <= MAX_NOTE_BYTES && !note.is_empty()));
    }
}

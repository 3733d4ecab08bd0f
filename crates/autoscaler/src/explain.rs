//! Reasons of a plan as one annotation: small enough for the RayCluster, and the most important first.

use mobula_api::keys;
use mobula_planner::{Plan, Reason, UnmetCause, Verdict};
use serde::Serialize;

/// Name of the annotation.
pub const ANNOTATION: &str = keys::EXPLAIN;
/// Most bytes of its value.
pub const MAX_BYTES: usize = 4096;
/// Longest text of one reason in bytes: one long reason must not push out all others.
const MAX_TEXT_BYTES: usize = 600;

#[derive(Serialize)]
struct Annotation<'a> {
    policy: &'a str,
    at_ms: i64,
    reasons: Vec<Entry>,
    /// Reasons that did not fit.
    omitted: usize,
}

#[derive(Serialize, Clone)]
struct Entry {
    subject: String,
    verdict: Verdict,
    text: String,
}

/// The annotation's value: JSON `{policy, at_ms, reasons: [{subject, verdict, text}], omitted}` of at most [`MAX_BYTES`].
///
/// What can never be served comes first, then what waits, then what ends, starts, is resized, stays, and what fits; within
/// these in the plan's own order.
pub fn annotation(plan: &Plan, now_ms: i64) -> String {
    let mut reasons: Vec<&Reason> = plan.explain.iter().collect();
    reasons.sort_by_key(|reason| rank(plan, reason));
    let entries: Vec<Entry> = reasons.into_iter().map(entry).collect();
    // The longest prefix that fits: every entry costs at least its own JSON and a comma.
    let empty = render(plan, now_ms, &[], entries.len());
    let mut left = MAX_BYTES.saturating_sub(empty.len());
    let fits = |entry: &&Entry| {
        let cost = serde_json::to_string(entry).map_or(usize::MAX, |json| json.len() + 1);
        let room = cost <= left;
        left = left.saturating_sub(cost);
        room
    };
    let shown = entries.iter().take_while(fits).count();
    render(plan, now_ms, entries.get(..shown).unwrap_or_default(), entries.len() - shown)
}

fn render(plan: &Plan, at_ms: i64, entries: &[Entry], omitted: usize) -> String {
    let annotation = Annotation { policy: &plan.policy, at_ms, reasons: entries.to_vec(), omitted };
    // Strings and integers only: there is always a JSON form.
    serde_json::to_string(&annotation).unwrap_or_default()
}

fn rank(plan: &Plan, reason: &Reason) -> u8 {
    match reason.verdict {
        Verdict::Unmet if plan.unmet.iter().any(|u| u.cause == UnmetCause::NeverFits && u.reason == reason.text) => 0,
        Verdict::Unmet => 1,
        Verdict::Terminate => 2,
        Verdict::Launch => 3,
        Verdict::Resize => 4,
        Verdict::Keep => 5,
        Verdict::Fits => 6,
    }
}

fn entry(reason: &Reason) -> Entry {
    Entry { subject: shortened(&reason.subject), verdict: reason.verdict, text: shortened(&reason.text) }
}

fn shortened(text: &str) -> String {
    if text.len() <= MAX_TEXT_BYTES {
        return text.to_owned();
    }
    let mut end = MAX_TEXT_BYTES;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn reason(subject: &str, verdict: Verdict, text: impl Into<String>) -> Reason {
        Reason { subject: subject.to_owned(), verdict, text: text.into() }
    }

    fn read(plan: &Plan) -> (Value, usize) {
        let json = annotation(plan, 1000);
        (serde_json::from_str(&json).unwrap(), json.len())
    }

    #[test]
    fn what_is_unmet_comes_before_what_fits() {
        let explain = vec![
            reason("demand {CPU: 1}", Verdict::Fits, "fits"),
            reason("node a", Verdict::Terminate, "idle"),
            reason("demand {CPU: 99}", Verdict::Unmet, "never"),
        ];
        let (value, _) = read(&Plan { policy: "ray-v2".into(), explain, ..Plan::default() });
        let subjects: Vec<&str> =
            value["reasons"].as_array().unwrap().iter().map(|r| r["subject"].as_str().unwrap()).collect();
        assert_eq!(subjects, ["demand {CPU: 99}", "node a", "demand {CPU: 1}"]);
        assert_eq!(value["omitted"], 0);
    }

    #[test]
    fn thousands_of_reasons_are_cut_at_four_kib_and_counted() {
        let explain: Vec<Reason> =
            (0..5000).map(|i| reason(&format!("node \"{i}\""), Verdict::Keep, "still needed: é")).collect();
        let (value, length) = read(&Plan { explain, ..Plan::default() });
        let shown = value["reasons"].as_array().unwrap().len();
        assert!(length <= MAX_BYTES && length > MAX_BYTES - 200, "{length}");
        assert_eq!(value["omitted"], 5000 - shown);
    }

    #[test]
    fn one_huge_reason_leaves_room_for_others() {
        let explain = vec![reason("a", Verdict::Unmet, "é".repeat(10_000)), reason("b", Verdict::Unmet, "short")];
        let (value, length) = read(&Plan { explain, ..Plan::default() });
        assert!(length <= MAX_BYTES);
        assert_eq!(value["reasons"][1]["subject"], "b");
    }
}

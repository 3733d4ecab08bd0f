//! Prometheus' text format.

use std::fmt::Write;

use super::{Durations, Family, Kind, LabelPairs, State, Value, ray};

pub(super) fn render(state: &State) -> String {
    let mut out = String::with_capacity(16 * 1024);
    let mut families: Vec<&Family> = state.families.values().collect();
    families.sort_by_key(|family| family.descriptor.name);
    for family in families {
        // Writing to a String can't fail.
        let _ = family_text(&mut out, state, family);
    }
    out
}

fn family_text(out: &mut String, state: &State, family: &Family) -> std::fmt::Result {
    let descriptor = family.descriptor;
    let (name, help) = (descriptor.name, descriptor.help);
    let session = ray::is_ray(descriptor).then_some(state.session_name.as_str());
    let created_s = state.started_unix_ms as f64 / 1e3;
    match descriptor.kind {
        Kind::Gauge => {
            header(out, name, help, "gauge")?;
            for (labels, value) in &family.series {
                sample(out, name, &label_text(labels, session, None), number(value))?;
            }
        }
        Kind::Counter { created } => {
            let total = format!("{name}_total");
            header(out, &total, help, "counter")?;
            for (labels, value) in &family.series {
                sample(out, &total, &label_text(labels, session, None), number(value))?;
            }
            if created {
                created_text(out, name, help, &label_text(&Vec::new(), session, None), created_s)?;
            }
        }
        Kind::Summary => {
            header(out, name, help, "summary")?;
            for (labels, value) in &family.series {
                if let Value::Durations(durations) = value {
                    summary_text(out, name, labels, session, durations)?;
                }
            }
        }
        Kind::Histogram { bounds_s } => {
            header(out, name, help, "histogram")?;
            let bounds = bounds_s.iter().map(|bound| format!("{bound:?}")).chain(["+Inf".to_owned()]);
            for bound in bounds {
                let labels = label_text(&Vec::new(), session, Some(("le", &bound)));
                sample(out, &format!("{name}_bucket"), &labels, 0.0)?;
            }
            let labels = label_text(&Vec::new(), session, None);
            sample(out, &format!("{name}_count"), &labels, 0.0)?;
            sample(out, &format!("{name}_sum"), &labels, 0.0)?;
            created_text(out, name, help, &labels, created_s)?;
        }
    }
    Ok(())
}

fn header(out: &mut String, name: &str, help: &str, kind: &str) -> std::fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

fn sample(out: &mut String, name: &str, labels: &str, value: f64) -> std::fmt::Result {
    writeln!(out, "{name}{labels} {value}")
}

fn created_text(out: &mut String, name: &str, help: &str, labels: &str, created_s: f64) -> std::fmt::Result {
    let created = format!("{name}_created");
    header(out, &created, help, "gauge")?;
    sample(out, &created, labels, created_s)
}

fn summary_text(
    out: &mut String,
    name: &str,
    labels: &LabelPairs,
    session: Option<&str>,
    durations: &Durations,
) -> std::fmt::Result {
    for (quantile, seconds) in durations.quantiles_s().into_iter().flatten() {
        let quantile = quantile.to_string();
        sample(out, name, &label_text(labels, session, Some(("quantile", &quantile))), seconds)?;
    }
    let labels = label_text(labels, session, None);
    sample(out, &format!("{name}_sum"), &labels, durations.sum_s)?;
    sample(out, &format!("{name}_count"), &labels, durations.count as f64)
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Number(number) => *number,
        Value::Durations(durations) => durations.sum_s,
    }
}

/// Labels in braces; Ray's are sorted with `SessionName` among them, upper case first.
fn label_text(labels: &LabelPairs, session: Option<&str>, extra: Option<(&str, &str)>) -> String {
    let own = labels.iter().map(|(name, value)| (*name, &**value));
    let mut all: Vec<(&str, &str)> = own.chain(session.map(|value| ("SessionName", value))).collect();
    all.sort_unstable();
    all.extend(extra);
    if all.is_empty() {
        return String::new();
    }
    let pairs: Vec<String> = all.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

//! Requests and nodes in words, for reasons.

use crate::{Gang, GangStrategy, LabelConstraint, LabelOperator, LabelSelector, Request, Resources};

/// `{CPU: 1, memory: 4 GiB}`, and the labels if any are asked for.
pub(crate) fn request(request: &Request) -> String {
    let labels = request.selectors.iter().filter(|selector| !selector.constraints.is_empty()).map(selector);
    let labels: Vec<String> = labels.collect();
    let shape = resources(&request.resources);
    if labels.is_empty() { shape } else { format!("{shape} where {}", labels.join(", or else ")) }
}

/// `{CPU: 1, memory: 4 GiB}`.
pub(crate) fn resources(resources: &Resources) -> String {
    let mut text = String::with_capacity(48);
    for (name, units) in resources {
        text += if text.is_empty() { "{" } else { ", " };
        text += name;
        text += ": ";
        push_amount(&mut text, name, units.as_f64());
    }
    text + if resources.is_empty() { "{}" } else { "}" }
}

/// An amount; bytes in a unit that people can read.
pub(crate) fn amount(resource: &str, units: f64) -> String {
    let mut text = String::new();
    push_amount(&mut text, resource, units);
    text
}

fn push_amount(text: &mut String, resource: &str, units: f64) {
    const KIB: f64 = 1024.0;
    let in_bytes = matches!(resource, "memory" | "object_store_memory");
    let unit = [("GiB", KIB * KIB * KIB), ("MiB", KIB * KIB)].into_iter().find(|(_, size)| in_bytes && units >= *size);
    match unit {
        Some((unit, size)) => {
            push_number(text, (units / size * 100.0).round() / 100.0);
            text.push(' ');
            *text += unit;
        }
        None => push_number(text, units),
    }
}

/// Mostly it is a whole number, which is written sooner.
fn push_number(text: &mut String, number: f64) {
    const EXACT: f64 = 9e15;
    let is_whole = number.fract() == 0.0 && number > 0.0 && number < EXACT;
    match is_whole {
        true => push_count(text, number as u64),
        false => *text += &number.to_string(),
    }
}

/// `zone in (a, b) and market not in (spot)`.
pub(crate) fn selector(selector: &LabelSelector) -> String {
    let parts: Vec<String> = selector.constraints.iter().map(condition).collect();
    if parts.is_empty() { "any label".to_owned() } else { parts.join(" and ") }
}

fn condition(constraint: &LabelConstraint) -> String {
    let values = constraint.values.join(", ");
    match constraint.operator {
        LabelOperator::In => format!("{} in ({values})", constraint.key),
        LabelOperator::NotIn => format!("{} not in ({values})", constraint.key),
        LabelOperator::Unknown => format!("{} compares in a way this version does not know", constraint.key),
    }
}

/// What a gang is called where its reasons are listed.
pub(crate) fn gang(gang: &Gang) -> String {
    let strategy = match gang.strategy {
        GangStrategy::Pack => "PACK",
        GangStrategy::Spread => "SPREAD",
        GangStrategy::StrictPack => "STRICT_PACK",
        GangStrategy::StrictSpread => "STRICT_SPREAD",
    };
    let id = if gang.id.is_empty() { "without id" } else { &gang.id };
    let mut text = String::with_capacity(id.len() + 40);
    ["gang ", id, " (", strategy, ", "].into_iter().for_each(|part| text += part);
    push_counted(&mut text, gang.bundles.len() as u64, "bundle");
    text + ")"
}

/// `1 node`, `2 nodes`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    let mut text = String::with_capacity(noun.len() + 8);
    push_counted(&mut text, count, noun);
    text
}

fn push_counted(text: &mut String, count: u64, noun: &str) {
    push_count(text, count);
    text.push(' ');
    *text += noun;
    *text += if count == 1 { "" } else { "s" };
}

/// A whole number, without the machinery of formatting: there are thousands in a large plan.
pub(crate) fn push_count(text: &mut String, count: u64) {
    if count >= 10 {
        push_count(text, count / 10);
    }
    text.push(char::from(b'0' + (count % 10) as u8));
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn list(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// An amount of money, in whatever currency prices are.
pub(crate) fn money(amount: f64) -> String {
    format!("{}", (amount * 100.0).round() / 100.0)
}

/// A duration in seconds, without more digits than it has.
pub(crate) fn seconds(ms: i64) -> String {
    format!("{} s", ms as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Amount;

    #[test]
    fn shapes_are_readable() {
        let amounts = [("CPU", Amount::from_steps(5_000)), ("memory", Amount::from_units(3 << 29))];
        let resources = amounts.map(|(name, amount)| (name.to_owned(), amount)).into();
        let zone = |values: &[&str], operator| LabelSelector {
            constraints: vec![LabelConstraint {
                key: "zone".into(),
                operator,
                values: values.iter().map(|value| (*value).to_owned()).collect(),
            }],
        };
        let selectors = vec![zone(&["a", "b"], LabelOperator::In), zone(&["c"], LabelOperator::NotIn)];
        let asked = Request { resources: Arc::new(resources), selectors, placement: vec![] };
        let expected = "{CPU: 0.5, memory: 1.5 GiB} where zone in (a, b), or else zone not in (c)";
        assert_eq!(request(&asked), expected);
    }

    #[test]
    fn lists_read_as_english() {
        let parts = ["1 task", "2 gangs", "a floor"].map(str::to_owned);
        assert_eq!(list(&parts), "1 task, 2 gangs and a floor");
        assert_eq!(list(&parts[..1]), "1 task");
        assert_eq!(counted(1, "node") + &counted(2, " node"), "1 node2  nodes");
    }
}

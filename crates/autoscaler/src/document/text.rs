//! Short words for resources, selectors and demand, for people.

use mobula_planner::{Amount, Gang, GangStrategy, LabelConstraint, LabelOperator, LabelSelector, Request, Resources};

/// One GiB in bytes.
const GIB: f64 = 1_073_741_824.0;

/// An amount of a resource: bytes in GiB, everything else as a number.
pub fn amount(name: &str, amount: Amount) -> String {
    let units = amount.as_f64();
    if matches!(name, "memory" | "object_store_memory") && units >= GIB / 100.0 {
        let gib = format!("{:.2}", units / GIB);
        format!("{} GiB", gib.trim_end_matches('0').trim_end_matches('.'))
    } else {
        units.to_string()
    }
}

/// `{CPU: 4, memory: 7.45 GiB}`.
pub fn resources(resources: &Resources) -> String {
    let entries: Vec<String> =
        resources.iter().map(|(name, units)| format!("{name}: {}", amount(name, *units))).collect();
    format!("{{{}}}", entries.join(", "))
}

/// `rack in (r1, r2), zone not in (z9)`; `any node` without conditions.
pub fn selector(selector: &LabelSelector) -> String {
    if selector.constraints.is_empty() {
        return "any node".to_owned();
    }
    let conditions: Vec<String> = selector.constraints.iter().map(constraint).collect();
    conditions.join(", ")
}

fn constraint(constraint: &LabelConstraint) -> String {
    let operator = match constraint.operator {
        LabelOperator::In => "in",
        LabelOperator::NotIn => "not in",
        LabelOperator::Unknown => "compared in an unknown way with",
    };
    format!("{} {operator} ({})", constraint.key, constraint.values.join(", "))
}

/// Resources and, where there are any, label conditions: `{CPU: 1} where rack in (r1), else any node`.
pub fn request(request: &Request) -> String {
    let shape = resources(&request.resources);
    if request.selectors.iter().all(|selector| selector.constraints.is_empty()) {
        return shape;
    }
    let alternatives: Vec<String> = request.selectors.iter().map(selector).collect();
    format!("{shape} where {}", alternatives.join(", else "))
}

/// `STRICT_SPREAD of 4: 4 x {GPU: 8}`; equal neighbouring bundles are counted.
pub fn gang(gang: &Gang) -> String {
    let mut runs: Vec<(usize, &Request)> = Vec::new();
    for bundle in &gang.bundles {
        match runs.last_mut() {
            Some((count, same)) if *same == bundle => *count += 1,
            _ => runs.push((1, bundle)),
        }
    }
    let bundles: Vec<String> = runs.iter().map(|(count, bundle)| format!("{count} x {}", request(bundle))).collect();
    format!("{} of {}: {}", strategy(gang.strategy), gang.bundles.len(), bundles.join(", "))
}

/// Ray's own word for a strategy.
pub fn strategy(strategy: GangStrategy) -> &'static str {
    match strategy {
        GangStrategy::Pack => "PACK",
        GangStrategy::Spread => "SPREAD",
        GangStrategy::StrictPack => "STRICT_PACK",
        GangStrategy::StrictSpread => "STRICT_SPREAD",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn cpu(units: i64) -> Request {
        Request { resources: Arc::new([("CPU".to_owned(), Amount::from_units(units))].into()), ..Request::default() }
    }

    #[test]
    fn bytes_are_shown_in_gib_and_tags_as_they_are() {
        assert_eq!(amount("memory", Amount::from_units(8 << 30)), "8 GiB");
        assert_eq!(amount("memory", Amount::from_units(1_610_612_736)), "1.5 GiB");
        assert_eq!(amount("memory", Amount::from_units(100)), "100");
        assert_eq!(amount("accelerator_type:H200", Amount::from_steps(10)), "0.001");
    }

    #[test]
    fn equal_bundles_of_a_gang_are_counted() {
        let spread =
            Gang { strategy: GangStrategy::StrictSpread, bundles: vec![cpu(1), cpu(1), cpu(2)], ..Gang::default() };
        assert_eq!(gang(&spread), "STRICT_SPREAD of 3: 2 x {CPU: 1}, 1 x {CPU: 2}");
    }

    #[test]
    fn fall_backs_are_shown_in_order() {
        let rack = LabelConstraint {
            key: "rack".into(),
            operator: LabelOperator::NotIn,
            values: vec!["r1".into(), "r2".into()],
        };
        let selectors = vec![LabelSelector { constraints: vec![rack] }, LabelSelector::default()];
        let request_with_labels = Request { selectors, ..cpu(1) };
        assert_eq!(request(&request_with_labels), "{CPU: 1} where rack not in (r1, r2), else any node");
    }
}

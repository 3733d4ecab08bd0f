//! What the spec asks for in all, as the status shows it.

use std::collections::BTreeMap;

use mobula_api::{Quantity, RayCluster};
use serde_json::Value;

use super::children::is_gpu;

/// Pods and resources that the spec asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Totals {
    /// Worker pods: wanted, least, most.
    pub(super) wanted: i64,
    pub(super) least: i64,
    pub(super) most: i64,
    /// CPU, memory, GPUs, TPUs.
    pub(super) cpu: Quantity,
    pub(super) memory: Quantity,
    pub(super) gpu: Quantity,
    pub(super) tpu: Quantity,
}

/// Sums the spec up as KubeRay does: suspended groups count nothing, the resources of containers are requests, else limits.
pub(super) fn of(cluster: &RayCluster) -> Totals {
    let mut totals = Totals::default();
    totals.add(&pod_resources(&cluster.spec.head_group_spec.template), 1);
    for group in cluster.spec.worker_group_specs.iter().filter(|group| group.suspend != Some(true)) {
        let hosts = group.num_of_hosts.unwrap_or(1).max(0);
        let (least, most) = (group.min_replicas.unwrap_or(0), group.max_replicas.unwrap_or(i32::MAX.into()));
        let replicas = group.replicas.unwrap_or(least);
        let clamped = replicas.min(most).max(least);
        totals.wanted = capped(totals.wanted.saturating_add(clamped.saturating_mul(hosts)));
        totals.least = capped(totals.least.saturating_add(least.saturating_mul(hosts)));
        totals.most = capped(totals.most.saturating_add(most.saturating_mul(hosts)));
        totals.add(&pod_resources(&group.template), replicas.saturating_mul(hosts));
    }
    totals
}

/// The status holds 32-bit numbers.
fn capped(count: i64) -> i64 {
    count.clamp(0, i32::MAX.into())
}

impl Totals {
    fn add(&mut self, pod: &BTreeMap<String, Quantity>, pods: i64) {
        for (name, quantity) in pod {
            let total = match name.as_str() {
                "cpu" => &mut self.cpu,
                "memory" => &mut self.memory,
                "google.com/tpu" => &mut self.tpu,
                name if is_gpu(name) => &mut self.gpu,
                _ => continue,
            };
            *total = plus(*total, times(*quantity, pods));
        }
    }
}

/// The sum, printed as the first operand that is not nothing; the first operand if it is too much.
fn plus(a: Quantity, b: Quantity) -> Quantity {
    let (first, second) = if a.is_zero() { (b, a) } else { (a, b) };
    first.checked_add(second).unwrap_or(first)
}

/// `count` times the quantity, by doubling.
fn times(quantity: Quantity, count: i64) -> Quantity {
    let (mut total, mut power, mut rest) = (Quantity::ZERO, quantity, count.max(0));
    while rest > 0 {
        if rest & 1 == 1 {
            total = plus(total, power);
        }
        power = plus(power, power);
        rest >>= 1;
    }
    total
}

fn pod_resources(template: &Value) -> BTreeMap<String, Quantity> {
    let mut total: BTreeMap<String, Quantity> = BTreeMap::new();
    let containers = template.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
    for container in containers {
        let list = |kind: &str| container["resources"][kind].as_object().cloned().unwrap_or_default();
        let mut amounts = list("limits");
        amounts.extend(list("requests"));
        for (name, value) in amounts {
            if let Ok(quantity) = Quantity::from_json(&value) {
                let sum = total.entry(name).or_default();
                *sum = plus(*sum, quantity);
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_printed_as_their_first_operand() {
        let quantity = |text: &str| text.parse::<Quantity>().unwrap();
        assert_eq!(times(quantity("500m"), 3).to_string(), "1500m");
        assert_eq!(times(quantity("8G"), 3).to_string(), "24G");
        assert_eq!(plus(quantity("0"), quantity("1Gi")).to_string(), "1Gi");
        assert_eq!(times(quantity("4"), 0).to_string(), "0");
    }
}

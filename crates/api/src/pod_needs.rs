//! What one pod of a template takes of Kubernetes: of a node, and of quotas.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Quantity;

/// Amounts by Kubernetes' resource names.
pub type Quantities = BTreeMap<String, Quantity>;

/// What one pod requests, as the scheduler counts it: all containers together, or an init container that needs more than
/// they do; what has no request counts by its limit; and the overhead of the runtime. What is no quantity is left out.
pub fn requests(template: &Value) -> Quantities {
    effective(template, |container| {
        // A request that is not given is the limit.
        let mut requests = quantities(container.pointer("/resources/limits"));
        requests.extend(quantities(container.pointer("/resources/requests")));
        requests
    })
}

/// What one pod is limited to, counted in the same way. A container without a limit adds nothing.
pub fn limits(template: &Value) -> Quantities {
    effective(template, |container| quantities(container.pointer("/resources/limits")))
}

fn effective(template: &Value, of_container: impl Fn(&Value) -> Quantities) -> Quantities {
    let spec = template.get("spec").unwrap_or(&Value::Null);
    let list = |key: &str| spec.get(key).and_then(Value::as_array).into_iter().flatten();
    let mut sum = Quantities::new();
    let mut most = Quantities::new();
    for container in list("initContainers") {
        let own = of_container(container);
        if container.get("restartPolicy").and_then(Value::as_str) == Some("Always") {
            // It goes on running beside all that come after it.
            add(&mut sum, &own);
            raise(&mut most, &sum);
        } else {
            let mut with_running = sum.clone();
            add(&mut with_running, &own);
            raise(&mut most, &with_running);
        }
    }
    list("containers").for_each(|container| add(&mut sum, &of_container(container)));
    raise(&mut sum, &most);
    // What is said of the pod as a whole stands for its containers.
    sum.extend(of_container(spec));
    add(&mut sum, &quantities(spec.get("overhead")));
    sum
}

fn add(sums: &mut Quantities, more: &Quantities) {
    for (name, amount) in more {
        // A first one keeps the suffix that it was written with.
        let sum = sums.get(name).map_or(Some(*amount), |sum| sum.checked_add(*amount));
        sum.and_then(|sum| sums.insert(name.clone(), sum));
    }
}

fn raise(least: &mut Quantities, to: &Quantities) {
    for (name, amount) in to {
        let least = least.entry(name.clone()).or_insert(*amount);
        *least = (*least).max(*amount);
    }
}

/// A map of quantities as Kubernetes writes it. What is none, or is negative, is left out.
pub fn quantities(map: Option<&Value>) -> Quantities {
    let entries = map.and_then(Value::as_object).into_iter().flatten();
    let read = |value: &Value| Quantity::from_json(value).ok().filter(|quantity| !quantity.is_negative());
    entries.filter_map(|(name, value)| Some((name.clone(), read(value)?))).collect()
}

/// Entries that are no amounts, and what they are instead.
pub fn unreadable(map: &Value) -> impl Iterator<Item = (&str, String)> {
    let entries = map.as_object().into_iter().flatten();
    let is_read = |value: &Value| Quantity::from_json(value).is_ok_and(|quantity| !quantity.is_negative());
    entries.filter(move |(_, value)| !is_read(value)).map(|(name, value)| (name.as_str(), value.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(limits: &Value, requests: &Value) -> Value {
        json!({"name": "c", "resources": {"limits": limits, "requests": requests}})
    }

    fn shown(quantities: &Quantities) -> Vec<String> {
        quantities.iter().map(|(name, quantity)| format!("{name} {quantity}")).collect()
    }

    #[test]
    fn all_containers_count_by_their_requests_and_where_there_are_none_by_their_limits() {
        let template = json!({"spec": {"containers": [
            container(&json!({"cpu": "4", "nvidia.com/gpu": 8, "memory": "8Gi"}), &json!({"cpu": "2500m"})),
            container(&json!({}), &json!({"cpu": "500m", "memory": "1Gi"})),
        ]}});
        assert_eq!(shown(&requests(&template)), ["cpu 3", "memory 9Gi", "nvidia.com/gpu 8"]);
        assert_eq!(shown(&limits(&template)), ["cpu 4", "memory 8Gi", "nvidia.com/gpu 8"]);
    }

    #[test]
    fn an_init_container_counts_where_it_needs_more_than_all_others_together() {
        let template = json!({"spec": {
            "initContainers": [container(&json!({}), &json!({"cpu": "4", "memory": "1Gi"}))],
            "containers": [container(&json!({}), &json!({"cpu": 1, "memory": "2Gi"}))],
        }});
        assert_eq!(shown(&requests(&template)), ["cpu 4", "memory 2Gi"]);
    }

    #[test]
    fn an_init_container_that_goes_on_running_counts_beside_all_that_follow() {
        let mut sidecar = container(&json!({}), &json!({"cpu": 2}));
        sidecar["restartPolicy"] = json!("Always");
        let template = json!({"spec": {
            "initContainers": [sidecar, container(&json!({}), &json!({"cpu": 5}))],
            "containers": [container(&json!({}), &json!({"cpu": 1}))],
        }});
        assert_eq!(shown(&requests(&template)), ["cpu 7"]);
    }

    #[test]
    fn what_the_pod_as_a_whole_requests_stands_for_its_containers_and_overhead_comes_on_top() {
        let template = json!({"spec": {
            "containers": [container(&json!({}), &json!({"cpu": 1, "memory": "1Gi"}))],
            "resources": {"requests": {"cpu": 3}},
            "overhead": {"cpu": "250m"},
        }});
        assert_eq!(shown(&requests(&template)), ["cpu 3250m", "memory 1Gi"]);
    }

    #[test]
    fn what_is_no_quantity_or_negative_is_left_out() {
        let odd = json!({"spec": {"containers": [container(&json!({"cpu": "many", "memory": "-1Gi"}), &json!(7)), 3]}});
        assert_eq!(requests(&odd), Quantities::new());
        assert_eq!(requests(&json!({})), Quantities::new());
        assert_eq!(requests(&json!({"spec": {"containers": "none"}})), Quantities::new());
    }
}

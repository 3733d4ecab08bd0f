//! Container resources, and what whole pods ask for.

use std::collections::BTreeMap;

use mobula_api::{FieldError, Quantity};
use serde_json::Value;

use super::draft::{ContainerDraft, PodDraft};

/// Quantities by resource.
pub(super) type Amounts = BTreeMap<String, Quantity>;

/// Whether Ray counts the resource as GPUs.
pub(in crate::raycluster) fn is_gpu(name: &str) -> bool {
    name.ends_with("gpu") || is_mig(name)
}

/// `nvidia.com/mig-<digits>g.<digits>gb`.
fn is_mig(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let Some((_, profile)) = name.split_once("nvidia.com/mig-") else { return false };
    let parts = profile.strip_suffix("gb").and_then(|profile| profile.split_once("g."));
    parts.is_some_and(|(slices, memory)| digits(slices) && digits(memory))
}

/// `limits` or `requests` of a container.
pub(super) fn of(path: &str, container: &ContainerDraft, kind: &str) -> Result<Amounts, FieldError> {
    let Some(list) = container.rest.get("resources").and_then(|resources| resources.get(kind)) else {
        return Ok(Amounts::new());
    };
    let path = format!("{path}.resources.{kind}");
    let amounts = match list {
        Value::Null => return Ok(Amounts::new()),
        Value::Object(amounts) => amounts,
        other => return Err(FieldError::new(path, other.to_string(), "must be an object")),
    };
    let read = |(name, value): (&String, &Value)| {
        let quantity = Quantity::from_json(value);
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let quantity = quantity.map_err(|e| FieldError::new(format!("{path}[{name:?}]"), shown, e.to_string()))?;
        Ok((name.clone(), quantity))
    };
    amounts.iter().map(read).collect()
}

/// What a pod asks for: of each container of its template the request, else the limit.
pub(super) fn of_template(path: &str, template: &Value) -> Result<Amounts, FieldError> {
    let draft = PodDraft::from_template(path, template)?;
    let mut total = Amounts::new();
    for (index, container) in std::iter::once(&draft.ray).chain(&draft.others).enumerate() {
        let path = format!("{path}.spec.containers[{index}]");
        let mut own = of(&path, container, "limits")?;
        own.extend(of(&path, container, "requests")?);
        total = sum(total, &own, &path)?;
    }
    Ok(total)
}

/// The sum, printed as the first terms are.
pub(super) fn sum(mut total: Amounts, more: &Amounts, path: &str) -> Result<Amounts, FieldError> {
    for (name, quantity) in more {
        let sum = match total.get(name) {
            Some(first) => first.checked_add(*quantity).ok_or_else(|| too_much(path, name, *quantity))?,
            None => *quantity,
        };
        total.insert(name.clone(), sum);
    }
    Ok(total)
}

/// As much for each of `pods` pods.
pub(super) fn times(amounts: &Amounts, pods: u32, path: &str) -> Result<Amounts, FieldError> {
    let multiplied = |(name, quantity): (&String, &Quantity)| {
        let product = quantity.checked_mul(pods).ok_or_else(|| too_much(path, name, *quantity))?;
        Ok((name.clone(), product))
    };
    amounts.iter().map(multiplied).collect()
}

fn too_much(path: &str, name: &str, quantity: Quantity) -> FieldError {
    let problem = format!("of {name} for every pod is more than Kubernetes can count");
    FieldError::new(format!("{path}.resources"), quantity.to_string(), problem)
}

/// As JSON.
pub(super) fn to_value(amounts: &Amounts) -> Value {
    Value::Object(amounts.iter().map(|(name, quantity)| (name.clone(), Value::from(quantity.to_string()))).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn gpus_are_told_by_their_names() {
        let gpus = ["gpu", "nvidia.com/gpu", "amd.com/gpu", "nvidia.com/mig-1g.5gb", "nvidia.com/mig-3g.20gb"];
        assert!(gpus.iter().all(|name| is_gpu(name)));
        let others = ["nvidia.com/mig-1g.5", "nvidia.com/mig-g.5gb", "nvidia.com/gpus", "cpu", "google.com/tpu"];
        assert!(others.iter().all(|name| !is_gpu(name)));
    }

    #[test]
    fn a_pod_asks_for_requests_and_for_limits_without_one() {
        let template = json!({"spec": {"containers": [
            {"resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": 2, "memory": "1Gi"}}},
            {"resources": {"limits": {"cpu": 1, "nvidia.com/gpu": 1}}},
        ]}});
        let amounts = of_template("t", &template).unwrap();
        assert_eq!(to_value(&amounts), json!({"cpu": "1500m", "memory": "1Gi", "nvidia.com/gpu": "1"}));
        assert_eq!(
            to_value(&times(&amounts, 3, "t").unwrap()),
            json!({"cpu": "4500m", "memory": "3Gi", "nvidia.com/gpu": "3"})
        );
    }

    #[test]
    fn what_is_no_quantity_is_named() {
        let container = ContainerDraft::from_value("c", &json!({"resources": {"limits": {"cpu": "many"}}})).unwrap();
        let error = of("c", &container, "limits").unwrap_err().to_string();
        assert!(error.starts_with("c.resources.limits[\"cpu\"]: many: is not a quantity"), "{error}");
    }
}

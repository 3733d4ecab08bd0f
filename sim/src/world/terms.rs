//! Node affinity: terms of label conditions.

use mobula_planner::Labels;
use serde_json::Value;

/// Conditions that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeTerm {
    conditions: Vec<Condition>,
    /// Names of nodes, where the term names some (`matchFields`).
    names: Option<Vec<String>>,
}

/// A condition on a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
    /// Of a newer Kubernetes: never holds.
    Unknown,
}

impl Condition {
    /// Reads one of `matchExpressions`.
    pub fn read(value: &Value) -> Condition {
        let operator = match value["operator"].as_str().unwrap_or_default() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::Gt,
            "Lt" => Operator::Lt,
            _ => Operator::Unknown,
        };
        let values = value["values"].as_array().into_iter().flatten();
        Condition {
            key: value["key"].as_str().unwrap_or_default().to_owned(),
            operator,
            values: values.filter_map(|value| Some(value.as_str()?.to_owned())).collect(),
        }
    }

    /// Whether it holds for these labels.
    pub fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let compare = |is: fn(i64, i64) -> bool| {
            let number = |text: Option<&String>| text.and_then(|text| text.parse::<i64>().ok());
            matches!((number(value), number(self.values.first())), (Some(a), Some(b)) if is(a, b))
        };
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => compare(|a, b| a > b),
            Operator::Lt => compare(|a, b| a < b),
            Operator::Unknown => false,
        }
    }
}

impl NodeTerm {
    fn read(value: &Value) -> NodeTerm {
        let list = |key: &str| value[key].as_array().into_iter().flatten();
        let names = list("matchFields").filter(|field| field["key"] == "metadata.name");
        let names: Vec<String> = names
            .flat_map(|field| field["values"].as_array().into_iter().flatten())
            .filter_map(|name| Some(name.as_str()?.to_owned()))
            .collect();
        let has_fields = list("matchFields").next().is_some();
        NodeTerm {
            conditions: list("matchExpressions").map(Condition::read).collect(),
            names: has_fields.then_some(names),
        }
    }

    /// Whether it holds for this node. A term without any condition holds for none.
    pub fn holds(&self, name: &str, labels: &Labels) -> bool {
        if self.conditions.is_empty() && self.names.is_none() {
            return false;
        }
        self.names.as_ref().is_none_or(|names| names.iter().any(|known| known == name))
            && self.conditions.iter().all(|condition| condition.holds(labels))
    }
}

/// Required and preferred terms of a pod's spec.
pub(super) fn read_node_terms(spec: &Value) -> (Vec<NodeTerm>, Vec<(i64, NodeTerm)>) {
    let node = &spec["affinity"]["nodeAffinity"];
    let required = &node["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    let preferred = &node["preferredDuringSchedulingIgnoredDuringExecution"];
    let required = required.as_array().into_iter().flatten().map(NodeTerm::read).collect();
    let weighed = |value: &Value| (value["weight"].as_i64().unwrap_or(1), NodeTerm::read(&value["preference"]));
    (required, preferred.as_array().into_iter().flatten().map(weighed).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn terms_are_read_as_kubernetes_means_them() {
        let labels = Labels::from([("zone".into(), "a".into()), ("gpus".into(), "8".into())]);
        let holds = |expression: Value| Condition::read(&expression).holds(&labels);
        assert!(holds(json!({"key": "zone", "operator": "In", "values": ["a", "b"]})));
        assert!(!holds(json!({"key": "zone", "operator": "NotIn", "values": ["a"]})));
        assert!(holds(json!({"key": "rack", "operator": "NotIn", "values": ["a"]})));
        assert!(holds(json!({"key": "gpus", "operator": "Gt", "values": ["4"]})));
        assert!(!holds(json!({"key": "zone", "operator": "Gt", "values": ["4"]})));
        assert!(!holds(json!({"key": "zone", "operator": "Like", "values": ["a"]})));
        let spec = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n-1"]}]}, {},
        ]}}}});
        let (terms, _) = read_node_terms(&spec);
        assert!(terms[0].holds("n-1", &labels) && !terms[0].holds("n-2", &labels));
        assert!(!terms[1].holds("n-1", &labels));
    }
}

//! Volcano's HyperNode: a domain by its members (nodes, or narrower HyperNodes).

use std::collections::BTreeMap;

use super::name;
use crate::FieldError;
use crate::at::At;

/// One domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HyperNode {
    /// Name of the object.
    pub name: String,
    /// Smaller is narrower: a smaller distance, a faster network.
    pub tier: i64,
    /// What people call the tier.
    pub tier_name: Option<String>,
    /// What is in it.
    pub members: Vec<HyperNodeMember>,
}

/// Some of what is in a [`HyperNode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HyperNodeMember {
    /// What kind.
    pub kind: MemberKind,
    /// Which of that kind.
    pub selector: MemberSelector,
}

/// Kinds of members.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// Kubernetes nodes.
    Node,
    /// Narrower HyperNodes.
    HyperNode,
}

/// Which objects are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberSelector {
    /// The one of this name.
    Exact(String),
    /// Those with a match of this regular expression (RE2) anywhere in their names.
    Regex {
        /// The expression, as it is written.
        pattern: String,
        /// Where it is written, for errors.
        field: String,
    },
    /// Those whose labels meet all conditions; none: every one.
    Labels(Vec<LabelCondition>),
}

/// A condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelCondition {
    /// The label has one of these values.
    In(String, Vec<String>),
    /// The label is absent or has none of these values.
    NotIn(String, Vec<String>),
    /// The label is there.
    Exists(String),
    /// The label is absent.
    DoesNotExist(String),
}

impl LabelCondition {
    /// Whether these labels meet it.
    pub fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            LabelCondition::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            LabelCondition::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            LabelCondition::Exists(key) => labels.contains_key(key),
            LabelCondition::DoesNotExist(key) => !labels.contains_key(key),
        }
    }
}

pub(super) fn read(at: &At<'_>) -> Result<HyperNode, FieldError> {
    let spec = at.require("spec")?;
    // A HyperNode that discovery has just made may have no members yet.
    let members = spec.get("members")?.map(|members| members.items()).transpose()?.unwrap_or_default();
    Ok(HyperNode {
        name: name(at)?,
        tier: spec.require("tier")?.int()?,
        tier_name: Some(spec.text("tierName")?).filter(|name| !name.is_empty()),
        members: members.iter().map(member).collect::<Result<_, _>>()?,
    })
}

fn member(at: &At<'_>) -> Result<HyperNodeMember, FieldError> {
    let kind = at.require("type")?;
    let kind = match kind.str()? {
        "Node" => MemberKind::Node,
        "HyperNode" => MemberKind::HyperNode,
        _ => return Err(kind.error("must be Node or HyperNode")),
    };
    let at = at.require("selector")?;
    let (exact, regex, labels) = (at.get("exactMatch")?, at.get("regexMatch")?, at.get("labelMatch")?);
    let selector = match (exact, regex, labels) {
        (Some(exact), None, None) => MemberSelector::Exact(exact.require("name")?.str()?.to_owned()),
        (None, Some(regex), None) => {
            let pattern = regex.require("pattern")?;
            MemberSelector::Regex { pattern: pattern.str()?.to_owned(), field: pattern.path().to_owned() }
        }
        (None, None, Some(labels)) if kind == MemberKind::Node => MemberSelector::Labels(conditions(&labels)?),
        (None, None, Some(labels)) => return Err(labels.error("selects nodes only: use exactMatch for a HyperNode")),
        _ => return Err(at.error("must have exactly one of exactMatch, regexMatch and labelMatch")),
    };
    Ok(HyperNodeMember { kind, selector })
}

fn conditions(at: &At<'_>) -> Result<Vec<LabelCondition>, FieldError> {
    let equal = at.text_map("matchLabels")?;
    let mut conditions: Vec<LabelCondition> =
        equal.into_iter().map(|(key, value)| LabelCondition::In(key, vec![value])).collect();
    let expressions = at.get("matchExpressions")?.map(|list| list.items()).transpose()?.unwrap_or_default();
    for expression in &expressions {
        conditions.push(condition(expression)?);
    }
    Ok(conditions)
}

fn condition(at: &At<'_>) -> Result<LabelCondition, FieldError> {
    let key = at.require("key")?.str()?.to_owned();
    let operator = at.require("operator")?;
    let values = at.get("values")?.map(|values| values.items()).transpose()?.unwrap_or_default();
    let values = values.iter().map(|value| Ok(value.str()?.to_owned())).collect::<Result<Vec<String>, FieldError>>()?;
    match operator.str()? {
        "In" => Ok(LabelCondition::In(key, values)),
        "NotIn" => Ok(LabelCondition::NotIn(key, values)),
        "Exists" => Ok(LabelCondition::Exists(key)),
        "DoesNotExist" => Ok(LabelCondition::DoesNotExist(key)),
        _ => Err(operator.error("must be In, NotIn, Exists or DoesNotExist")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::TopologyObject;
    use super::*;

    fn hypernode(members: &Value) -> Value {
        json!({
            "apiVersion": "topology.volcano.sh/v1alpha1",
            "kind": "HyperNode",
            "metadata": {"name": "s0"},
            "spec": {"tier": 1, "tierName": "leaf", "members": members},
            "status": {"nodeCount": 2},
        })
    }

    fn member_of(kind: &str, selector: &Value) -> Result<HyperNodeMember, FieldError> {
        match TopologyObject::from_value(&hypernode(&json!([{"type": kind, "selector": selector}])))? {
            TopologyObject::HyperNode(mut found) => Ok(found.members.remove(0)),
            TopologyObject::Levels(found) => panic!("{found:?}"),
        }
    }

    #[test]
    fn a_hypernode_has_a_tier_and_members() {
        let members = json!([
            {"type": "Node", "selector": {"exactMatch": {"name": "node-0"}}},
            {"type": "HyperNode", "selector": {"regexMatch": {"pattern": "^rack-[0-9]+$"}}},
        ]);
        let TopologyObject::HyperNode(found) = TopologyObject::from_value(&hypernode(&members)).unwrap() else {
            panic!()
        };
        assert_eq!((found.name.as_str(), found.tier, found.tier_name.as_deref()), ("s0", 1, Some("leaf")));
        assert_eq!(found.members[0].selector, MemberSelector::Exact("node-0".to_owned()));
        let field = "spec.members[1].selector.regexMatch.pattern".to_owned();
        assert_eq!(found.members[1].kind, MemberKind::HyperNode);
        assert_eq!(found.members[1].selector, MemberSelector::Regex { pattern: "^rack-[0-9]+$".to_owned(), field });
        assert!(matches!(TopologyObject::from_value(&hypernode(&Value::Null)), Ok(TopologyObject::HyperNode(_))));
    }

    #[test]
    fn label_conditions_are_those_of_kubernetes() {
        let selector = json!({"labelMatch": {
            "matchLabels": {"pool": "gpu"},
            "matchExpressions": [
                {"key": "rack", "operator": "In", "values": ["a", "b"]},
                {"key": "broken", "operator": "DoesNotExist"},
                {"key": "zone", "operator": "NotIn", "values": ["z"]},
                {"key": "gpu", "operator": "Exists"},
            ],
        }});
        let MemberSelector::Labels(conditions) = member_of("Node", &selector).unwrap().selector else { panic!() };
        let holds = |changes: &[(&str, &str)]| {
            let fitting = [("pool", "gpu"), ("rack", "b"), ("gpu", "yes")];
            let labels = fitting.iter().chain(changes).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            conditions.iter().all(|condition| condition.holds(&labels))
        };
        assert!(holds(&[]));
        for change in [("pool", "cpu"), ("rack", "c"), ("broken", ""), ("zone", "z")] {
            assert!(!holds(&[change]), "{change:?}");
        }
        assert!(holds(&[("zone", "y")]));
        assert!(!conditions.iter().all(|condition| condition.holds(&BTreeMap::new())));
    }

    #[test]
    fn members_that_say_nothing_or_too_much_are_refused() {
        let refused = |kind: &str, selector: &Value| member_of(kind, selector).unwrap_err().to_string();
        let exact = json!({"exactMatch": {"name": "n"}});
        assert_eq!(refused("Pod", &exact), "spec.members[0].type: Pod: must be Node or HyperNode");
        for selector in [json!({}), json!({"exactMatch": {"name": "n"}, "regexMatch": {"pattern": "n"}})] {
            assert!(refused("Node", &selector).ends_with("exactly one of exactMatch, regexMatch and labelMatch"));
        }
        assert!(
            refused("HyperNode", &json!({"labelMatch": {"matchLabels": {"a": "b"}}})).contains("selects nodes only")
        );
        let expression = json!({"labelMatch": {"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}});
        let expected = "spec.members[0].selector.labelMatch.matchExpressions[0].operator: Gt: must be In, NotIn, Exists or \
                        DoesNotExist";
        assert_eq!(refused("Node", &expression), expected);
    }
}

//! An object held against its definition, as the API server would: what it fills in, what it refuses, what it drops.

use std::{collections::BTreeSet, sync::OnceLock};

use serde_json::{Map, Value};

use crate::{
    FieldError, Kind, Quantity,
    at::{At, member},
};

/// A field that is not as its definition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The field, what it holds, and what to do.
    pub error: FieldError,
    /// The API server would not refuse the object, but take the field for something it does not know.
    pub is_unknown: bool,
}

/// Fields of metadata.
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Most differences to a field that may have been meant.
const MOST_TYPOS: usize = 3;

impl Kind {
    /// The kind of this name.
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Fills in what the API server would, and drops nulls as it does.
    pub fn fill_in_defaults(self, object: &mut Value) {
        fill_in(object, self.made_schema());
    }

    /// The schema, made once: it is large.
    fn made_schema(self) -> &'static Value {
        static MADE: [OnceLock<Value>; Kind::ALL.len()] = [const { OnceLock::new() }; Kind::ALL.len()];
        static NONE: Value = Value::Null;
        MADE.get(self as usize).map_or(&NONE, |made| made.get_or_init(|| self.schema()))
    }

    /// Everything in which an object is not as its definition says. Fill in the defaults first.
    pub fn misfits(self, object: &Value) -> Vec<Misfit> {
        let mut misfits = Vec::new();
        check(&At::root(object), self.made_schema(), &mut misfits);
        if let Some(metadata) = object.get("metadata").and_then(Value::as_object) {
            let unknown = metadata.iter().filter(|(name, _)| !METADATA.contains(&name.as_str()));
            misfits.extend(unknown.map(|(name, value)| unknown_field("metadata", name, value, METADATA, false)));
        }
        misfits
    }
}

fn fill_in(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(members) => {
            for (name, field) in object_of(schema, "properties") {
                // Null says nothing, as long as it may not be null.
                let is_null = members.get(name).is_some_and(Value::is_null) && field.get("nullable").is_none();
                if let (Some(default), true) = (field.get("default"), is_null || !members.contains_key(name)) {
                    members.insert(name.clone(), default.clone());
                }
                if let Some(member) = members.get_mut(name) {
                    fill_in(member, field);
                }
            }
            drop_nulls(members, schema);
            if let Some(schema) = schema.get("additionalProperties") {
                members.values_mut().for_each(|member| fill_in(member, schema));
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| fill_in(item, schema));
            }
        }
        _ => {}
    }
}

/// Null says nothing, as long as it may not be null.
fn drop_nulls(members: &mut Map<String, Value>, schema: &Value) {
    let (known, any) = (schema.get("properties"), schema.get("additionalProperties"));
    let field = |name: &String| known.and_then(|known| known.get(name)).or(any);
    let may_be_null = |name: &String| field(name).is_none_or(|field| field.get("nullable").is_some());
    members.retain(|name, value| !value.is_null() || may_be_null(name));
}

fn check(at: &At<'_>, schema: &Value, misfits: &mut Vec<Misfit>) {
    let mut refuse = |error: FieldError| misfits.push(Misfit { error, is_unknown: false });
    if let Err(error) = typed(at, schema) {
        return refuse(error);
    }
    scalar(at, schema).into_iter().for_each(&mut refuse);
    broken_rules(at, schema).into_iter().for_each(&mut refuse);
    match at.value() {
        Value::Object(members) => {
            required(at, members, schema).into_iter().for_each(&mut refuse);
            object(at, members, schema, misfits);
        }
        Value::Array(items) => {
            list(at, items, schema).into_iter().for_each(&mut refuse);
            let Some(schema) = schema.get("items") else { return };
            for (i, item) in items.iter().enumerate() {
                check(&at.item(i, item), schema, misfits);
            }
        }
        _ => {}
    }
}

/// Whether the value has the type.
fn typed(at: &At<'_>, schema: &Value) -> Result<(), FieldError> {
    if schema.get("x-kubernetes-int-or-string").is_some() {
        if schema.get("pattern").is_none() {
            let fits = at.value().is_i64() || at.value().is_string();
            return if fits { Ok(()) } else { Err(at.error("must be an integer or a string")) };
        }
        return Quantity::from_json(at.value()).map(|_| ()).map_err(|error| at.error(error.to_string()));
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("string") => at.str().map(|_| ()),
        Some("boolean") => at.bool().map(|_| ()),
        Some("integer") if at.str().is_ok_and(|text| text.parse::<i64>().is_ok()) => {
            Err(at.error("must be an integer: remove the quotes"))
        }
        Some("integer") => at.int().map(|_| ()),
        Some("number") if !at.value().is_number() => Err(at.error("must be a number")),
        Some("array") => at.items().map(|_| ()),
        Some("object") => at.object().map(|_| ()),
        _ => Ok(()),
    }
}

/// Bounds and words of a scalar.
fn scalar(at: &At<'_>, schema: &Value) -> Vec<FieldError> {
    let number = |key: &str| schema.get(key).and_then(Value::as_i64);
    let mut errors = Vec::new();
    if let Some(value) = at.value().as_i64() {
        let is_32_bits = schema.get("format").and_then(Value::as_str) == Some("int32");
        let (lowest, highest) = (i64::from(i32::MIN), i64::from(i32::MAX));
        if let Some(least) = number("minimum").filter(|least| value < *least) {
            errors.push(at.error(format!("must be {least} or more")));
        } else if is_32_bits && !(lowest..=highest).contains(&value) {
            errors.push(at.error(format!("must be from {lowest} to {highest}")));
        }
    }
    let words = schema.get("enum").and_then(Value::as_array);
    if let Some(words) = words.filter(|words| !words.contains(at.value())) {
        let words = words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
        errors.push(at.error(format!("must be one of {words}")));
    }
    if let Some(text) = at.value().as_str() {
        let chars = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        if let Some(fewest) = number("minLength").filter(|fewest| chars < *fewest) {
            errors.push(at.error(format!("must have {fewest} characters or more")));
        }
        if let Some(most) = number("maxLength").filter(|most| chars > *most) {
            errors.push(at.error(format!("must have at most {most} characters")));
        }
    }
    errors
}

fn required(at: &At<'_>, members: &Map<String, Value>, schema: &Value) -> Vec<FieldError> {
    let names = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let missing = names.filter(|name| members.get(*name).is_none_or(Value::is_null));
    missing.map(|name| FieldError::missing(member(&at.path(), name), "is required")).collect()
}

fn object(at: &At<'_>, members: &Map<String, Value>, schema: &Value, misfits: &mut Vec<Misfit>) {
    let known = schema.get("properties").and_then(Value::as_object);
    let any = schema.get("additionalProperties");
    let is_kept = schema.get("x-kubernetes-preserve-unknown-fields").is_some();
    // Null says nothing.
    for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
        match known.and_then(|known| known.get(name)).or(any) {
            Some(schema) => check(&at.member(name, value), schema, misfits),
            // An object of which the definition says nothing: metadata is looked at elsewhere.
            None if known.is_none() => {}
            None => {
                let names = known.into_iter().flatten().map(|(name, _)| name.as_str());
                misfits.push(unknown_field(&at.path(), name, value, names, is_kept));
            }
        }
    }
}

fn unknown_field<'a>(
    path: &str,
    name: &str,
    value: &Value,
    known: impl IntoIterator<Item = &'a str>,
    is_kept: bool,
) -> Misfit {
    let nearest = known.into_iter().map(|other| (differences(name, other), other)).min();
    let meant = nearest.filter(|(count, _)| *count <= MOST_TYPOS.min(name.len() / 2));
    let meant = meant.map_or_else(String::new, |(_, other)| format!(": did you mean {other}?"));
    let fate = if is_kept { "passed on, though no Kubernetes known here has it" } else { "it would be dropped" };
    let error = FieldError::of_value(member(path, name), value, format!("no such field, {fate}{meant}"));
    Misfit { error, is_unknown: true }
}

/// Characters to insert, remove or replace to make one of the other; case does not count.
fn differences(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut left_above = i;
        let mut left = i + 1;
        for (y, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let best = (left_above + usize::from(x != *y)).min(left + 1).min(*cell + 1);
            left_above = *cell;
            *cell = best;
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// Too few elements, and elements that can't be told apart.
fn list(at: &At<'_>, items: &[Value], schema: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let fewest = schema.get("minItems").and_then(Value::as_u64).and_then(|fewest| usize::try_from(fewest).ok());
    if let Some(fewest) = fewest.filter(|fewest| items.len() < *fewest) {
        errors.push(at.error(format!("must have {fewest} elements or more")));
    }
    let Some(keys) = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array) else { return errors };
    let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
    let mut seen = BTreeSet::new();
    for (i, item) in items.iter().enumerate() {
        let values = keys.iter().map(|key| item.get(key).map(ToString::to_string).unwrap_or_default());
        let id: Vec<String> = values.collect();
        if !seen.insert(id.clone()) {
            let problem = format!("is there twice with this {}: keep one", keys.join(" and "));
            let shown = id.join(", ").replace('"', "");
            errors.push(FieldError::new(format!("{}[{i}]", at.path()), shown, problem));
        }
    }
    errors
}

/// Rules that look at a change can't be checked on one object.
fn broken_rules(at: &At<'_>, schema: &Value) -> Vec<FieldError> {
    let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten();
    let texts = rules.filter_map(|rule| Some((rule.get("rule")?.as_str()?, rule.get("message")?.as_str()?)));
    texts.filter(|(rule, _)| holds(rule, at.value()) == Some(false)).map(|(_, message)| at.error(message)).collect()
}

/// Whether a rule of our definitions holds; `None` for one that is not known here.
fn holds(rule: &str, value: &Value) -> Option<bool> {
    let has = |name: &str| value.get(name).is_some_and(|member| !member.is_null());
    Some(match rule {
        "self in ['ray.io/kuberay-operator', 'kueue.x-k8s.io/multikueue']" => {
            matches!(value.as_str(), Some("ray.io/kuberay-operator" | "kueue.x-k8s.io/multikueue"))
        }
        "!((has(self.onSuccess) || has(self.onFailure)) && has(self.deletionRules))" => {
            !((has("onSuccess") || has("onFailure")) && has("deletionRules"))
        }
        "((has(self.onSuccess) && has(self.onFailure)) || has(self.deletionRules))" => {
            (has("onSuccess") && has("onFailure")) || has("deletionRules")
        }
        "!(has(self.jobStatus) && has(self.jobDeploymentStatus))" => !(has("jobStatus") && has("jobDeploymentStatus")),
        "has(self.jobStatus) || has(self.jobDeploymentStatus)" => has("jobStatus") || has("jobDeploymentStatus"),
        _ => return None,
    })
}

fn object_of<'a>(schema: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    schema.get(key).and_then(Value::as_object).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{differences, holds};
    use crate::Kind;

    fn cluster(group: &Value) -> Value {
        let template = json!({"spec": {"containers": [{"name": "ray", "image": "i"}]}});
        let mut worker = json!({"groupName": "w", "template": template});
        worker.as_object_mut().unwrap().extend(group.as_object().unwrap().clone());
        json!({"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "c"},
               "spec": {"headGroupSpec": {"template": template}, "workerGroupSpecs": [worker]}})
    }

    fn misfits(kind: Kind, mut object: Value) -> Vec<String> {
        kind.fill_in_defaults(&mut object);
        kind.misfits(&object).iter().map(|misfit| misfit.error.to_string()).collect()
    }

    #[test]
    fn defaults_are_filled_in_where_nothing_is_said() {
        let limits = json!({"cpu": 1, "nvidia.com/gpu": null});
        let container =
            json!({"name": "ray", "ports": [{"containerPort": 1}], "image": null, "resources": {"limits": limits}});
        let template = json!({"spec": {"containers": [container]}});
        let mut object = cluster(&json!({"maxReplicas": 3, "replicas": null, "template": template}));
        Kind::RayCluster.fill_in_defaults(&mut object);
        let group = &object["spec"]["workerGroupSpecs"][0];
        assert_eq!(
            [&group["replicas"], &group["minReplicas"], &group["maxReplicas"], &group["numOfHosts"]],
            [&json!(0), &json!(0), &json!(3), &json!(1)]
        );
        let container = json!({"name": "ray", "ports": [{"containerPort": 1, "protocol": "TCP"}], "resources": {"limits": {"cpu": 1}}});
        assert_eq!(group["template"]["spec"]["containers"][0], container);
        assert_eq!(Kind::RayCluster.misfits(&object), []);
    }

    #[test]
    fn what_the_api_server_would_refuse_or_drop_is_named() {
        let container = |change: Value| json!({"template": {"spec": {"containers": [change]}}});
        let at = "spec.workerGroupSpecs[0]";
        let cases = [
            (json!({"replicas": "1"}), format!("{at}.replicas: 1: must be an integer: remove the quotes")),
            (
                json!({"replicas": 1_i64 << 40}),
                format!("{at}.replicas: 1099511627776: must be from -2147483648 to 2147483647"),
            ),
            (
                json!({"rayStartParams": {"num-cpus": 4}}),
                format!("{at}.rayStartParams[\"num-cpus\"]: 4: must be a string: put it in quotes"),
            ),
            (
                json!({"rayStartParam": {}}),
                format!("{at}.rayStartParam: {{…}}: no such field, it would be dropped: did you mean rayStartParams?"),
            ),
            (json!({"zzz": 1}), format!("{at}.zzz: 1: no such field, it would be dropped")),
            (
                container(json!({"name": "a", "img": "i"})),
                format!(
                    "{at}.template.spec.containers[0].img: i: no such field, passed on, though no Kubernetes known here has it"
                ),
            ),
            (
                container(json!({"name": "a", "env": [{"name": "A"}, {"name": "B"}, {"name": "A"}]})),
                format!("{at}.template.spec.containers[0].env[2]: A: is there twice with this name: keep one"),
            ),
            (
                container(json!({"name": "a", "resources": {"limits": {"memory": "2 Gi"}}})),
                format!("{at}.template.spec.containers[0].resources.limits.memory: 2 Gi: "),
            ),
            (container(json!({"image": "i"})), format!("{at}.template.spec.containers[0].name: is required")),
        ];
        for (group, expected) in cases {
            let said = misfits(Kind::RayCluster, cluster(&group));
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(said[0].starts_with(&expected), "{said:?}");
        }
        assert_eq!(
            misfits(Kind::RayCluster, json!({"metadata": {"nam": "c"}, "spec": null}))[0],
            "metadata.nam: c: no such \
            field, it would be dropped: did you mean name?"
        );
    }

    #[test]
    fn rules_of_a_job_are_checked() {
        let strategy = |strategy: Value| misfits(Kind::RayJob, json!({"spec": {"deletionStrategy": strategy}}));
        assert_eq!(strategy(json!({"onSuccess": {}})).len(), 1);
        let rule = json!({"policy": "DeleteSelf", "condition": {"jobStatus": "FAILED"}});
        assert_eq!(strategy(json!({"deletionRules": [rule]})), [""; 0]);
        assert_eq!(
            strategy(json!({"deletionRules": [{"policy": "DeleteAll", "condition": {"jobStatus": "FAILED"}}]})),
            ["spec.deletionStrategy.deletionRules[0].policy: DeleteAll: must be one of DeleteCluster, DeleteWorkers, \
              DeleteSelf, DeleteNone"]
        );
        assert_eq!(misfits(Kind::RayJob, json!({"spec": {"managedBy": "me"}})).len(), 1);
    }

    #[test]
    fn every_rule_of_the_definitions_is_known_here_or_about_a_change() {
        fn rules(schema: &Value, found: &mut Vec<String>) {
            if let Some(members) = schema.as_object() {
                let here = members.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten();
                found.extend(here.map(|rule| rule["rule"].as_str().unwrap().to_owned()));
                members.values().for_each(|member| rules(member, found));
            }
        }
        let mut found = Vec::new();
        Kind::ALL.iter().for_each(|kind| rules(&kind.schema(), &mut found));
        assert!(!found.is_empty());
        for rule in found {
            assert!(rule.contains("oldSelf") || holds(&rule, &json!({})).is_some(), "{rule}");
        }
    }

    #[test]
    fn differences_are_counted() {
        for (a, b, expected) in [("", "", 0), ("a", "", 1), ("replica", "replicas", 1), ("kitten", "sitting", 3)] {
            assert_eq!((differences(a, b), differences(b, a)), (expected, expected), "{a} {b}");
        }
    }
}

//! What the server itself does to objects of some kinds when they are written.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::object;
use crate::refusal::Refusal;

/// What a new object begins with.
pub(crate) fn begin(kind: &Kind, object: &mut Value, cluster_ip: impl FnOnce() -> String) {
    let core = if kind.group.is_empty() { kind.plural.as_str() } else { "" };
    // A node may say at once how it is.
    if kind.has_status && core != "nodes" {
        object::set_part(object, "status", (!kind.is_custom).then(|| json!({})));
    }
    match core {
        "namespaces" => {
            object["spec"]["finalizers"] = json!(["kubernetes"]);
            object["status"]["phase"] = json!("Active");
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
        }
        "persistentvolumeclaims" | "pods" => object["status"]["phase"] = json!("Pending"),
        "secrets" => encode_texts(object),
        "services" if wants_address(object) => {
            let address = cluster_ip();
            object["spec"]["clusterIPs"] = json!([address]);
            object["spec"]["clusterIP"] = Value::String(address);
        }
        _ => {}
    }
}

/// What an object keeps when it is replaced.
pub(crate) fn keep(kind: &Kind, old: &Value, new: &mut Value) {
    let core = if kind.group.is_empty() { kind.plural.as_str() } else { "" };
    match core {
        "secrets" => encode_texts(new),
        "services" if wants_address(new) => {
            for field in ["clusterIP", "clusterIPs"] {
                if let Some(value) = old["spec"].get(field) {
                    new["spec"][field] = value.clone();
                }
            }
        }
        _ => {}
    }
}

fn wants_address(service: &Value) -> bool {
    let spec = &service["spec"];
    spec.is_object() && spec["type"] != "ExternalName" && spec["clusterIP"].as_str().is_none_or(str::is_empty)
}

/// What a Secret gives as text is kept as bytes.
fn encode_texts(secret: &mut Value) {
    let Some(Value::Object(texts)) = secret.as_object_mut().and_then(|secret| secret.remove("stringData")) else {
        return;
    };
    for (name, text) in texts {
        secret["data"][name] = Value::String(BASE64.encode(text.as_str().unwrap_or_default()));
    }
}

/// The fields of a pod's spec that may change after its creation.
const MUTABLE: [&str; 5] =
    ["activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations", "schedulingGates", "ephemeralContainers"];

/// Refuses changes of a pod's spec that the real server refuses: gates may only be lifted, and only a gated pod may be told
/// where to go.
pub(crate) fn check_pod_change(kind: &Kind, name: &str, old: &Value, new: &Value) -> Result<(), Refusal> {
    let (old, new) = (&old["spec"], &new["spec"]);
    if old == new {
        return Ok(());
    }
    let gates = |spec: &Value| spec["schedulingGates"].as_array().cloned().unwrap_or_default();
    let (old_gates, new_gates) = (gates(old), gates(new));
    if new_gates.iter().any(|gate| !old_gates.contains(gate)) {
        let why = "Forbidden: only deletion is allowed, but found new scheduling gate";
        return Err(Refusal::invalid(kind, name, "spec.schedulingGates", why));
    }
    let taken_away = |field: &str| {
        let kept = |spec: &Value| spec[field].as_array().cloned().unwrap_or_default();
        let new = kept(new);
        kept(old).into_iter().any(|item| !new.contains(&item))
    };
    if taken_away("tolerations") {
        let why = "Forbidden: existing toleration can not be modified except its tolerationSeconds";
        return Err(Refusal::invalid(kind, name, "spec.tolerations", why));
    }
    let is_gated = !old_gates.is_empty();
    let adds_only = old["nodeSelector"]
        .as_object()
        .is_none_or(|selector| selector.iter().all(|(key, value)| new["nodeSelector"][key] == *value));
    let frozen = |spec: &Value| {
        let mut frozen = spec.clone();
        for field in MUTABLE {
            object::set_part(&mut frozen, field, None);
        }
        if is_gated && adds_only {
            object::set_part(&mut frozen, "nodeSelector", None);
            object::set_part(&mut frozen, "affinity", None);
        }
        for list in ["containers", "initContainers"] {
            for container in frozen[list].as_array_mut().into_iter().flatten() {
                object::set_part(container, "image", None);
            }
        }
        // Looking for a list that is not there leaves a null.
        if let Some(frozen) = frozen.as_object_mut() {
            frozen.retain(|_, value| !value.is_null());
        }
        frozen
    };
    if frozen(old) == frozen(new) {
        return Ok(());
    }
    let why = "Forbidden: pod updates may not change fields other than `spec.containers[*].image`, \
               `spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` (only additions to existing \
               tolerations), `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
    Err(Refusal::invalid(kind, name, "spec", why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(plural: &str) -> Kind {
        Kind::built_in().into_iter().find(|kind| kind.plural == plural).unwrap()
    }

    fn change(old: &Value, new: &Value) -> Result<(), u16> {
        let pod = |spec: &Value| json!({"spec": spec});
        check_pod_change(&kind("pods"), "p", &pod(old), &pod(new)).map_err(|refusal| refusal.code)
    }

    #[test]
    fn gates_are_lifted_and_never_added() {
        let gated = json!({"containers": [], "schedulingGates": [{"name": "a"}], "nodeSelector": {"x": "1"}});
        assert_eq!(change(&gated, &json!({"containers": [], "nodeSelector": {"x": "1", "rack": "r"}})), Ok(()));
        assert_eq!(change(&gated, &json!({"containers": [], "nodeSelector": {"x": "2"}})), Err(422));
        assert_eq!(change(&json!({"containers": []}), &gated), Err(422));
        assert_eq!(
            change(&json!({"containers": []}), &json!({"containers": [], "nodeSelector": {"rack": "r"}})),
            Err(422)
        );
    }

    #[test]
    fn a_running_pod_changes_its_image_and_little_else() {
        let with = |image: &str, cpu: u32| json!({"containers": [{"name": "c", "image": image, "cpu": cpu}]});
        assert_eq!(change(&with("a", 1), &with("b", 1)), Ok(()));
        assert_eq!(change(&with("a", 1), &with("a", 2)), Err(422));
        let tolerating = json!({"containers": [], "tolerations": [{"key": "k"}]});
        assert_eq!(change(&json!({"containers": []}), &tolerating), Ok(()));
        assert_eq!(change(&tolerating, &json!({"containers": []})), Err(422));
    }

    #[test]
    fn a_service_gets_an_address_and_keeps_it() {
        let services = kind("services");
        let mut service = json!({"spec": {"ports": []}});
        begin(&services, &mut service, || "10.96.0.9".into());
        assert_eq!(service["spec"]["clusterIPs"], json!(["10.96.0.9"]));
        let mut replaced = json!({"spec": {"ports": [1]}});
        keep(&services, &service, &mut replaced);
        assert_eq!(replaced["spec"]["clusterIP"], "10.96.0.9");
        let mut headless = json!({"spec": {"clusterIP": "None"}});
        begin(&services, &mut headless, || unreachable!());
        assert_eq!(headless["spec"]["clusterIP"], "None");
    }

    #[test]
    fn texts_of_a_secret_become_bytes() {
        let mut secret = json!({"stringData": {"token": "abc"}, "data": {"old": "eA=="}});
        begin(&kind("secrets"), &mut secret, String::new);
        assert_eq!(secret, json!({"data": {"token": "YWJj", "old": "eA=="}}));
    }
}

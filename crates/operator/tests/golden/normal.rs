//! Objects as the API server would have them once it has filled in defaults, as far as these differ from what is sent:
//! the recording has request bodies after that step, without what says nothing.

use serde_json::{Map, Value};

/// Fields that a pod's spec has when nothing is said.
const POD_DEFAULTS: [(&str, &str); 6] = [
    ("dnsPolicy", "\"ClusterFirst\""),
    ("enableServiceLinks", "true"),
    ("schedulerName", "\"default-scheduler\""),
    ("securityContext", "{}"),
    ("terminationGracePeriodSeconds", "30"),
    ("restartPolicy", "\"Always\""),
];
/// Fields that a container has when nothing is said.
const CONTAINER_DEFAULTS: [(&str, &str); 3] = [
    ("terminationMessagePath", "\"/dev/termination-log\""),
    ("terminationMessagePolicy", "\"File\""),
    ("resources", "{}"),
];
/// Fields that a Service has when nothing is said.
const SERVICE_DEFAULTS: [(&str, &str); 4] = [
    ("internalTrafficPolicy", "\"Cluster\""),
    ("sessionAffinity", "\"None\""),
    ("type", "\"ClusterIP\""),
    ("allocateLoadBalancerNodePorts", "true"),
];

/// The object without what says nothing, and without what the recording has dropped.
pub fn normalised(mut object: Value) -> Value {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    if object["status"].as_object().is_some_and(Map::is_empty) {
        drop_key(&mut object, "status");
    }
    match kind.as_str() {
        "Pod" => pod_spec(&mut object["spec"]),
        "Service" => service_spec(&mut object["spec"]),
        "PodGroup" if object["apiVersion"] == "scheduling.volcano.sh/v1beta1" => {
            // A default of Volcano's CRD.
            drop_defaults(&mut object["spec"], &[("queue", "\"default\"")]);
        }
        _ => {}
    }
    object
}

fn pod_spec(spec: &mut Value) {
    drop_defaults(spec, &POD_DEFAULTS);
    for list in ["containers", "initContainers"] {
        for container in elements(spec, list) {
            normalise_container(container);
        }
    }
    for volume in elements(spec, "volumes") {
        normalise_volume(volume);
    }
}

fn normalise_container(container: &mut Value) {
    drop_defaults(container, &CONTAINER_DEFAULTS);
    if container["name"] == "wait-gcs-ready"
        && let Some(script) = container["args"][0].as_str()
        && let Some((_, rest)) = script.split_once("--address ")
    {
        // The recording keeps only whom the script waits for.
        container["args"][0] = format!("WAIT FOR {}", rest.split_whitespace().next().unwrap_or_default()).into();
    }
    let image = container["image"].as_str().unwrap_or_default();
    let latest = image.ends_with(":latest") || !image.rsplit('/').next().unwrap_or_default().contains(':');
    if let Some(container) = container.as_object_mut() {
        let policy = if latest { "Always" } else { "IfNotPresent" };
        container.entry("imagePullPolicy").or_insert_with(|| policy.into());
    }
    for port in elements(container, "ports") {
        drop_defaults(port, &[("protocol", "\"TCP\"")]);
    }
    for mount in elements(container, "volumeMounts") {
        // The recording has dropped it.
        drop_key(mount, "readOnly");
    }
    for variable in elements(container, "env") {
        drop_defaults(variable, &[("value", "\"\"")]);
        if let Some(field) = variable.pointer_mut("/valueFrom/fieldRef") {
            drop_defaults(field, &[("apiVersion", "\"v1\"")]);
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe) {
            default_probe(probe);
        }
    }
    if let Some(resources) = container.get_mut("resources") {
        default_requests(resources);
    }
}

fn default_probe(probe: &mut Value) {
    let Some(fields) = probe.as_object_mut() else { return };
    for (key, value) in [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        fields.entry(key).or_insert_with(|| value.into());
    }
    if let Some(action) = fields.get_mut("httpGet").and_then(Value::as_object_mut) {
        action.entry("scheme").or_insert_with(|| "HTTP".into());
        action.entry("path").or_insert_with(|| "/".into());
    }
}

/// Quantities in canonical form; what is limited is requested too.
fn default_requests(resources: &mut Value) {
    for kind in ["limits", "requests"] {
        for quantity in resources[kind].as_object_mut().into_iter().flat_map(Map::values_mut) {
            let parsed = mobula_api::Quantity::from_json(quantity).unwrap();
            *quantity = parsed.to_string().into();
        }
        if resources[kind].is_null() {
            drop_key(resources, kind);
        }
    }
    if let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() {
        let requests = resources.as_object_mut().unwrap().entry("requests").or_insert_with(|| Map::new().into());
        for (name, quantity) in limits {
            requests.as_object_mut().unwrap().entry(name).or_insert(quantity);
        }
    }
}

fn normalise_volume(volume: &mut Value) {
    for source in ["configMap", "secret", "projected"] {
        if let Some(source) = volume.get_mut(source).and_then(Value::as_object_mut) {
            source.entry("defaultMode").or_insert_with(|| 420.into());
        }
    }
    for source in elements(volume.get_mut("projected").unwrap_or(&mut Value::Null), "sources") {
        if let Some(token) = source.get_mut("serviceAccountToken").and_then(Value::as_object_mut) {
            token.entry("expirationSeconds").or_insert_with(|| 3600.into());
        }
    }
    if let Some(path) = volume.get_mut("hostPath").and_then(Value::as_object_mut) {
        path.entry("type").or_insert_with(|| "".into());
    }
    if let Some(limit) = volume.pointer_mut("/emptyDir/sizeLimit") {
        *limit = mobula_api::Quantity::from_json(limit).unwrap().to_string().into();
    }
}

fn service_spec(spec: &mut Value) {
    let kind = spec["type"].as_str().unwrap_or("ClusterIP").to_owned();
    drop_defaults(spec, &SERVICE_DEFAULTS);
    if kind != "ClusterIP" {
        spec["externalTrafficPolicy"].take();
        drop_key(spec, "externalTrafficPolicy");
    }
    if spec["sessionAffinity"] == "ClientIP" {
        spec["sessionAffinityConfig"] = serde_json::json!({ "clientIP": { "timeoutSeconds": 10800 } });
    }
    for port in elements(spec, "ports") {
        drop_defaults(port, &[("protocol", "\"TCP\"")]);
        if port["targetPort"] == port["port"] {
            drop_key(port, "targetPort");
        }
    }
    // KubeRay's order is that of a Go map in a Service that the user has shaped.
    if let Some(ports) = spec["ports"].as_array_mut() {
        ports.sort_by_key(|port| port["name"].as_str().unwrap_or_default().to_owned());
    }
}

fn elements<'a>(object: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten()
}

fn drop_key(object: &mut Value, key: &str) {
    if let Some(object) = object.as_object_mut() {
        object.remove(key);
    }
}

fn drop_defaults(object: &mut Value, defaults: &[(&str, &str)]) {
    for (key, default) in defaults {
        let default: Value = serde_json::from_str(default).unwrap();
        if object.get(*key) == Some(&default) {
            drop_key(object, key);
        }
    }
}

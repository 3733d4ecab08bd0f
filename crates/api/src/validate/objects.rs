//! What the API server will refuse of the objects that are made of a RayCluster: names that are none or occur twice, and ports
//! that do.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Member, is_autoscaled, is_dns_1123_label, list};
use crate::{
    FieldError, RayCluster,
    at::{At, member},
    labels::{bad_key, bad_labels},
    template::PodTemplate,
};

const HEAD_SERVICE: &str = "spec.headGroupSpec.headService";
/// The init container that the operator adds to workers, unless it is told not to.
const WAIT_FOR_GCS: &str = "wait-gcs-ready";
/// The port that the operator adds where no port is called so.
const METRICS: (&str, i64) = ("metrics", 8080);
/// Ports of the head's Service where the Ray container names none.
const DEFAULT_PORTS: [(&str, i64); 5] =
    [("client", 10001), ("gcs-server", 6379), ("dashboard", 8265), METRICS, ("serve", 8000)];
/// Longest name of a port, and of a Service.
const MOST_PORT_NAME_CHARS: usize = 15;
const MOST_SERVICE_NAME_CHARS: usize = 63;

pub(super) fn refused(cluster: &RayCluster) -> Vec<FieldError> {
    let head = Member::head(cluster);
    let mut advice = containers(&head, is_autoscaled(cluster).then_some("autoscaler"));
    advice.extend(ports(&head));
    for workers in Member::workers(cluster) {
        advice.extend(containers(&workers, Some(WAIT_FOR_GCS)));
        advice.extend(ports(&workers));
    }
    advice.extend(head_service(cluster, &head));
    advice
}

/// Names of containers, those of the operator among them, and metadata of the pod.
fn containers(member: &Member<'_>, operators: Option<&str>) -> Vec<FieldError> {
    let Ok(template) = &member.template else { return Vec::new() };
    let mut advice = pod_metadata(member, template);
    for container in ["initContainers", "containers"].iter().flat_map(|kind| list(template.spec(), kind)) {
        let Ok(name) = container.text("name") else { continue };
        let problem = if operators == Some(name.as_str()) && name == WAIT_FOR_GCS {
            "is the name of a container that the operator adds, and then no pod can be created: choose another, unless the operator \
             runs with ENABLE_INIT_CONTAINER_INJECTION=false"
        } else if operators == Some(name.as_str()) {
            "is the name of a container that the operator adds, and no pod can be created: choose another"
        } else if !name.is_empty() && !is_dns_1123_label(&name) {
            "no pod can be created: write at most 63 lower-case letters, digits and -, with a letter or digit at both ends"
        } else {
            continue;
        };
        advice.push(FieldError::new(format!("{}.name", container.path()), name, problem));
    }
    advice
}

fn pod_metadata(member: &Member<'_>, template: &PodTemplate<'_>) -> Vec<FieldError> {
    let path = format!("{}.template.metadata", member.path);
    let map = |kind: &str| template.metadata(kind).unwrap_or_default();
    bad_labels(&format!("{path}.labels"), &map("labels"))
        .chain(bad_annotations(&format!("{path}.annotations"), &map("annotations")))
        .collect()
}

/// Kubernetes takes capitals in keys of annotations.
fn bad_annotations(path: &str, annotations: &BTreeMap<String, String>) -> Vec<FieldError> {
    let bad = |key: &String| bad_key(path, &key.to_lowercase(), "an annotation key");
    annotations.keys().filter_map(|key| Some(FieldError::new(path, key, bad(key)?.problem))).collect()
}

/// Ports of containers: numbers that are none, and names that are none or occur twice in a container.
fn ports(member: &Member<'_>) -> Vec<FieldError> {
    let Ok(template) = &member.template else { return Vec::new() };
    let mut advice = Vec::new();
    for container in ["initContainers", "containers"].iter().flat_map(|kind| list(template.spec(), kind)) {
        let mut named: BTreeMap<String, String> = BTreeMap::new();
        for port in list(&container, "ports") {
            advice.extend(port_number(&port, "containerPort"));
            let Some(name) = port.text("name").ok().filter(|name| !name.is_empty()) else { continue };
            let problem = if let Some(other) = named.get(&name) {
                format!("is the name of {other} too: give every port of a container a name of its own")
            } else if !is_port_name(&name) {
                format!(
                    "no pod can be created: write at most {MOST_PORT_NAME_CHARS} lower-case letters, digits and single -, a \
                     letter among them, none of the - at an end"
                )
            } else {
                named.insert(name, port.path());
                continue;
            };
            advice.push(FieldError::new(format!("{}.name", port.path()), name, problem));
        }
    }
    advice
}

fn port_number(port: &At<'_>, key: &str) -> Option<FieldError> {
    let number = port.get(key).ok()??;
    (!(1..=65_535).contains(&number.int().ok()?)).then(|| number.error("must be the number of a port: from 1 to 65535"))
}

fn is_port_name(name: &str) -> bool {
    name.len() <= MOST_PORT_NAME_CHARS
        && is_dns_1123_label(name)
        && name.contains(|c: char| c.is_ascii_lowercase())
        && !name.contains("--")
}

/// The head's Service: its name, type, annotations, and ports that occur twice in it.
fn head_service(cluster: &RayCluster, head: &Member<'_>) -> Vec<FieldError> {
    let spec = &cluster.spec.head_group_spec;
    let annotations = &cluster.spec.head_service_annotations;
    let mut advice = bad_annotations("spec.headServiceAnnotations", annotations);
    if let Some(kind) = spec.service_type.as_deref().filter(|kind| !kind.is_empty()) {
        advice.extend(service_type("spec.headGroupSpec.serviceType", kind));
    }
    let own = spec.head_service.as_ref().map(|service| At::new(HEAD_SERVICE, service));
    let mut taken = Vec::new();
    if let Some(own) = &own {
        advice.extend(own_head_service(own));
        taken = own_ports(own, &mut advice);
    }
    let whose = if own.is_some() {
        "the head's Service, to which the operator adds the ports of the head,"
    } else {
        "the head's Service"
    };
    for port in made_ports(head) {
        let same = |known: &&ServicePort| known.name == port.name || (known.number == port.number && known.is_tcp);
        match taken.iter().find(same) {
            Some(known) => advice.push(twice(whose, known, &port)),
            None => taken.push(port),
        }
    }
    advice
}

/// A port of a Service, and where it comes from: empty if from the operator.
struct ServicePort {
    name: String,
    number: i64,
    is_tcp: bool,
    field: String,
}

/// The ports that the operator puts into the head's Service, all of them TCP: those of the Ray container, else Ray's own. Of
/// one name there is one, the last.
fn made_ports(head: &Member<'_>) -> Vec<ServicePort> {
    let Ok(template) = &head.template else { return Vec::new() };
    let mut ports: Vec<ServicePort> = Vec::new();
    for port in list(template.container(), "ports") {
        let Some(number) = port.get("containerPort").ok().flatten().and_then(|number| number.int().ok()) else {
            continue;
        };
        let name = port.text("name").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| format!("{number}-port"));
        ports.retain(|other| other.name != name);
        ports.push(ServicePort { name, number, is_tcp: true, field: port.path() });
    }
    let of_operator =
        |(name, number): (&str, i64)| ServicePort { name: name.to_owned(), number, is_tcp: true, field: String::new() };
    if ports.is_empty() {
        return DEFAULT_PORTS.map(of_operator).into();
    }
    if !ports.iter().any(|port| port.name == METRICS.0) {
        ports.push(of_operator(METRICS));
    }
    ports
}

/// Ports that the user has put into the head's Service.
fn own_ports(own: &At<'_>, advice: &mut Vec<FieldError>) -> Vec<ServicePort> {
    let mut ports = Vec::new();
    for port in own.get("spec").ok().flatten().iter().flat_map(|spec| list(spec, "ports")) {
        advice.extend(port_number(&port, "port"));
        let (name, protocol) = (port.text("name").unwrap_or_default(), port.text("protocol").unwrap_or_default());
        let number = port.value().get("port").and_then(Value::as_i64).unwrap_or_default();
        if !is_dns_1123_label(&name) {
            let problem =
                "no Service can be created: every port must have a name of at most 63 lower-case letters, digits and -";
            advice.push(FieldError::new(format!("{}.name", port.path()), &name, problem));
        }
        let is_tcp = ["", "TCP"].contains(&protocol.as_str());
        ports.push(ServicePort { name, number, is_tcp, field: port.path() });
    }
    ports
}

/// A port is in a Service twice, which the API server refuses. Named is the one that the user can change.
fn twice(whose: &str, known: &ServicePort, port: &ServicePort) -> FieldError {
    let (mine, other) = if port.field.is_empty() { (known, port) } else { (port, known) };
    let by = if other.field.is_empty() { "the operator's own" } else { other.field.as_str() };
    let problem = format!(
        "{whose} would have the port {} {} twice and can't be created: {by} is {} {}: remove one of the two, or change it",
        mine.name, mine.number, other.name, other.number
    );
    FieldError::new(&mine.field, &mine.name, problem)
}

fn own_head_service(own: &At<'_>) -> Vec<FieldError> {
    let mut advice = Vec::new();
    if let Ok(Some(metadata)) = own.get("metadata") {
        let path = metadata.path();
        let name = metadata.text("name").unwrap_or_default();
        if !name.is_empty() && (name.len() > MOST_SERVICE_NAME_CHARS || !is_dns_1123_label(&name)) {
            let problem = format!(
                "no Service can be created: write at most {MOST_SERVICE_NAME_CHARS} lower-case letters, digits and -, no - \
                 at either end (before Kubernetes 1.36 a letter first)"
            );
            advice.push(FieldError::new(member(&path, "name"), name, problem));
        }
        let map = |key: &str| metadata.text_map(key).unwrap_or_default();
        advice.extend(bad_labels(&member(&path, "labels"), &map("labels")));
        advice.extend(bad_annotations(&member(&path, "annotations"), &map("annotations")));
    }
    if let Ok(Some(kind)) = own.get_in(&["spec", "type"])
        && let Ok(text) = kind.str()
        && !["", "ExternalName"].contains(&text)
    {
        advice.extend(service_type(&kind.path(), text));
    }
    advice
}

/// A type that a Service of the head can't have.
fn service_type(field: &str, kind: &str) -> Option<FieldError> {
    let problem = "no Service can be created: must be ClusterIP, NodePort or LoadBalancer";
    (!["ClusterIP", "NodePort", "LoadBalancer"].contains(&kind)).then(|| FieldError::new(field, kind, problem))
}

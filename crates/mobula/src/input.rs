//! Reading files. Every error names the file, the field and its value.

mod culprit;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read as _;
use std::path::Path;

use mobula_api::{FieldError, PodRole, PodView, RayCluster};
use mobula_autoscaler::{
    prices::Prices,
    quotas::{Source, Tenant},
    surroundings::troubles_of,
    topology_levels::{self, ChosenTopology},
};
use mobula_gcs::{ClusterState, wire};
use mobula_planner::{Quota, topology_presets};
use serde_json::{Value, json};

/// Name that stands for standard input.
pub const STDIN: &str = "-";

/// An input that can't be used.
#[derive(Debug)]
pub struct BadInput {
    file: String,
    problem: String,
}

impl BadInput {
    /// About one file (or option).
    pub fn new(file: &str, problem: impl fmt::Display) -> Self {
        BadInput { file: shown(file).to_owned(), problem: problem.to_string() }
    }
}

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.problem)
    }
}

impl std::error::Error for BadInput {}

/// A file's name as messages have it.
pub fn shown(file: &str) -> &str {
    if file == STDIN { "standard input" } else { file }
}

/// The file, or every manifest below the directory, in the order of their names.
pub fn files_below(file: &str) -> Vec<Result<String, BadInput>> {
    if file == STDIN || !Path::new(file).is_dir() {
        return vec![Ok(file.to_owned())];
    }
    let entries = match std::fs::read_dir(file) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect::<BTreeSet<_>>(),
        Err(error) => return vec![Err(BadInput::new(file, error))],
    };
    let is_manifest =
        |path: &Path| path.extension().and_then(|e| e.to_str()).is_some_and(|e| matches!(e, "yaml" | "yml" | "json"));
    let below = entries.into_iter().filter(|path| path.is_dir() || is_manifest(path));
    below.flat_map(|path| files_below(&path.to_string_lossy())).collect()
}

/// A file's text.
pub fn text(file: &str) -> Result<String, BadInput> {
    String::from_utf8(read(file)?).map_err(|error| BadInput::new(file, format!("not UTF-8: {error}")))
}

/// The RayCluster in a file of manifests: the only one, whatever else the file holds.
pub fn raycluster(file: &str) -> Result<RayCluster, BadInput> {
    let mut objects = objects(file)?;
    let kinds: Vec<&str> = objects.iter().map(kind).collect();
    let clusters: Vec<usize> = (0..kinds.len()).filter(|index| kinds[*index] == "RayCluster").collect();
    let index = match clusters[..] {
        [index] => index,
        // A manifest that does not say what it is: the fields that it lacks are named.
        [] if kinds == [""] => 0,
        [] if kinds.is_empty() => return Err(BadInput::new(file, "kind: the file is empty: must hold a RayCluster")),
        [] => {
            let found = kinds.iter().map(|kind| if kind.is_empty() { "nothing" } else { kind }).collect::<Vec<_>>();
            let problem = format!("kind: {}: there must be a RayCluster", found.join(", "));
            return Err(BadInput::new(file, problem));
        }
        _ => {
            let names: Vec<&str> = clusters.iter().map(|index| name(&objects[*index])).collect();
            let problem = format!("metadata.name: {}: there must be one RayCluster: keep one", names.join(", "));
            return Err(BadInput::new(file, problem));
        }
    };
    RayCluster::from_value(objects.swap_remove(index)).map_err(|error| BadInput::new(file, error))
}

/// The pods of one RayCluster in a file as kubectl prints it; then those of others, as they are written.
pub fn pods(file: &str, cluster: &str) -> Result<(Vec<PodView>, Vec<Value>), BadInput> {
    let is_of_cluster =
        |pod: &PodView| pod.cluster == cluster || (pod.cluster.is_empty() && pod.role != PodRole::Other);
    let bad = |error| BadInput::new(file, error);
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for document in documents(file)? {
        let listed = PodView::list_from_value(&document).map_err(bad)?;
        for (pod, written) in listed.into_iter().zip(parts(document).map_err(bad)?) {
            if is_of_cluster(&pod) {
                own.push(pod);
            } else {
                others.push(written);
            }
        }
    }
    Ok((own, others))
}

/// Most unknown fields that are named in one warning.
const MOST_NAMED: usize = 5;

/// Demand in a file, and a warning of what in it has no meaning: `.json` is protobuf JSON, everything else (and standard input)
/// is told by its first byte.
pub fn demand(file: &str) -> Result<(ClusterState, Option<String>), BadInput> {
    let bytes = read(file)?;
    // No reply starts with `{` as protobuf: that would be field 15 with a wire type that groups used.
    let starts_as_json = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    if has_extension(file, "json") || (!has_extension(file, "pb") && starts_as_json) {
        let text = std::str::from_utf8(&bytes).map_err(|error| BadInput::new(file, format!("not UTF-8: {error}")))?;
        let mut unknown = Vec::new();
        let state = wire::decode_cluster_state_json_strictly(text, &mut unknown)
            .map_err(|error| bad_demand(file, text, &error))?;
        Ok((state, unknown_fields(file, &unknown)))
    } else {
        let is = "must be a GetClusterResourceStateReply or a ClusterResourceState (protobuf JSON: in a .json file)";
        let bad = |error| BadInput::new(file, format!("{error}; {is}"));
        Ok((wire::decode_cluster_state(&bytes).map_err(bad)?, None))
    }
}

fn unknown_fields(file: &str, unknown: &[String]) -> Option<String> {
    if unknown.is_empty() {
        return None;
    }
    let named = unknown.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = unknown.len().saturating_sub(MOST_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(BadInput::new(file, format!("no such field: {named}{more}: ignored")).to_string())
}

/// Names the field, where one can be named.
fn bad_demand(file: &str, text: &str, error: &wire::DecodeError) -> BadInput {
    let refusal = |document: &Value| match wire::decode_cluster_state_json(&document.to_string()) {
        Err(wire::DecodeError::Json(error)) => Some(error.to_string()),
        _ => None,
    };
    match serde_json::from_str(text).ok().and_then(|document| culprit::find(&document, refusal)) {
        Some(field) => BadInput::new(file, field),
        None => BadInput::new(file, error),
    }
}

/// Prices by group.
pub fn prices(file: &str) -> Result<Prices, BadInput> {
    let text = text(file)?;
    Prices::from_text(&text).map_err(|error| BadInput::new(file, error))
}

/// The topology: a preset, else what is in a file.
pub fn topology(name: &str) -> Result<ChosenTopology, BadInput> {
    if let Some(levels) = topology_presets::preset(name) {
        return Ok(ChosenTopology { levels, ..ChosenTopology::default() });
    }
    let known = topology_presets::preset_names().collect::<Vec<_>>().join(", ");
    let text = std::fs::read_to_string(name)
        .map_err(|error| BadInput::new("--topology", format!("{name}: must be one of {known}, or a file: {error}")))?;
    topology_levels::from_text(&text).map_err(|error| BadInput::new(name, error))
}

/// Kubernetes nodes, as a list as the API server sends it.
pub fn nodes(file: &str) -> Result<Value, BadInput> {
    let nodes = objects(file)?;
    for (index, node) in nodes.iter().enumerate() {
        let error = match kind(node) {
            _ if !node.is_object() => FieldError::new(format!("items[{index}]"), node.to_string(), "must be a Node"),
            "Node" => continue,
            kind => FieldError::new(format!("items[{index}].kind"), kind, "must be Node"),
        };
        return Err(BadInput::new(file, error));
    }
    Ok(json!({ "items": nodes }))
}

/// What is wrong with Kubernetes nodes: node name → troubles.
pub fn node_troubles(nodes: &Value) -> BTreeMap<String, Vec<String>> {
    let nodes = nodes.get("items").and_then(Value::as_array).into_iter().flatten();
    nodes.map(|node| (name(node).to_owned(), troubles_of(node))).filter(|(_, troubles)| !troubles.is_empty()).collect()
}

/// What quotas of several kinds leave to a RayCluster, and what of them can't be read.
pub fn quotas(file: &str, tenant: &Tenant) -> Result<(Vec<Quota>, Vec<String>), BadInput> {
    let (mut quotas, mut doubts) = (Vec::new(), Vec::new());
    for (index, object) in objects(file)?.iter().enumerate() {
        let Some(source) = Source::of(object) else {
            let known = Source::ALL.map(Source::kind).join(", ");
            let error =
                FieldError::new(format!("items[{index}].kind"), kind(object), format!("must be one of {known}"));
            return Err(BadInput::new(file, error));
        };
        quotas.extend(source.quotas(object, tenant));
        doubts.extend(source.doubts(object));
    }
    Ok((quotas, doubts))
}

fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or_default()
}

fn name(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

/// All objects of a file; lists are taken apart.
pub fn objects(file: &str) -> Result<Vec<Value>, BadInput> {
    let mut objects = Vec::new();
    for document in documents(file)? {
        objects.extend(parts(document).map_err(|error| BadInput::new(file, error))?);
    }
    Ok(objects)
}

/// The objects of a list; of anything else, itself.
fn parts(document: Value) -> Result<Vec<Value>, FieldError> {
    match document {
        Value::Array(items) => Ok(items),
        Value::Object(mut list) if list.get("items").is_some_and(Value::is_array) => match list.remove("items") {
            Some(Value::Array(items)) => Ok(items),
            _ => Ok(Vec::new()),
        },
        // An empty list as Go writes it.
        Value::Object(list) if is_list(&list) && list.get("items").is_none_or(Value::is_null) => Ok(Vec::new()),
        Value::Object(list) if is_list(&list) => {
            let items = list.get("items").unwrap_or(&Value::Null);
            Err(FieldError::new("items", items.to_string(), "must be a list"))
        }
        object => Ok(vec![object]),
    }
}

fn is_list(object: &serde_json::Map<String, Value>) -> bool {
    let kind = object.get("kind").and_then(Value::as_str);
    kind.is_some_and(|kind| kind.ends_with("List"))
}

/// All documents of a YAML or JSON file.
fn documents(file: &str) -> Result<Vec<Value>, BadInput> {
    let text = text(file)?;
    if has_extension(file, "json") {
        let document = serde_json::from_str(&text);
        return document
            .map(|document| vec![document])
            .map_err(|error| BadInput::new(file, format!("not JSON: {error}")));
    }
    // Lists of thousands of pods are larger than the default budget; what guards against alias bombs stays.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_events: 50_000_000, max_nodes: 20_000_000, },
        with_snippet: false,
        // As kubectl reads: 0777 is octal.
        legacy_octal_numbers: true,
    };
    // JSON is YAML, and much faster to read as what it is.
    if let Ok(document) = serde_json::from_str(&text) {
        return Ok(vec![document]);
    }
    serde_saphyr::from_multiple_with_options(&text, options)
        .map_err(|error| BadInput::new(file, format!("not YAML: {error}")))
}

fn has_extension(file: &str, extension: &str) -> bool {
    Path::new(file).extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

fn read(file: &str) -> Result<Vec<u8>, BadInput> {
    if file == STDIN {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map_err(|error| BadInput::new(file, error))?;
        return Ok(bytes);
    }
    std::fs::read(file).map_err(|error| BadInput::new(file, error))
}

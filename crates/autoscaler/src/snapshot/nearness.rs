//! How near the hosts of a placement group have to be, from the annotations of pod templates.

use mobula_api::keys;
use mobula_planner::topology::level_named;
use mobula_planner::{Nearness, TopologyLevel};
use serde_json::Value;

use super::Warnings;

/// Annotations that say the same, the first that is there counts; Mobula's own comes first.
const REQUIRED: [&str; 3] = [keys::TOPOLOGY_REQUIRED, keys::KUEUE_TOPOLOGY_REQUIRED, keys::KAI_TOPOLOGY_REQUIRED];
const PREFERRED: [&str; 3] = [keys::TOPOLOGY_PREFERRED, keys::KUEUE_TOPOLOGY_PREFERRED, keys::KAI_TOPOLOGY_PREFERRED];

/// What the template of a group says. A level that is not there is a warning. If it is required in Mobula's own words, it is
/// kept, so that gangs are held rather than started just anywhere; Kueue and KAI see to what is said to them themselves.
pub(super) fn read(group: &str, template: &Value, levels: &[TopologyLevel], warnings: &mut Warnings) -> Nearness {
    let Some(annotations) = template.pointer("/metadata/annotations") else { return Nearness::default() };
    let mut find = |keys: [&str; 3]| -> Option<String> {
        let (key, value) = keys.into_iter().find_map(|key| Some((key, annotations.get(key)?)))?;
        let name = value.as_str().unwrap_or_default();
        if level_named(levels, name).is_some() {
            return Some(name.to_owned());
        }
        let is_held = key == keys::TOPOLOGY_REQUIRED;
        let effect = if is_held { "placement groups on its pods are held" } else { "ignored" };
        let known = known(levels);
        warnings.push(format!(
            "group {group}: annotation {key}: {value}: must be a level of the topology, {known}: {effect}"
        ));
        is_held.then(|| if name.is_empty() { value.to_string() } else { name.to_owned() })
    };
    Nearness { required: find(REQUIRED), preferred: find(PREFERRED) }
}

/// The levels that there are, after "must be a level of the topology,".
fn known(levels: &[TopologyLevel]) -> String {
    let names: Vec<&str> = levels.iter().map(|level| level.name.as_str()).collect();
    match names.is_empty() {
        true => "which has none".to_owned(),
        false => format!("by its name or a label key of it; its levels are {}", names.join(", ")),
    }
}

//! ResourceQuota.

use mobula_api::Quantity;
use mobula_planner::{Amount, Quota, Resources};
use serde_json::Value;

use super::{Claimant, PODS, Tenant};
use crate::pod_needs::{Quantities, amount, quantities};
use crate::surroundings::{list, text};

/// Resources that stand without the prefix `requests.` for what pods request.
const PLAIN: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

pub(super) fn read(object: &Value, tenant: &Tenant) -> Vec<Quota> {
    if !tenant.is_beside(object) {
        return Vec::new();
    }
    let groups: Vec<&Claimant> = tenant.groups.iter().filter(|group| is_in_scope(object, group)).collect();
    let name = text(object, "/metadata/name");
    let reader =
        Reader { source: format!("ResourceQuota {name}"), is_all: groups.len() == tenant.groups.len(), groups };
    reader.read(&free(object))
}

/// What is left, by the names that the quota uses.
fn free(object: &Value) -> Quantities {
    // Before the quota controller has seen it there is no status.
    let hard = object.pointer("/status/hard").or_else(|| object.pointer("/spec/hard"));
    let used = quantities(object.pointer("/status/used"));
    let left = |(name, hard): (String, Quantity)| {
        let used = used.get(&name).copied().unwrap_or_default();
        let left = hard.checked_sub(used).filter(|left| !left.is_negative()).unwrap_or_default();
        (name, left)
    };
    quantities(hard).into_iter().map(left).collect()
}

struct Reader<'a> {
    source: String,
    /// Those it counts.
    groups: Vec<&'a Claimant>,
    /// Whether these are all groups.
    is_all: bool,
}

impl Reader<'_> {
    fn read(&self, left: &Quantities) -> Vec<Quota> {
        if self.groups.is_empty() {
            return Vec::new();
        }
        let mut free = Resources::new();
        let mut more = Vec::new();
        for (name, left) in left {
            if let Some(resource) = requested(name) {
                lower(&mut free, resource, amount(*left));
            } else if let Some(resource) = name.strip_prefix("limits.") {
                let unequal = self.groups.iter().filter(|g| g.limits.get(resource) != g.requests.get(resource));
                let unequal: Vec<&Claimant> = unequal.copied().collect();
                if unequal.is_empty() {
                    lower(&mut free, resource, amount(*left));
                } else {
                    more.extend(self.limits(resource, *left, &unequal));
                }
            }
        }
        if !free.is_empty() {
            let names = if self.is_all { Vec::new() } else { names(&self.groups) };
            more.insert(0, Quota { source: self.source.clone(), groups: names, free });
        }
        more
    }

    /// A quota on limits of groups whose limits are not their requests, which are all that the planner counts. Each of them
    /// gets as many pods as there is room for if nobody else takes any; the others share what there is.
    fn limits(&self, resource: &str, left: Quantity, unequal: &[&Claimant]) -> Vec<Quota> {
        let mut quotas = Vec::new();
        let equal = self.groups.iter().filter(|group| unequal.iter().all(|other| other.name != group.name));
        let equal: Vec<&Claimant> = equal.filter(|group| group.limits.contains_key(resource)).copied().collect();
        let quota = |groups, free: (&str, Amount)| Quota {
            source: self.source.clone(),
            groups,
            free: Resources::from([(free.0.to_owned(), free.1)]),
        };
        if !equal.is_empty() {
            quotas.push(quota(names(&equal), (resource, amount(left))));
        }
        for group in unequal {
            let limit = group.limits.get(resource).map_or(0, |limit| amount(*limit).steps());
            if let Some(pods) = amount(left).steps().checked_div(limit) {
                quotas.push(quota(vec![group.name.clone()], (PODS, Amount::from_units(pods))));
            }
        }
        quotas
    }
}

fn names(groups: &[&Claimant]) -> Vec<String> {
    groups.iter().map(|group| group.name.clone()).collect()
}

/// The resource of pods that this entry counts; `None`: it counts limits, or other things than pods.
fn requested(name: &str) -> Option<&str> {
    match name {
        "pods" | "count/pods" => Some(PODS),
        // Of volume claims.
        "requests.storage" => None,
        _ if PLAIN.contains(&name) || name.starts_with("hugepages-") => Some(name),
        _ => name.strip_prefix("requests."),
    }
}

fn lower(free: &mut Resources, resource: &str, left: Amount) {
    let least = free.entry(resource.to_owned()).or_insert(left);
    *least = (*least).min(left);
}

/// Whether a quota counts pods of this group.
fn is_in_scope(object: &Value, group: &Claimant) -> bool {
    let scopes = list(object, "/spec/scopes").iter().filter_map(Value::as_str).map(|scope| (scope, "Exists", &[][..]));
    let selected = list(object, "/spec/scopeSelector/matchExpressions").iter();
    let selected = selected.map(|e| (text(e, "/scopeName"), text(e, "/operator"), list(e, "/values")));
    scopes.chain(selected).all(|(scope, operator, values)| match scope {
        "BestEffort" => group.requests.is_empty() && group.limits.is_empty(),
        "NotBestEffort" => !(group.requests.is_empty() && group.limits.is_empty()),
        // Ray's pods have no deadline.
        "Terminating" => false,
        "NotTerminating" => true,
        "PriorityClass" => {
            let class = group.priority_class.as_str();
            let is_listed = values.iter().any(|value| value == class);
            match operator {
                "In" => is_listed,
                "NotIn" => !is_listed,
                "DoesNotExist" => class.is_empty(),
                _ => !class.is_empty(),
            }
        }
        // Whatever this is, better to keep a quota too many than to be refused.
        _ => true,
    })
}

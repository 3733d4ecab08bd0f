//! Why demand found no place: could anything ever hold it?

use super::cluster::Cluster;
use super::served::name;
use super::state::{Ledger, satisfies};
use super::tables::{Class, ClassId, Run};
use super::words::{amount, counted, selector};
use crate::{Node, NodePhase, UnmetCause};

/// Why demand of which `runs` found no place is not served.
pub(super) fn why_unmet(cluster: &mut Cluster<'_>, runs: &[Run]) -> (UnmetCause, String) {
    let mut reason = None;
    for run in runs {
        match holder(cluster, run.class) {
            Holder::Nobody => return (UnmetCause::NeverFits, nearest(cluster, run.class)),
            Holder::Group(group) => {
                reason.get_or_insert_with(|| (UnmetCause::Limit, limit(cluster, group)));
            }
            Holder::Node(at) => {
                let id = cluster.input.snapshot.nodes.get(at).map_or("", |node| node.instance_id.as_str());
                let id = if id.is_empty() { "a node that nobody manages" } else { id };
                let text =
                    format!("only nodes like {id} could hold it, and they are in use; no group can be launched for it");
                reason.get_or_insert((UnmetCause::Waiting, text));
            }
        }
    }
    reason.unwrap_or((UnmetCause::Limit, "it asks for nothing".to_owned()))
}

/// Who could hold a request if nothing else were there.
enum Holder {
    Group(u16),
    /// Position in the snapshot.
    Node(usize),
    Nobody,
}

fn holder(cluster: &mut Cluster<'_>, class: ClassId) -> Holder {
    let one = [Run { class, count: 1, origin: 0 }];
    let mut holders = Vec::new();
    for (at, group) in (0..).zip(&cluster.groups) {
        if !group.spec.is_head && cluster.states.fill(group.launched, Ledger::Demand, &one).is_some() {
            holders.push(at);
        }
    }
    // A group with room to grow says more about the reason than one that can't have nodes at all.
    let open = holders.iter().find(|at| cluster.groups[usize::from(**at)].max > 0).or(holders.first());
    if let Some(&group) = open {
        return Holder::Group(group);
    }
    let (tables, nodes) = (cluster.states.tables(), &cluster.input.snapshot.nodes);
    let class = &tables.classes[class as usize];
    let node =
        nodes.iter().position(|node| node.phase == NodePhase::Running && could_hold(class, &tables.resources, node));
    node.map_or(Holder::Nobody, Holder::Node)
}

/// Whether an empty `node` could hold one request.
fn could_hold(class: &Class<'_>, resources: &[&str], node: &Node) -> bool {
    let enough = class.needs.iter().all(|&(resource, need)| {
        let name = resources.get(usize::from(resource)).copied().unwrap_or_default();
        node.total.get(name).is_some_and(|has| has.as_f64() >= need)
    });
    let label = |key: &str| node.dynamic_labels.get(key).or(node.labels.get(key)).map(String::as_str);
    let matches = |constraints: &[crate::LabelConstraint]| constraints.iter().all(|c| satisfies(label(&c.key), c));
    enough && (class.selectors.is_empty() || class.selectors.iter().any(|selector| matches(&selector.constraints)))
}

/// What keeps `group` from being launched.
fn limit(cluster: &Cluster<'_>, group: u16) -> String {
    let spec = cluster.groups[usize::from(group)].spec;
    let most = cluster.input.snapshot.settings.max_nodes;
    if spec.suspended {
        return format!("group {} could hold it, but is suspended", spec.name);
    }
    let replicas = counted(u64::from(spec.max_replicas), "replica");
    match most {
        Some(most) if cluster.order.len() >= most as usize => {
            format!("group {} could hold it, but the cluster has reached its maximum of {most} nodes", spec.name)
        }
        _ => format!("group {} could hold it, but not all of it within its maximum of {replicas}", spec.name),
    }
}

/// The group that comes nearest, and what it lacks.
fn nearest(cluster: &Cluster<'_>, class: ClassId) -> String {
    let tables = cluster.states.tables();
    let class = &tables.classes[class as usize];
    let groups = (0..).zip(&cluster.groups).filter(|(_, group)| !group.spec.is_head);
    let lacks = groups.map(|(at, group)| {
        let mut lacks = Vec::new();
        let mut short = 0.0;
        for &(resource, need) in &class.needs {
            let kind = tables.resources.get(usize::from(resource)).copied().unwrap_or_default();
            let has = cluster.states.total(group.launched, resource);
            if need > has {
                short += (need - has) / need;
                lacks.push(match has {
                    0.0 => format!("no {kind}"),
                    _ => format!("{kind} {} where {} is asked for", amount(kind, has), amount(kind, need)),
                });
            }
        }
        let label = |key: &str| group.spec.labels.get(key).map(String::as_str);
        let matches = |s: &&crate::LabelSelector| s.constraints.iter().all(|c| satisfies(label(&c.key), c));
        if let Some(first) = class.selectors.first()
            && !class.selectors.iter().any(|selector| matches(&selector))
        {
            short += 1.0;
            lacks.push(format!("no labels with {}", selector(first)));
        }
        (at, lacks, short)
    });
    let nearest = lacks.min_by(|a, b| (a.1.len().cmp(&b.1.len())).then_with(|| a.2.total_cmp(&b.2)));
    match nearest {
        None => "there is no worker group".to_owned(),
        Some((at, lacks, _)) => {
            let group = name(cluster.input.snapshot, at);
            format!("no group can ever hold it; the nearest is {group}, which has {}", lacks.join(" and "))
        }
    }
}

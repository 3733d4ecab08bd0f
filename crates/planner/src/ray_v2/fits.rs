//! Why demand found no place: could anything ever hold it?

use super::cluster::Cluster;
use super::schedule::Cut;
use super::served::name;
use super::state::Ledger;
use super::tables::{ClassId, Run, Tables};
use crate::words::{amount, counted, selector};
use crate::{MAX_LAUNCHES, Node, NodePhase, UnmetCause};

/// Why demand of which `runs` found no place is not served; `cut` tells what could not be launched for it.
pub(super) fn why_unmet(cluster: &mut Cluster<'_>, runs: &[Run], cut: &Cut) -> (UnmetCause, String) {
    let (mut at_once, mut reason) = (None, None);
    for run in runs {
        match holder(cluster, run.class, cut) {
            Holder::Nobody => return (UnmetCause::NeverFits, nearest(cluster, run.class)),
            Holder::Group(group) if cut.groups.contains(&group) => {
                at_once.get_or_insert_with(|| too_much_at_once(cluster, group, cut.alone));
            }
            Holder::Group(group) => {
                reason.get_or_insert_with(|| (UnmetCause::Limit, limit(cluster, group)));
            }
            Holder::Node(node) => {
                reason.get_or_insert_with(|| (UnmetCause::Waiting, wait_for(node)));
            }
            Holder::Head => {
                let text = "only the head of this RayCluster could hold it, and there is none like it now".to_owned();
                reason.get_or_insert((UnmetCause::Waiting, text));
            }
        }
    }
    at_once.or(reason).unwrap_or((UnmetCause::Limit, "it asks for nothing".to_owned()))
}

/// Who could hold a request if nothing else were there.
enum Holder<'a> {
    Group(u16),
    Node(&'a Node),
    /// The head, although there is no such node.
    Head,
    Nobody,
}

fn holder<'a>(cluster: &mut Cluster<'a>, class: ClassId, cut: &Cut) -> Holder<'a> {
    let one = [Run { class, count: 1, origin: 0 }];
    let (mut holders, mut head) = (Vec::new(), false);
    for (at, group) in (0..).zip(&cluster.groups) {
        if cluster.states.fill(group.launched, Ledger::Demand, &one).is_none() {
            continue;
        }
        if group.spec.is_head {
            head = true;
        } else {
            holders.push(at);
        }
    }
    // A group with room to grow says more about the reason than one that can't have nodes at all.
    let open = |at: &&u16| cluster.groups[usize::from(**at)].max > 0;
    let cut = holders.iter().find(|at| cut.groups.contains(at));
    if let Some(&group) = cut.or(holders.iter().find(open)).or(holders.first()) {
        return Holder::Group(group);
    }
    let snapshot = cluster.input.snapshot;
    let nodes = snapshot.nodes.iter().filter(|node| could_hold(cluster.states.tables(), class, node));
    // A node that works says more than one that comes or goes. What has stopped holds nothing any more.
    let phases = [NodePhase::Running, NodePhase::Pending, NodePhase::Requested, NodePhase::Leaving];
    let place = |node: &&Node| phases.iter().position(|phase| *phase == node.phase);
    match nodes.filter_map(|node| Some((place(&node)?, node))).min_by_key(|(place, _)| *place) {
        Some((_, node)) => Holder::Node(node),
        None if head => Holder::Head,
        None => Holder::Nobody,
    }
}

/// Whether an empty `node` could hold one request.
fn could_hold(tables: &Tables<'_>, class: ClassId, node: &Node) -> bool {
    let class = &tables.classes[class as usize];
    let enough = class.needs.iter().all(|&(resource, need)| {
        let name = tables.resources.get(usize::from(resource)).copied().unwrap_or_default();
        node.total.get(name).map_or(tables.unlisted(resource), |has| has.as_f64()) >= need
    });
    let label = |key: &str| node.dynamic_labels.get(key).or(node.labels.get(key)).map(String::as_str);
    enough && (class.selectors.is_empty() || class.selectors.iter().any(|selector| selector.is_met_by(label)))
}

/// What is waited for, as only nodes like `node` could hold the demand.
fn wait_for(node: &Node) -> String {
    let id = if node.instance_id.is_empty() { "a node that nobody manages" } else { &node.instance_id };
    let state = match node.phase {
        NodePhase::Pending | NodePhase::Requested => "are on their way",
        NodePhase::Leaving => "are leaving",
        NodePhase::Running | NodePhase::Stopped => "are in use",
    };
    format!("only nodes like {id} could hold it, and they {state}; no group can be launched for it")
}

/// `group` can't be launched often enough, as one plan launches only so many pods; `alone`: this demand by itself is too much.
fn too_much_at_once(cluster: &Cluster<'_>, group: u16, alone: bool) -> (UnmetCause, String) {
    let group = &cluster.groups[usize::from(group)];
    let (name, limit) = (&group.spec.name, format!("at most {MAX_LAUNCHES} pods are launched at once"));
    if u64::from(group.hosts) > MAX_LAUNCHES {
        let text = format!("group {name} could hold it, but a replica of it is {} pods, and {limit}", group.hosts);
        return (UnmetCause::Limit, text);
    }
    if alone {
        return (UnmetCause::Limit, format!("group {name} could hold it, but not all of it: {limit}"));
    }
    (UnmetCause::Waiting, format!("group {name} could hold it, and more of it may be launched later: {limit}"))
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
        if let Some(first) = class.selectors.first()
            && !class.selectors.iter().any(|selector| selector.is_met_by(label))
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

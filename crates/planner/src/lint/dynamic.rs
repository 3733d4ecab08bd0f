//! Properties of a policy over two plans: what follows from a plan, and what follows from more demand.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Severity, Violation, pods};
use crate::{
    Amount, DemandClass, MAX_LAUNCHES, Memory, Node, NodePhase, NodeType, Nodes, Plan, Policy, Resources, Snapshot,
    UnmetCause, UnmetKind, UpscalingMode,
};

/// What will be observed once `plan` is carried out and nothing else happens.
///
/// Launched replicas are pending pods of which everything is free, ended pods are gone, resizes are done, quotas have less left.
/// The time is the same. At most [`MAX_LAUNCHES`] pods are added.
pub fn apply(snapshot: &Snapshot, plan: &Plan) -> Snapshot {
    let mut next = snapshot.clone();
    let ended: BTreeSet<&str> = plan.terminate.iter().map(|end| end.instance_id.as_str()).collect();
    next.nodes.retain(|node| node.instance_id.is_empty() || !ended.contains(&*node.instance_id));
    resize(&mut next.nodes, plan);
    let mut left = MAX_LAUNCHES;
    for group in next.node_types.iter_mut().filter(|group| !group.is_head) {
        if let Some(planned) = plan.groups.get(&group.name) {
            group.requested_replicas = planned.desired;
            withdraw(&mut next.nodes, group);
        }
        for launch in plan.launch.iter().filter(|launch| launch.group == group.name) {
            let hosts = u64::from(group.num_of_hosts.max(1));
            let replicas = u64::from(launch.replicas).min(left / hosts);
            left -= replicas * hosts;
            let first = next.nodes.len() as u64;
            next.nodes.extend((first..first + replicas).flat_map(|number| launched(group, number, snapshot.now_ms)));
            for quota in &mut next.quotas {
                if quota.groups.is_empty() || quota.groups.contains(&group.name) {
                    take(&mut quota.free, group, replicas);
                }
            }
        }
    }
    next
}

/// The pods of a replica that was launched.
fn launched(group: &NodeType, number: u64, now_ms: i64) -> impl Iterator<Item = Node> {
    let labels = if group.facts.expected_labels.is_empty() {
        Arc::clone(&group.labels)
    } else {
        let mut labels = group.facts.expected_labels.clone();
        labels.extend(group.labels.iter().map(|(key, value)| (key.clone(), value.clone())));
        Arc::new(labels)
    };
    let name: Arc<str> = group.name.as_str().into();
    (0..group.num_of_hosts.max(1)).map(move |host| Node {
        instance_id: format!("{}/launched-{number}-{host}", group.name).into(),
        group: Arc::clone(&name),
        replica: (group.num_of_hosts > 1).then(|| format!("{}/launched-{number}", group.name)),
        phase: NodePhase::Pending,
        total: Arc::clone(&group.resources),
        available: Arc::clone(&group.resources),
        labels: Arc::clone(&labels),
        pending_since_ms: Some(now_ms),
        ..Node::default()
    })
}

/// Requested pods that are not wanted any more will not be made.
fn withdraw(nodes: &mut Nodes, group: &NodeType) {
    let counts = |node: &Node| *node.group == *group.name && node.phase != NodePhase::Leaving;
    let wanted = pods(group, group.requested_replicas);
    let mut surplus = (nodes.iter().filter(|node| counts(node)).count() as u128).saturating_sub(wanted);
    let mut at = nodes.len();
    while surplus > 0 && at > 0 {
        at -= 1;
        if counts(&nodes[at]) && nodes[at].phase == NodePhase::Requested {
            nodes.remove(at);
            surplus -= 1;
        }
    }
}

fn resize(nodes: &mut Nodes, plan: &Plan) {
    for to in &plan.resize {
        let at = nodes.iter().position(|node| *node.instance_id == *to.instance_id);
        let node = at.map(|at| &mut nodes[at]);
        let Some((node, mut pod)) = node.and_then(|node| node.resize.clone().map(|pod| (node, pod))) else {
            continue;
        };
        for (name, now, then) in [("CPU", pod.current_cpu, to.cpu), ("memory", pod.current_memory, to.memory)] {
            let more = then.steps().saturating_sub(now.steps());
            for resources in [&mut node.total, &mut node.available] {
                let amount = Arc::make_mut(resources).entry(name.to_owned()).or_default();
                *amount = Amount::from_steps(amount.steps().saturating_add(more).max(0));
            }
        }
        (pod.current_cpu, pod.current_memory) = (to.cpu, to.memory);
        node.resize = Some(pod);
    }
}

fn take(free: &mut Resources, group: &NodeType, replicas: u64) {
    let count = i64::try_from(replicas.saturating_mul(group.num_of_hosts.max(1).into())).unwrap_or(i64::MAX);
    for (name, free) in free {
        let pod = match name.as_str() {
            "pods" => Amount::from_units(1),
            name => group.facts.pod_requests.get(name).copied().unwrap_or_default(),
        };
        *free = Amount::from_steps(free.steps().saturating_sub(pod.steps().saturating_mul(count)).max(0));
    }
}

/// Planning again, once a plan is carried out, changes nothing: nothing more is launched, nothing that was launched ends.
///
/// Where more may follow by right nothing is held against the policy: a limit on the rate of growth, or pods that ended and
/// so made room under a maximum.
pub fn idempotence(policy: &dyn Policy, snapshot: &Snapshot, memory: &Memory) -> Vec<Violation> {
    let (plan, memory) = policy.plan(snapshot, memory);
    let next = apply(snapshot, &plan);
    let (again, _) = policy.plan(&next, &memory);
    let mut violations = Vec::new();
    let mut error = |text| violations.push(Violation { severity: Severity::Error, rule: "idempotence", text });
    if !more_may_follow(snapshot, &plan) {
        for launch in &again.launch {
            error(format!("{} more of {} are launched once the plan is carried out", launch.replicas, launch.group));
        }
    }
    let known: BTreeSet<&str> = snapshot.nodes.iter().map(|node| &*node.instance_id).collect();
    for end in again.terminate.iter().filter(|end| !known.contains(end.instance_id.as_str())) {
        error(format!("{} ends, which was launched by the plan before: {}", end.instance_id, end.reason));
    }
    violations
}

fn more_may_follow(snapshot: &Snapshot, plan: &Plan) -> bool {
    let settings = &snapshot.settings;
    let slowed = settings.max_in_flight.is_some() || settings.upscaling_mode == UpscalingMode::Conservative;
    let workers = || snapshot.node_types.iter().filter(|group| !group.is_head);
    let launched = plan
        .launch
        .iter()
        .filter_map(|launch| Some(pods(workers().find(|group| group.name == launch.group)?, launch.replicas)));
    let largest = workers().map(|group| pods(group, 1)).max().unwrap_or(0);
    slowed || !plan.terminate.is_empty() || launched.sum::<u128>() + largest > u128::from(MAX_LAUNCHES)
}

/// More demand never yields less for the rest. With the tasks `more` on top of what the snapshot asks for:
/// - every gang that was served is served still: tasks come after gangs;
/// - nothing that could be served becomes what never fits;
/// - where all is served, the launches cost at least what serving less was proven to cost.
///
/// How many tasks of each kind are served may change where they compete for the last room under a maximum; and nodes may be
/// fewer, where larger ones become worth their price.
pub fn monotonicity(policy: &dyn Policy, snapshot: &Snapshot, memory: &Memory, more: &[DemandClass]) -> Vec<Violation> {
    let (plan, _) = policy.plan(snapshot, memory);
    let mut larger = snapshot.clone();
    larger.demand.extend_from_slice(more);
    let (grown, _) = policy.plan(&larger, memory);
    let mut violations = Vec::new();
    let mut error = |text| violations.push(Violation { severity: Severity::Error, rule: "monotonicity", text });
    for ((gang, before), after) in snapshot.gangs.iter().zip(&plan.gangs).zip(&grown.gangs) {
        if before.served && !after.served {
            error(format!("gang {} is not served any more: {}", gang.id, after.reason));
        }
    }
    let never = |plan: &Plan, kind: &UnmetKind| {
        plan.unmet.iter().any(|unmet| unmet.cause == UnmetCause::NeverFits && unmet.kind == *kind)
    };
    for unmet in grown.unmet.iter().filter(|unmet| unmet.cause == UnmetCause::NeverFits) {
        let is_new =
            matches!(&unmet.kind, UnmetKind::Task(request) if more.iter().any(|class| class.request == *request));
        if !is_new && !never(&plan, &unmet.kind) {
            error(format!("it never fits now: {:?}", unmet.kind));
        }
    }
    if grown.unmet.is_empty()
        && let (Some(before), Some(after)) = (plan.cost.filter(|cost| cost.is_proven && cost.is_priced), grown.cost)
        && let Some(bound) = before.lower_bound_per_hour
        && after.launched_per_hour < bound * (1.0 - 1e-9)
    {
        error(format!("more is served for {} an hour than less was proven to cost: {bound}", after.launched_per_hour));
    }
    violations
}

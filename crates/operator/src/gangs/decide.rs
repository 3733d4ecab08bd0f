//! Which gangs begin, go on, wait, or are given back. Pure.

use std::collections::{BTreeMap, BTreeSet};

use mobula_planner::admission::{self, PodClass, PodGang, Rules, Verdict};
use serde_json::json;

use super::{
    Decided,
    lacks::lacks,
    observe::{Gang, Member, Sight},
    whole,
};
use crate::{
    config::GangConfig,
    frame::{
        capacity::Pending,
        decision::{Action, Step},
        gang_pod::{ADMITTED, Admission, GANG, GangPod, HOSTNAME, LOOKED_AT},
        kind,
        notices::Regarding,
        outcome::{Breakage, Memory},
        world::GangWait,
    },
};

/// What has begun: the name that the gang had then, and what it was admitted with.
type Begun<'a> = (&'a str, &'a Admission);

/// Where a gang stands.
#[derive(Debug)]
enum State<'a> {
    /// Nothing of it waits.
    Settled,
    /// The answers to requests that were to lift these pods were lost.
    InDoubt,
    /// These pods are to begin together; a part of them may have begun already. `is_partial`: the gang was not whole in time,
    /// and these are what it lacks.
    Asks { pods: Vec<&'a Member>, begun: Option<Begun<'a>>, is_partial: bool },
    /// Pods are missing that the operator has not made yet.
    Incomplete { there: usize, needed: usize },
    /// All gates are lifted, the scheduler has yet to bind; or pods of it are made anew. It has until then, in Unix ms.
    Binding { until_ms: i64 },
    /// It has not been whole in time: these pods are given back.
    Late { pods: Vec<&'a Member> },
    /// It has not been whole in time, and these pods, which have no node, stay: other hosts of their replicas have one.
    Stuck { pods: Vec<&'a Member> },
}

/// Decides about all gangs at once. No step needs another one, so all are one batch: a slow answer about one RayCluster holds
/// up the gangs of no other.
pub(super) fn decide(sight: &Sight, config: &GangConfig, memory: &Memory, now_ms: i64) -> Decided {
    let mut decided = Decided::default();
    // Gangs that are lifted hold what they have until their last pod is bound, and for so long only.
    decided.decision.goes_first = true;
    whole::note(&mut decided, sight, memory, now_ms);
    let mut asking = Vec::new();
    for gang in &sight.gangs {
        match state(gang, sight, config, now_ms) {
            State::Settled => {}
            State::InDoubt => look_again(&mut decided, gang, memory, now_ms),
            State::Binding { until_ms } => decided.decision.wake_at(until_ms),
            State::Incomplete { there, needed } => {
                let reason = format!("{there} of {needed} pods exist");
                wait(&mut decided, gang, there, reason);
            }
            State::Late { pods } => give_back(&mut decided, sight, gang, &pods, memory, now_ms),
            State::Stuck { pods } => {
                let reason = format!("the scheduler finds no node for {} pods of replicas that have begun", pods.len());
                wait(&mut decided, gang, pods.len(), reason);
            }
            State::Asks { pods, begun, is_partial } => {
                if let Some((_, begun)) = begun {
                    decided.decision.wake_at(begun.at_ms.saturating_add(config.bind_within_ms));
                }
                if let Some(level) = &gang.unknown_level {
                    let reason = format!("there is no topology level {level:?}: mend the annotation {}", super::DOMAIN);
                    wait(&mut decided, gang, pods.len(), reason);
                } else if let Some(reason) = gated_by_others(&pods) {
                    wait(&mut decided, gang, pods.len(), reason);
                } else if begun.is_none() && !is_partial && !gang.has_head {
                    // Workers are of no use without a head, and could be where it has to go.
                    wait(&mut decided, gang, pods.len(), "the head pod has no node yet".to_owned());
                } else if may_try(&mut decided, gang, memory, now_ms) {
                    asking.push(Asking { gang, pods, begun, is_partial });
                } else {
                    wait(&mut decided, gang, pods.len(), failure(gang, memory));
                }
            }
        }
    }
    for (namespace, member) in sight.strays.iter().filter(|(_, member)| member.is_in_doubt) {
        let part = part_of_stray(namespace, member);
        if may_try_part(&mut decided, &part, memory, now_ms) {
            decided.decision.beside([look(&part, namespace, member, now_ms)]);
        }
    }
    let foreign = if asking.is_empty() { Vec::new() } else { foreign(sight, memory, now_ms) };
    if foreign.is_empty() {
        ask(&mut decided, sight, &asking, config, now_ms);
    } else {
        settle(&mut decided, &asking, &foreign, memory, now_ms);
    }
    decided
}

/// Most pods that are looked at in one pass: a new leader may find thousands that wait.
const MOST_LOOKS: usize = 200;
/// How long until the next of them are looked at, in ms.
const NEXT_LOOKS_MS: i64 = 100;
/// What another leader has begun has ended after so long, in ms: no request takes longer.
const SETTLED_AFTER_MS: i64 = 30_000;

/// Gated pods that somebody else has made. Whoever led before may have asked for their gates to be lifted just before it
/// ended, and that may be done yet: one that is looked at anew can be lifted by nobody else any more.
fn foreign<'a>(sight: &'a Sight, memory: &Memory, now_ms: i64) -> Vec<(String, &'a str, &'a Member)> {
    if now_ms >= settled_at_ms(memory, now_ms) {
        return Vec::new();
    }
    let of_gang = |gang: &'a Gang| {
        gang.members.iter().map(|member| (part(gang), gang.cluster.namespace.as_str(), member)).collect::<Vec<_>>()
    };
    let strays =
        sight.strays.iter().map(|(namespace, member)| (part_of_stray(namespace, member), namespace.as_str(), member));
    sight.gangs.iter().flat_map(of_gang).chain(strays).filter(|(_, _, member)| member.is_foreign).collect()
}

fn settled_at_ms(memory: &Memory, now_ms: i64) -> i64 {
    memory.since_ms.unwrap_or(now_ms).saturating_add(SETTLED_AFTER_MS)
}

/// Nobody begins before it is known what another leader has begun.
fn settle(
    decided: &mut Decided,
    asking: &[Asking<'_>],
    foreign: &[(String, &str, &Member)],
    memory: &Memory,
    now_ms: i64,
) {
    let reason = format!("{} pods that another operator may have admitted are looked at first", foreign.len());
    for Asking { gang, pods, .. } in asking {
        wait(decided, gang, pods.len(), reason.clone());
    }
    decided.decision.wake_at(settled_at_ms(memory, now_ms));
    let may_try = |(part, ..): &&(String, &str, &Member)| may_try_part(decided, part, memory, now_ms);
    let due: Vec<_> = foreign.iter().filter(may_try).collect();
    if due.len() > MOST_LOOKS {
        decided.decision.wake_at(now_ms.saturating_add(NEXT_LOOKS_MS));
    }
    let due = due.into_iter().take(MOST_LOOKS);
    decided.decision.beside(due.map(|(part, namespace, member)| look(part, namespace, member, now_ms)));
}

/// Pods that may have been lifted are looked at anew. What they may hold is nobody else's until then.
fn look_again(decided: &mut Decided, gang: &Gang, memory: &Memory, now_ms: i64) {
    let pods: Vec<&Member> = gang.members.iter().filter(|member| member.is_in_doubt).collect();
    wait(decided, gang, pods.len(), failure(gang, memory));
    if may_try(decided, gang, memory, now_ms) {
        let look = |member: &&Member| look(&part(gang), &gang.cluster.namespace, member, now_ms);
        decided.decision.beside(pods.iter().map(look));
    }
}

/// Makes a new version of a pod, and learns by the answer whether its gate is lifted. Requests for the version before,
/// which may still be under way, are refused from then on.
fn look(part: &str, namespace: &str, member: &Member, now_ms: i64) -> Step {
    let patch = json!({"metadata": {"uid": member.uid, "annotations": {LOOKED_AT: now_ms.to_string()}}});
    Step::new(part, Action::Patch { kind: &kind::POD, name: member.name.clone(), patch }).within(namespace)
}

fn failure(gang: &Gang, memory: &Memory) -> String {
    match memory.failures.get(&part(gang)) {
        Some(failure) => format!("the last try failed and is made again soon: {}", failure.problem.message),
        None => "it was given back, and begins again after a while".to_owned(),
    }
}

fn part(gang: &Gang) -> String {
    format!("gang/{}/{}", gang.cluster, gang.name)
}

fn part_of_stray(namespace: &str, member: &Member) -> String {
    format!("gang/{namespace}/{}", member.name)
}

fn wait(decided: &mut Decided, gang: &Gang, pods: usize, reason: String) {
    let pods = u32::try_from(pods).unwrap_or(u32::MAX);
    let groups: BTreeSet<String> = gang.members.iter().map(|member| member.group.clone()).collect();
    let wait = GangWait { gang: gang.name.clone(), groups, pods, reason };
    decided.waits.entry(gang.cluster.clone()).or_default().push(wait);
}

/// Whether the back-off of a gang is over: after failed requests, and after it was given back.
fn may_try(decided: &mut Decided, gang: &Gang, memory: &Memory, now_ms: i64) -> bool {
    may_try_part(decided, &part(gang), memory, now_ms)
}

pub(super) fn may_try_part(decided: &mut Decided, part: &str, memory: &Memory, now_ms: i64) -> bool {
    let failed = memory.failures.get(part).map(|failure| failure.next_try_ms);
    let broken = memory.breakages.get(part).map(|breakage| breakage.next_try_ms);
    let Some(at_ms) = failed.max(broken).filter(|at_ms| now_ms < *at_ms) else { return true };
    decided.decision.held.insert(part.to_owned());
    decided.decision.wake_at(at_ms);
    false
}

fn state<'a>(gang: &'a Gang, sight: &Sight, config: &GangConfig, now_ms: i64) -> State<'a> {
    if gang.members.iter().any(|member| member.is_in_doubt) {
        return State::InDoubt;
    }
    let gated: Vec<&Member> = gang.members.iter().filter(|member| member.pod.is_gated).collect();
    let needed = whole::needed(gang);
    let (mut binding, mut stuck, mut late_ones) = (None, Vec::new(), BTreeSet::new());
    for ((name, admission), pods) in whole::admitted(&gang.members) {
        if gang.has_been_whole(name, admission) || whole::is_whole_now(gang, admission, &pods) {
            continue;
        }
        let until_ms = admission.at_ms.saturating_add(config.bind_within_ms);
        if now_ms >= until_ms {
            let late = late(sight, gang, &pods);
            if !late.is_empty() {
                return State::Late { pods: late };
            }
            late_ones.insert((name, admission));
            stuck.extend(pods.into_iter().filter(|member| !member.is_bound));
            continue;
        }
        let rest = rest(admission, &pods, &gated, needed);
        if !rest.is_empty() {
            return State::Asks { pods: rest, begun: Some((name, admission)), is_partial: false };
        }
        binding = Some(binding.map_or(until_ms, |other: i64| other.min(until_ms)));
    }
    if let Some(until_ms) = binding {
        return State::Binding { until_ms };
    }
    let there = gated.len();
    let lacks = lacks(&gang.members, |name, admission| late_ones.contains(&(name, admission)));
    let lack = lacks.values().map(|lack| *lack as usize).sum::<usize>().min(needed);
    let asked: Vec<&Member> = gated.into_iter().take(needed).collect();
    let lacking = lacking(gang, lacks, &asked);
    match lacking.len() {
        _ if needed == 0 && stuck.is_empty() => State::Settled,
        _ if needed == 0 => State::Stuck { pods: stuck },
        // What it has grown by waits until it has what it lacks, and asks like anyone else.
        1.. if lacking.len() >= lack || there >= needed => State::Asks { pods: lacking, begun: None, is_partial: true },
        _ if there < needed => State::Incomplete { there, needed },
        _ => State::Asks { pods: asked, begun: None, is_partial: false },
    }
}

/// The gated pods that a gang lacks, in whole replicas: those first of which hosts have begun.
fn lacking<'a>(gang: &Gang, mut lacks: BTreeMap<String, u32>, gated: &[&'a Member]) -> Vec<&'a Member> {
    let begun: BTreeSet<(&str, u32)> = gang.members.iter().filter(|member| !member.pod.is_gated).map(replica).collect();
    let (goes_on, begins): (Vec<&Member>, Vec<&Member>) =
        gated.iter().copied().partition(|member| begun.contains(&replica(member)));
    let mut taken: BTreeSet<(&str, u32)> = BTreeSet::new();
    let mut found: Vec<&Member> = Vec::new();
    for member in goes_on.into_iter().chain(begins) {
        let Some(lack) = lacks.get_mut(&member.group) else { continue };
        if *lack > 0 || taken.contains(&replica(member)) {
            *lack = lack.saturating_sub(1);
            taken.insert(replica(member));
            found.push(member);
        }
    }
    found
}

/// What a gang that was not whole in time lets go of: all of it, if none runs yet. What runs may do work, and stays; of the rest
/// goes what has no node, to be made anew and to be the first that is given one. Replicas of several hosts are units: to end
/// one host is to end all, so what a host keeps, the others keep, whichever gang they began with; unless none of them runs, and
/// one will never be bound.
fn late<'a>(sight: &Sight, gang: &Gang, pods: &[&'a Member]) -> Vec<&'a Member> {
    let is_any_running = pods.iter().any(|member| member.is_running);
    let of_cluster = sight.gangs.iter().filter(|other| other.cluster == gang.cluster);
    let members: Vec<&Member> = of_cluster.flat_map(|other| &other.members).collect();
    let with = |is: fn(&Member) -> bool| members.iter().filter(move |member| is(member)).map(|member| replica(member));
    let running: BTreeSet<(&str, u32)> = with(|member| member.is_running).collect();
    let lost: BTreeSet<(&str, u32)> = with(has_lost_its_host).collect();
    let bound: BTreeSet<(&str, u32)> = with(|member| member.is_bound).collect();
    let stays = |member: &Member| {
        let replica = &replica(member);
        running.contains(replica) || is_any_running && bound.contains(replica) && !lost.contains(replica)
    };
    pods.iter().filter(|member| !stays(member)).copied().collect()
}

/// Whether a pod is pinned to a node that is gone. It will never be bound: a pin can't be taken back.
fn has_lost_its_host(member: &Member) -> bool {
    let is_pinned = !member.pod.is_gated && member.pod.selector.contains_key(HOSTNAME);
    is_pinned && !member.is_bound && member.node.is_none()
}

/// The replica of a pod: its worker group and number.
fn replica(member: &Member) -> (&str, u32) {
    (&member.group, member.place.0)
}

/// Whether others hold pods back, too: a place that is given to them is of use to nobody.
fn gated_by_others(pods: &[&Member]) -> Option<String> {
    let gated: Vec<&Vec<String>> =
        pods.iter().map(|member| &member.pod.other_gates).filter(|it| !it.is_empty()).collect();
    let gates: BTreeSet<&str> = gated.iter().flat_map(|gates| gates.iter()).map(String::as_str).collect();
    let names: Vec<&str> = gates.into_iter().collect();
    (!gated.is_empty()).then(|| format!("{} pods wait for gate {}", gated.len(), names.join(", ")))
}

/// The gated pods that are to begin with those of `pods` that have.
fn rest<'a>(admission: &Admission, pods: &[&Member], gated: &[&'a Member], needed: usize) -> Vec<&'a Member> {
    let mut lacks = admission.lacks(pods.iter().map(|member| member.group.as_str()));
    let mut is_lacking = |member: &&&Member| {
        let lack = lacks.get_mut(&member.group).filter(|lack| **lack > 0);
        lack.map(|lack| *lack -= 1).is_some()
    };
    gated.iter().filter(|member| is_lacking(member)).take(needed).copied().collect()
}

/// What a gang gives back so soon after it has given back others, in ms, are the other hosts of their replicas.
const REST_GOES_WITHIN_MS: i64 = 5_000;

/// A gang that has not been whole lets go of what it holds. Its pods are made again and wait again, after a while. Not while
/// it is open whether a request arrived that was to say that it has been whole.
///
/// Of each replica those go first that have a node, and the others once they are gone: if one of them runs by the time that its
/// deletion arrives, that is refused, and the replica stays whole.
fn give_back(decided: &mut Decided, sight: &Sight, gang: &Gang, pods: &[&Member], memory: &Memory, now_ms: i64) {
    let is_open = !may_try_part(decided, &whole::part(&gang.cluster), memory, now_ms);
    if is_open || !may_try(decided, gang, memory, now_ms) {
        return;
    }
    let is_rest = |broke: &Breakage| now_ms.saturating_sub(broke.last_ms) < REST_GOES_WITHIN_MS;
    let is_rest = memory.breakages.get(&part(gang)).is_some_and(is_rest);
    decided.given_back += u64::from(!is_rest);
    let reason = format!("{} pods are given back: not all of its gang could be made and bound in time", pods.len());
    wait(decided, gang, pods.len(), reason);
    let about = sight.owners.get(&gang.cluster).map(|owner| Regarding {
        kind: &kind::RAY_CLUSTER,
        key: gang.cluster.clone(),
        uid: owner.uid.clone(),
    });
    let said = format!("Gang {} was not bound whole in time, deleted worker Pod", gang.name);
    let deletion = |member: &&Member| {
        let action = Action::Delete { kind: &kind::POD, name: member.name.clone(), uid: member.uid.clone() };
        // One that runs by then is another version.
        let step = Step::new(part(gang), action).within(gang.cluster.namespace.clone());
        let step = step.only_at(member.resource_version.clone());
        let step = step.says("DeletedWorkerPod", "Delete", said.clone());
        let step = step.complains("FailedToDeleteWorkerPod", "Delete", "Failed to delete worker Pod");
        Step { replaces_broken: !is_rest, about: about.clone(), ..step }
    };
    let bound: BTreeSet<(&str, u32)> =
        pods.iter().filter(|member| member.is_bound).map(|member| replica(member)).collect();
    let first = pods.iter().filter(|member| member.is_bound || !bound.contains(&replica(member)));
    decided.decision.beside(first.map(deletion));
}

/// A gang that asks: its pods, and what of it has begun.
struct Asking<'a> {
    gang: &'a Gang,
    pods: Vec<&'a Member>,
    begun: Option<Begun<'a>>,
    is_partial: bool,
}

/// Asks the planner where gangs fit, and lifts the gates of those that do.
fn ask(decided: &mut Decided, sight: &Sight, asking: &[Asking<'_>], config: &GangConfig, now_ms: i64) {
    let classes: Vec<Vec<Vec<&Member>>> = asking.iter().map(|it| alike(&it.pods)).collect();
    let gangs: Vec<PodGang> =
        asking.iter().zip(&classes).map(|(asking, classes)| request(asking, classes, sight)).collect();
    let mut places: Vec<admission::Place> = sight.nodes.iter().map(|node| node.place.clone()).collect();
    let pending = will_be_bound(decided, sight, &gangs_schedulers(asking), config, now_ms);
    admission::set_aside(&mut places, &alike_pending(&pending, sight));
    let rules = Rules { levels: config.levels.clone(), now_ms, backfill_ms: config.backfill_ms };
    let mut lifts = Vec::new();
    for ((Asking { gang, pods, begun, .. }, classes), verdict) in
        asking.iter().zip(&classes).zip(admission::admit(&places, &gangs, &rules))
    {
        match verdict {
            Verdict::Begins { nodes, domain } => {
                // The rest bears the name that the others bear, whatever the gang is called by now.
                let (name, admission) = match begun {
                    Some((name, admission)) => (*name, (*admission).clone()),
                    None => (gang.name.as_str(), new_admission(pods, now_ms)),
                };
                if begun.is_none() {
                    let since_ms = pods.iter().map(|member| member.created_ms).min().unwrap_or(now_ms);
                    decided.begun_after_ms.push(now_ms.saturating_sub(since_ms).max(0));
                }
                decided.decision.wake_at(admission.at_ms.saturating_add(config.bind_within_ms));
                let label = domain.and_then(|(level, value)| label(sight, config, level, &value, &nodes));
                for (member, node) in classes.iter().flatten().zip(nodes.iter().flatten()) {
                    let place = &sight.nodes[*node].place;
                    lifts.push(lift(gang, name, member, place, label.as_ref(), &admission));
                }
            }
            Verdict::Waits { reason, is_reserving } => {
                wait(decided, gang, pods.len(), reason);
                if !is_reserving {
                    let since_ms = pods.iter().map(|member| member.created_ms).min().unwrap_or(now_ms);
                    let late_ms = since_ms.saturating_add(config.backfill_ms);
                    if late_ms > now_ms {
                        decided.decision.wake_at(late_ms);
                    }
                }
            }
        }
    }
    decided.decision.beside(lifts);
}

/// Pods by what the scheduler sees in them.
fn alike<'a>(pods: &[&'a Member]) -> Vec<Vec<&'a Member>> {
    let mut classes: Vec<Vec<&Member>> = Vec::new();
    for &member in pods {
        match classes.iter_mut().find(|class| class.first().is_some_and(|first| first.pod.is_like(&member.pod))) {
            Some(class) => class.push(member),
            None => classes.push(vec![member]),
        }
    }
    classes
}

/// The schedulers that bind pods of these gangs, but for Kubernetes' own.
fn gangs_schedulers<'a>(asking: &'a [Asking<'_>]) -> BTreeSet<&'a str> {
    asking.iter().flat_map(|it| &it.pods).map(|member| member.pod.scheduler.as_str()).collect()
}

/// Pods that the scheduler will give a node soon. Not those that it has found none for in a long time: something keeps it from
/// that which is not known here. Nor those of schedulers that have nothing to do with the gangs: they may never come.
fn will_be_bound<'a>(
    decided: &mut Decided,
    sight: &'a Sight,
    schedulers: &BTreeSet<&str>,
    config: &GangConfig,
    now_ms: i64,
) -> Vec<&'a GangPod> {
    let mut found: Vec<&GangPod> = Vec::new();
    for Pending { pod, since_ms } in &sight.pending {
        let until_ms = since_ms.saturating_add(config.backfill_ms);
        let is_ours = pod.scheduler.is_empty() || schedulers.contains(pod.scheduler.as_str());
        if is_ours && now_ms < until_ms {
            decided.decision.wake_at(until_ms);
            found.push(pod);
        }
    }
    found
}

/// Pods that wait for the scheduler, by what it sees in them.
fn alike_pending(pending: &[&GangPod], sight: &Sight) -> Vec<PodClass> {
    let mut classes: Vec<(&GangPod, u32)> = Vec::new();
    for &pod in pending {
        match classes.iter_mut().find(|(first, _)| first.is_like(pod)) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => classes.push((pod, 1)),
        }
    }
    classes.into_iter().map(|(pod, count)| class(pod, count, sight)).collect()
}

/// Pods like this one.
fn class(pod: &GangPod, count: u32, sight: &Sight) -> PodClass {
    let may_use = sight.nodes.iter().map(|node| {
        let place = &node.place;
        let is_fit = node.record.unfit.is_none() && place.labels.contains_key(HOSTNAME);
        is_fit && pod.may_use(&place.name, &place.labels, &node.record.taints)
    });
    PodClass { requests: pod.requests.clone(), count, may_use: may_use.collect() }
}

fn request(asking: &Asking<'_>, classes: &[Vec<&Member>], sight: &Sight) -> PodGang {
    let Asking { gang, pods, begun, is_partial } = asking;
    let class = |members: &Vec<&Member>| {
        let first = members.first()?;
        Some(class(&first.pod, u32::try_from(members.len()).unwrap_or(u32::MAX), sight))
    };
    let lifted = || gang.members.iter().filter(|member| !member.pod.is_gated);
    PodGang {
        id: format!("{}/{}", gang.cluster, gang.name),
        priority: pods.iter().map(|member| member.pod.priority).max().unwrap_or(0),
        since_ms: pods.iter().map(|member| member.created_ms).min().unwrap_or(0),
        has_begun: begun.is_some() || *is_partial,
        classes: classes.iter().filter_map(class).collect(),
        level: gang.level,
        beside: lifted().find_map(|member| member.node),
    }
}

fn new_admission(pods: &[&Member], now_ms: i64) -> Admission {
    let mut admission = Admission { at_ms: now_ms, pods: BTreeMap::new() };
    for member in pods {
        *admission.pods.entry(member.group.clone()).or_default() += 1;
    }
    admission
}

/// The label that all nodes of the gang have in common: key and value of its domain.
fn label(
    sight: &Sight,
    config: &GangConfig,
    level: usize,
    value: &str,
    nodes: &[Vec<usize>],
) -> Option<(String, String)> {
    let have = |key: &&String| {
        let mut all = nodes.iter().flatten();
        all.all(|node| sight.nodes[*node].place.labels.get(*key).is_some_and(|own| own == value))
    };
    let key = config.levels.get(level)?.keys.iter().find(have)?;
    Some((key.clone(), value.to_owned()))
}

/// Lifts the gate of a pod, and pins it to the node that was found for it unless only kube-scheduler knows which will do. What
/// its selector says already can't be changed, and is so anyway.
fn lift(
    gang: &Gang,
    name: &str,
    member: &Member,
    place: &admission::Place,
    label: Option<&(String, String)>,
    admission: &Admission,
) -> Step {
    let mut selector = BTreeMap::new();
    // Where it asks for what is not known here, the scheduler chooses; a domain that was not asked for could stand in its way.
    let is_schedulers = member.pod.is_schedulers;
    if let Some(host) = place.labels.get(HOSTNAME).filter(|_| !is_schedulers) {
        selector.insert(HOSTNAME, host);
    }
    if let Some((key, value)) = label.filter(|_| !is_schedulers || gang.level.is_some()) {
        selector.insert(key, value);
    }
    let mut patch = json!({
        "metadata": {
            "uid": member.uid, "resourceVersion": member.resource_version,
            "annotations": {ADMITTED: admission.to_text()},
        },
        "spec": {"schedulingGates": null},
    });
    if !selector.is_empty() {
        patch["spec"]["nodeSelector"] = json!(selector);
    }
    if member.pod.gang != name {
        patch["metadata"]["annotations"][GANG] = json!(name);
    }
    let action = Action::Patch { kind: &kind::POD, name: member.name.clone(), patch };
    Step::new(part(gang), action).within(gang.cluster.namespace.clone())
}

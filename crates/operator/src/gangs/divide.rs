//! Which pods of a RayCluster begin together: those of a worker group, or those that the autoscaler's plan names.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mobula_api::PlannedGangs;

use super::observe::Member;

/// Pods that begin together.
#[derive(Clone, Debug, Default)]
pub(super) struct Share {
    /// Name of the gang in its RayCluster.
    pub(super) name: String,
    /// How many pods there should be.
    pub(super) expected: u32,
    /// Those that are there, in the order of their places.
    pub(super) members: Vec<Member>,
}

/// How many pods a worker group is to have, and how many to a replica.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) pods: u32,
    pub(super) hosts: u32,
}

/// Divides the pods of a RayCluster among its gangs. What is left over is of no gang: the spec asks for fewer.
pub(super) fn divide(
    mut members: Vec<Member>,
    sizes: &BTreeMap<String, Size>,
    planned: Option<&PlannedGangs>,
) -> (Vec<Share>, Vec<Member>) {
    members.sort_by(|a, b| (&a.group, a.place, &a.name).cmp(&(&b.group, b.place, &b.name)));
    match planned {
        Some(planned) => by_plan(members, sizes, planned),
        None => (by_group(members, sizes), Vec::new()),
    }
}

fn by_group(members: Vec<Member>, sizes: &BTreeMap<String, Size>) -> Vec<Share> {
    let mut shares: BTreeMap<String, Share> = BTreeMap::new();
    for member in members {
        let expected = sizes.get(&member.group).map_or(0, |size| size.pods);
        let new = || Share { name: member.group.clone(), expected, members: Vec::new() };
        shares.entry(member.group.clone()).or_insert_with(new).members.push(member);
    }
    shares.into_values().collect()
}

/// Gated pods that are to be given to gangs, and how many the spec asks for.
#[derive(Default)]
struct Line {
    gated: VecDeque<Member>,
    outstanding: u32,
}

fn by_plan(members: Vec<Member>, sizes: &BTreeMap<String, Size>, planned: &PlannedGangs) -> (Vec<Share>, Vec<Member>) {
    let mut lines: BTreeMap<String, Line> = BTreeMap::new();
    for (group, size) in sizes {
        lines.insert(group.clone(), Line { gated: VecDeque::new(), outstanding: size.pods });
    }
    // What has begun bears the name of its gang.
    let mut begun: BTreeMap<String, Vec<Member>> = BTreeMap::new();
    for member in members {
        let line = lines.entry(member.group.clone()).or_default();
        if member.pod.is_gated {
            line.gated.push_back(member);
        } else {
            line.outstanding = line.outstanding.saturating_sub(1);
            begun.entry(member.pod.gang.clone()).or_default().push(member);
        }
    }
    let mut shares = Vec::new();
    // What the plan names comes first: what it names no longer may have shrunk, and lacks nothing then.
    let (goes_on, begins): (Vec<_>, Vec<_>) = planned.iter().partition(|(name, _)| begun.contains_key(*name));
    for (name, pods) in goes_on.into_iter().chain(begins) {
        let members = begun.remove(name).unwrap_or_default();
        let lacks = lacks_of_plan(&members, pods);
        let share = share(name.clone(), members, &lacks, &mut lines);
        shares.extend(Some(share).filter(|share| !share.members.is_empty()));
    }
    for (name, members) in begun {
        let lacks = lacks(&members);
        shares.push(share(name, members, &lacks, &mut lines));
    }
    for (group, line) in &mut lines {
        let hosts = sizes.get(group).map_or(1, |size| size.hosts).max(1);
        shares.extend(singles(group, hosts, line));
    }
    let rest = lines.into_values().flat_map(|line| line.gated).collect();
    (shares, rest)
}

/// What a gang lacks of which the plan says nothing (any more): what was admitted with those that are there.
fn lacks(members: &[Member]) -> BTreeMap<String, u32> {
    let mut admitted: BTreeMap<_, u32> = BTreeMap::new();
    for member in members {
        *admitted.entry(member.pod.admission).or_default() += 1;
    }
    let missing =
        admitted.iter().filter_map(|(admission, there)| Some(admission.as_ref()?.pods.saturating_sub(*there)));
    let missing = missing.fold(0, u32::saturating_add);
    members.first().map(|member| (member.group.clone(), missing)).into_iter().collect()
}

fn lacks_of_plan(members: &[Member], pods: &BTreeMap<String, u32>) -> BTreeMap<String, u32> {
    let there = |group: &String| members.iter().filter(|member| member.group == *group).count();
    let lack = |(group, pods): (&String, &u32)| {
        (group.clone(), pods.saturating_sub(u32::try_from(there(group)).unwrap_or(u32::MAX)))
    };
    pods.iter().map(lack).collect()
}

/// A gang takes what it lacks from the lines, as far as the spec asks for it: first of the replicas that it has begun with.
fn share(
    name: String,
    mut members: Vec<Member>,
    lacks: &BTreeMap<String, u32>,
    lines: &mut BTreeMap<String, Line>,
) -> Share {
    let mut expected = u32::try_from(members.len()).unwrap_or(u32::MAX);
    let replicas: BTreeSet<(String, u32)> = members.iter().map(|it| (it.group.clone(), it.place.0)).collect();
    for (group, lack) in lacks {
        let Some(line) = lines.get_mut(group) else { continue };
        let takes = (*lack).min(line.outstanding);
        line.outstanding -= takes;
        expected = expected.saturating_add(takes);
        let is_other = |member: &Member| !replicas.contains(&(member.group.clone(), member.place.0));
        line.gated.make_contiguous().sort_by_key(|member| (is_other(member), member.place));
        members.extend(line.gated.drain(..(takes as usize).min(line.gated.len())));
    }
    Share { name, expected, members }
}

/// What no gang needs begins alone, replica by replica.
fn singles(group: &str, hosts: u32, line: &mut Line) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    line.gated.make_contiguous().sort_by_key(|member| member.place);
    while line.outstanding > 0
        && let Some(first) = line.gated.front()
    {
        let replica = first.place.0;
        let count = line.gated.iter().take_while(|member| member.place.0 == replica).take(hosts as usize).count();
        let expected = hosts.min(line.outstanding);
        line.outstanding -= expected;
        let members = line.gated.drain(..count).collect();
        shares.push(Share { name: format!("{group}/{replica}"), expected, members });
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::{super::tests::member, *};
    use crate::frame::gang_pod::{Admission, GangPod};

    fn of(group: &str, number: u32, gang: Option<(&str, u32)>) -> Member {
        let admission = gang.map(|(_, pods)| Admission { pods, youngest_ms: 1_000, at_ms: 5_000 });
        let it = member(number, 1, admission.map(|admission| (admission, None)));
        let mut pod: GangPod = (*it.pod).clone();
        gang.map_or(group, |(name, _)| name).clone_into(&mut pod.gang);
        Member { group: group.into(), pod: pod.into(), ..it }
    }

    fn sizes(pods: u32, hosts: u32) -> BTreeMap<String, Size> {
        [("v".to_owned(), Size { pods, hosts: 1 }), ("w".to_owned(), Size { pods, hosts })].into()
    }

    fn planned(text: &str) -> PlannedGangs {
        serde_json::from_str(text).unwrap()
    }

    fn shown((shares, rest): &(Vec<Share>, Vec<Member>)) -> Vec<String> {
        let pods = |members: &[Member]| {
            members.iter().map(|it| format!("{}{}", it.group, it.place.0)).collect::<Vec<_>>().join(" ")
        };
        let shown = shares.iter().map(|share| format!("{} {}: {}", share.name, share.expected, pods(&share.members)));
        shown.chain((!rest.is_empty()).then(|| format!("rest: {}", pods(rest)))).collect()
    }

    #[test]
    fn without_a_plan_a_group_is_a_gang() {
        let members = vec![of("w", 1, None), of("v", 0, None), of("w", 0, Some(("g", 1)))];
        assert_eq!(shown(&divide(members, &sizes(2, 1), None)), ["v 2: v0", "w 2: w0 w1"]);
    }

    #[test]
    fn a_plan_names_its_gangs_and_what_it_does_not_name_begins_alone() {
        let members: Vec<Member> = (0..4).map(|number| of("w", number, None)).chain([of("v", 0, None)]).collect();
        let plan = planned(r#"{"b": {"w": 2, "v": 1}, "a": {"w": 1}, "gone": {"x": 3}}"#);
        let divided = divide(members.clone(), &sizes(4, 1), Some(&plan));
        assert_eq!(shown(&divided), ["a 1: w0", "b 3: v0 w1 w2", "w/3 1: w3"]);
        let divided = divide(members.clone(), &sizes(3, 1), Some(&planned("{}")));
        assert_eq!(shown(&divided), ["v/0 1: v0", "w/0 1: w0", "w/1 1: w1", "w/2 1: w2", "rest: w3"]);
        let divided = divide(members[..1].to_vec(), &sizes(4, 1), Some(&planned(r#"{"a": {"w": 3}}"#)));
        assert_eq!(shown(&divided), ["a 3: w0"], "the others are yet to be made");
    }

    #[test]
    fn what_has_begun_goes_on_whatever_the_plan_says_by_now() {
        let members = vec![of("w", 0, Some(("a", 3))), of("w", 1, Some(("a", 3))), of("w", 2, None), of("w", 3, None)];
        for plan in ["{}", r#"{"a": {"w": 3}}"#] {
            let divided = divide(members.clone(), &sizes(4, 1), Some(&planned(plan)));
            assert_eq!(shown(&divided), ["a 3: w0 w1 w2", "w/3 1: w3"], "{plan}");
        }
        // A whole gang that lost a pod gets it again, and no more than that.
        let whole = vec![of("w", 0, Some(("a", 3))), of("w", 1, Some(("a", 3))), of("w", 5, None)];
        let divided = divide(whole, &sizes(3, 1), Some(&planned(r#"{"a": {"w": 9}}"#)));
        assert_eq!(shown(&divided), ["a 3: w0 w1 w5"]);
    }

    #[test]
    fn what_a_gang_lost_by_shrinking_is_not_taken_from_a_new_one() {
        let new = (1..5).map(|number| of("w", number, None));
        let members: Vec<Member> = [of("w", 0, Some(("old", 4)))].into_iter().chain(new).collect();
        let divided = divide(members, &sizes(5, 1), Some(&planned(r#"{"new": {"w": 4}}"#)));
        assert_eq!(shown(&divided), ["new 4: w1 w2 w3 w4", "old 1: w0"]);
    }

    #[test]
    fn hosts_of_a_replica_begin_together() {
        let host = |replica: u32, host: u32, gang| {
            let it = of("w", replica, gang);
            Member { place: (replica, host), name: format!("p{replica}-{host}"), ..it }
        };
        let members =
            vec![host(0, 0, None), host(0, 1, None), host(1, 0, None), host(2, 1, None), host(2, 0, Some(("w/2", 2)))];
        let divided = divide(members, &sizes(6, 2), Some(&planned("{}")));
        assert_eq!(shown(&divided), ["w/2 2: w2 w2", "w/0 2: w0 w0", "w/1 2: w1"]);
    }
}

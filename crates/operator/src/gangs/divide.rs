//! Which pods of a RayCluster begin together: those of a worker group, or those that the autoscaler's plan names.

use std::collections::{BTreeMap, BTreeSet};

use mobula_api::PlannedGangs;

use super::{lacks::lacks, observe::Member, whole::Whole};

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

/// The gangs that the autoscaler's plan names, and those that have been whole.
pub(super) struct Planned<'a> {
    pub(super) gangs: &'a PlannedGangs,
    pub(super) whole: &'a Whole,
}

/// Divides the pods of a RayCluster among its gangs. What is left over is of no gang: the spec asks for fewer.
pub(super) fn divide(
    mut members: Vec<Member>,
    sizes: &BTreeMap<String, Size>,
    planned: Option<&Planned<'_>>,
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

/// Gated pods of a worker group that are to be given to gangs, by their replica, and how many the spec asks for.
#[derive(Default)]
struct Line {
    gated: BTreeMap<u32, Vec<Member>>,
    /// How many pods have begun, by their replica.
    begun: BTreeMap<u32, u32>,
    outstanding: u32,
    hosts: u32,
}

impl Line {
    /// Promises at least `lack` pods, as far as the spec asks for them, and hands out those that are there. Replicas are
    /// units: first the rest of those that have begun with `replicas`, then whole ones, those before the others of which all
    /// pods are there. The rest of one that two gangs share goes to the first of them.
    fn take(&mut self, lack: u32, replicas: &BTreeSet<u32>) -> (u32, Vec<Member>) {
        let (mut promised, mut taken) = (0_u32, Vec::new());
        for replica in replicas {
            let Some(pods) = self.begun.remove(replica) else { continue };
            let rest = self.promise(self.hosts.saturating_sub(pods));
            if rest > 0 {
                promised = promised.saturating_add(rest);
                taken.extend(self.gated.remove(replica).unwrap_or_default());
            }
        }
        let mut others: Vec<u32> = self.gated.keys().copied().collect();
        others.sort_by_key(|replica| (self.gated[replica].len() < self.hosts as usize, *replica));
        let mut others = others.into_iter();
        while promised < lack && self.outstanding > 0 {
            promised = promised.saturating_add(self.promise(self.hosts));
            taken.extend(others.next().and_then(|replica| self.gated.remove(&replica)).unwrap_or_default());
        }
        (promised, taken)
    }

    fn promise(&mut self, pods: u32) -> u32 {
        let promised = pods.min(self.outstanding);
        self.outstanding -= promised;
        promised
    }
}

fn by_plan(members: Vec<Member>, sizes: &BTreeMap<String, Size>, planned: &Planned<'_>) -> (Vec<Share>, Vec<Member>) {
    let new_line = |size: Size| Line { outstanding: size.pods, hosts: size.hosts.max(1), ..Line::default() };
    let mut lines: BTreeMap<String, Line> =
        sizes.iter().map(|(group, size)| (group.clone(), new_line(*size))).collect();
    // What has begun bears the name of its gang.
    let mut begun: BTreeMap<String, Vec<Member>> = BTreeMap::new();
    for member in members {
        let line = lines.entry(member.group.clone()).or_insert_with(|| new_line(Size { pods: 0, hosts: 1 }));
        if member.pod.is_gated {
            line.gated.entry(member.place.0).or_default().push(member);
        } else {
            line.outstanding = line.outstanding.saturating_sub(1);
            *line.begun.entry(member.place.0).or_default() += 1;
            begun.entry(member.pod.gang.clone()).or_default().push(member);
        }
    }
    let mut shares = Vec::new();
    // What the plan names comes first: what it names no longer may have shrunk, and lacks nothing then.
    let (goes_on, begins): (Vec<_>, Vec<_>) = planned.gangs.iter().partition(|(name, _)| begun.contains_key(*name));
    for (name, pods) in goes_on.into_iter().chain(begins) {
        let members = begun.remove(name).unwrap_or_default();
        let mut lacks = lacks(&members, |name, admission| !planned.whole.has(name, admission));
        for (group, lack) in lacks_of_plan(&members, pods) {
            let lacking = lacks.entry(group).or_default();
            *lacking = lack.max(*lacking);
        }
        let share = share(name.clone(), members, &lacks, &mut lines);
        shares.extend(Some(share).filter(|share| !share.members.is_empty()));
    }
    for (name, members) in begun {
        let lacks = lacks(&members, |name, admission| !planned.whole.has(name, admission));
        shares.push(share(name, members, &lacks, &mut lines));
    }
    for (group, line) in &mut lines {
        shares.extend(singles(group, line));
    }
    let rest = lines.into_values().flat_map(|line| line.gated.into_values().flatten()).collect();
    (shares, rest)
}

fn lacks_of_plan(members: &[Member], pods: &BTreeMap<String, u32>) -> BTreeMap<String, u32> {
    let there = |group: &String| members.iter().filter(|member| member.group == *group).count();
    let lack = |(group, pods): (&String, &u32)| {
        (group.clone(), pods.saturating_sub(u32::try_from(there(group)).unwrap_or(u32::MAX)))
    };
    pods.iter().map(lack).collect()
}

/// A gang takes what it lacks from the lines.
fn share(
    name: String,
    mut members: Vec<Member>,
    lacks: &BTreeMap<String, u32>,
    lines: &mut BTreeMap<String, Line>,
) -> Share {
    let mut expected = u32::try_from(members.len()).unwrap_or(u32::MAX);
    let mut begun: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for member in &members {
        begun.entry(member.group.clone()).or_default().insert(member.place.0);
    }
    let groups: BTreeSet<&String> = begun.keys().chain(lacks.keys()).collect();
    for group in groups {
        let Some(line) = lines.get_mut(group) else { continue };
        let replicas = begun.get(group).cloned().unwrap_or_default();
        let (promised, taken) = line.take(lacks.get(group).copied().unwrap_or(0), &replicas);
        expected = expected.saturating_add(promised);
        members.extend(taken);
    }
    Share { name, expected, members }
}

/// What no gang needs begins alone, replica by replica.
fn singles(group: &str, line: &mut Line) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    while line.outstanding > 0
        && let Some((replica, members)) = line.gated.pop_first()
    {
        let expected = line.promise(line.hosts);
        shares.push(Share { name: format!("{group}/{replica}"), expected, members });
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::{super::tests::member, *};
    use crate::frame::gang_pod::{Admission, GangPod};

    fn of(group: &str, number: u32, gang: Option<(&str, u32)>) -> Member {
        let admission = gang.map(|(_, pods)| Admission { at_ms: 5_000, pods: [(group.to_owned(), pods)].into() });
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

    fn divided(members: &[Member], sizes: &BTreeMap<String, Size>, plan: &str) -> Vec<String> {
        divided_after(members, sizes, plan, &Whole::default())
    }

    fn divided_after(members: &[Member], sizes: &BTreeMap<String, Size>, plan: &str, whole: &Whole) -> Vec<String> {
        shown(&divide(members.to_vec(), sizes, Some(&Planned { gangs: &planned(plan), whole })))
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
        let plan = r#"{"b": {"w": 2, "v": 1}, "a": {"w": 1}, "gone": {"x": 3}}"#;
        assert_eq!(divided(&members, &sizes(4, 1), plan), ["a 1: w0", "b 3: v0 w1 w2", "w/3 1: w3"]);
        let shares = divided(&members, &sizes(3, 1), "{}");
        assert_eq!(shares, ["v/0 1: v0", "w/0 1: w0", "w/1 1: w1", "w/2 1: w2", "rest: w3"]);
        let shares = divided(&members[..1], &sizes(4, 1), r#"{"a": {"w": 3}}"#);
        assert_eq!(shares, ["a 3: w0"], "the others are yet to be made");
    }

    #[test]
    fn what_has_begun_goes_on_whatever_the_plan_says_by_now() {
        let members = vec![of("w", 0, Some(("a", 3))), of("w", 1, Some(("a", 3))), of("w", 2, None), of("w", 3, None)];
        for plan in ["{}", r#"{"a": {"w": 3}}"#, r#"{"a": {"w": 1}}"#] {
            assert_eq!(divided(&members, &sizes(4, 1), plan), ["a 3: w0 w1 w2", "w/3 1: w3"], "{plan}");
        }
        // A whole gang that lost a pod gets it again, and no more than that.
        let whole = [of("w", 0, Some(("a", 3))), of("w", 1, Some(("a", 3))), of("w", 5, None)];
        assert_eq!(divided(&whole, &sizes(3, 1), r#"{"a": {"w": 9}}"#), ["a 3: w0 w1 w5"]);
    }

    #[test]
    fn what_a_gang_lost_by_shrinking_is_not_taken_from_a_new_one() {
        let new = (1..5).map(|number| of("w", number, None));
        let members: Vec<Member> = [of("w", 0, Some(("old", 4)))].into_iter().chain(new).collect();
        assert_eq!(divided(&members, &sizes(5, 1), r#"{"new": {"w": 4}}"#), ["new 4: w1 w2 w3 w4", "old 1: w0"]);
        let whole = Whole::of("old", 5_000);
        let plan = r#"{"new": {"w": 4}, "old": {"w": 1}}"#;
        let shares = divided_after(&members, &sizes(5, 1), plan, &whole);
        assert_eq!(shares, ["old 1: w0", "new 4: w1 w2 w3 w4"], "what was whole lacks only what the plan says");
        let shares = divided_after(&members[..3], &sizes(3, 1), "{}", &whole);
        assert_eq!(shares, ["old 1: w0", "w/1 1: w1", "w/2 1: w2"], "later pods are no part of what is done");
    }

    #[test]
    fn what_was_given_a_place_again_is_missing_no_more() {
        let again = Admission { at_ms: 9_000, pods: [("w".to_owned(), 2)].into() };
        let later = |number| {
            let it = of("w", number, Some(("a", 2)));
            let mut pod: GangPod = (*it.pod).clone();
            pod.admission = Some(again.clone());
            Member { pod: pod.into(), ..it }
        };
        let first = [0, 1].map(|number| of("w", number, Some(("a", 4))));
        let others = [4, 5].map(|number| of("w", number, None));
        let members = [&first[..], &[later(2), later(3)], &others[..]].concat();
        assert_eq!(divided(&members, &sizes(6, 1), "{}"), ["a 4: w0 w1 w2 w3", "w/4 1: w4", "w/5 1: w5"]);
        // One of the later ones was lost again: that is one pod, not one for each time.
        let members = [&first[..], &[later(2)], &others[..]].concat();
        assert_eq!(divided(&members, &sizes(5, 1), "{}"), ["a 4: w0 w1 w2 w4", "w/5 1: w5"]);
    }

    #[test]
    fn what_is_missing_is_missing_in_its_own_group() {
        let admission = Admission { at_ms: 5_000, pods: [("v".to_owned(), 1), ("w".to_owned(), 2)].into() };
        let begun = |group: &str| {
            let it = of(group, 0, Some(("a", 3)));
            let mut pod: GangPod = (*it.pod).clone();
            pod.admission = Some(admission.clone());
            Member { pod: pod.into(), ..it }
        };
        let members = [begun("w"), of("w", 1, None), of("w", 2, None), of("v", 0, None)];
        assert_eq!(divided(&members, &sizes(3, 1), "{}"), ["a 3: w0 v0 w1", "w/2 1: w2"]);
        let members = [begun("v"), of("w", 1, None), of("w", 2, None), of("v", 1, None)];
        assert_eq!(divided(&members, &sizes(3, 1), "{}"), ["a 3: v0 w1 w2", "v/1 1: v1"]);
    }

    fn host(replica: u32, host: u32, gang: Option<(&str, u32)>) -> Member {
        Member { place: (replica, host), name: format!("p{replica}-{host}"), ..of("w", replica, gang) }
    }

    #[test]
    fn hosts_of_a_replica_begin_together() {
        let members =
            [host(0, 0, None), host(0, 1, None), host(1, 0, None), host(2, 1, None), host(2, 0, Some(("w/2", 2)))];
        assert_eq!(divided(&members, &sizes(6, 2), "{}"), ["w/2 2: w2 w2", "w/0 2: w0 w0", "w/1 2: w1"]);
    }

    #[test]
    fn a_gang_takes_whole_replicas() {
        let members: Vec<Member> = (0..3).flat_map(|replica| (0..2).map(move |at| host(replica, at, None))).collect();
        let shares = divided(&members, &sizes(6, 2), r#"{"a": {"w": 3}}"#);
        assert_eq!(shares, ["a 4: w0 w0 w1 w1", "w/2 2: w2 w2"]);
        // One of which all pods are there, before one that is yet to be made.
        let shares = divided(&members[1..], &sizes(6, 2), r#"{"a": {"w": 2}}"#);
        assert_eq!(shares, ["a 2: w1 w1", "w/0 2: w0", "w/2 2: w2 w2"]);
        // What has begun with a part of a replica takes the rest of it, whatever the plan says.
        let begun = [host(0, 0, Some(("a", 1))), host(0, 1, None), host(1, 0, None), host(1, 1, None)];
        let shares = divided(&begun, &sizes(4, 2), r#"{"a": {"w": 1}}"#);
        assert_eq!(shares, ["a 2: w0 w0", "w/1 2: w1 w1"]);
    }

    #[test]
    fn the_rest_of_a_replica_that_two_gangs_share_is_promised_once() {
        let members = [host(0, 0, Some(("a", 2))), host(0, 1, Some(("b", 2))), host(0, 2, None)];
        assert_eq!(
            divided(&members, &sizes(8, 4), "{}"),
            ["a 3: w0 w0", "b 5: w0"],
            "b lacks one: a replica of its own"
        );
    }
}

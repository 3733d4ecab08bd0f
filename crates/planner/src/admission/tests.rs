use proptest::prelude::*;

use super::*;
use crate::Amount;

fn resources(gpus: i64) -> Resources {
    [("gpu".to_owned(), Amount::from_units(gpus))].into()
}

fn place(name: &str, rack: &str, total: i64, free: i64) -> Place {
    let labels = if rack.is_empty() { Labels::new() } else { [("rack".to_owned(), rack.to_owned())].into() };
    Place { name: name.into(), labels: labels.into(), total: resources(total).into(), free: resources(free) }
}

fn class(gpus: i64, count: u32, nodes: usize) -> PodClass {
    PodClass { requests: resources(gpus), count, may_use: vec![true; nodes] }
}

fn gang(id: &str, since_ms: i64, classes: Vec<PodClass>) -> PodGang {
    PodGang { id: id.into(), since_ms, classes, ..PodGang::default() }
}

fn rules(now_ms: i64) -> Rules {
    let rack = TopologyLevel { name: "rack".into(), keys: vec!["rack".into()], ..TopologyLevel::default() };
    Rules { levels: vec![rack], now_ms, backfill_ms: 1_000 }
}

fn begins(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Begins { .. })
}

fn reason(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Waits { reason, .. } => reason,
        Verdict::Begins { .. } => "begins",
    }
}

#[test]
fn two_gangs_that_fit_alone_and_not_together_are_not_both_begun() {
    let places = [place("a", "", 8, 8), place("b", "", 8, 8)];
    let gangs = [gang("young", 2, vec![class(4, 3, 2)]), gang("old", 1, vec![class(4, 3, 2)])];
    let verdicts = admit(&places, &gangs, &rules(10));
    assert!(!begins(&verdicts[0]) && begins(&verdicts[1]));
    assert_eq!(reason(&verdicts[0]), "1 of 3 pods fit on the nodes now");
}

#[test]
fn priority_goes_before_age_and_what_has_begun_before_both() {
    let places = [place("a", "", 8, 8)];
    let mut gangs: Vec<PodGang> = ["old", "high", "begun"].map(|id| gang(id, 1, vec![class(8, 1, 1)])).into();
    (gangs[1].since_ms, gangs[1].priority) = (5, 7);
    let verdicts = admit(&places, &gangs[..2], &rules(10));
    assert!(!begins(&verdicts[0]) && begins(&verdicts[1]));
    (gangs[2].since_ms, gangs[2].has_begun) = (9, true);
    let verdicts = admit(&places, &gangs, &rules(10));
    assert_eq!(verdicts.iter().map(begins).collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn a_gang_is_overtaken_for_a_while_only() {
    let places = [place("a", "", 8, 4), place("b", "", 8, 8)];
    let gangs = [gang("large", 0, vec![class(8, 2, 2)]), gang("small", 1, vec![class(4, 1, 2)])];
    let verdicts = admit(&places, &gangs, &rules(999));
    assert!(!begins(&verdicts[0]) && begins(&verdicts[1]), "back-fill");
    let verdicts = admit(&places, &gangs, &rules(1_000));
    assert!(verdicts.iter().all(|verdict| !begins(verdict)), "{verdicts:?}");
    assert_eq!(reason(&verdicts[1]), "1 pods wait for their turn: nodes are kept for large, which has waited longer");
}

#[test]
fn no_more_nodes_are_kept_than_a_gang_needs_and_those_that_are_free_first() {
    let places = [place("a", "", 8, 0), place("b", "", 8, 4), place("c", "", 8, 8), place("d", "", 8, 0)];
    let gangs = [gang("large", 0, vec![class(8, 2, 4)]), gang("small", 1, vec![class(4, 1, 4)])];
    let verdicts = admit(&places, &gangs, &rules(1_000));
    assert_eq!(verdicts[1], Verdict::Begins { nodes: vec![vec![1]], domain: None }, "c and a are kept");
    // It needs more than is free: all of that is kept.
    let places = [place("a", "", 8, 0), place("b", "", 8, 8), place("c", "", 8, 8), place("d", "", 8, 0)];
    let mut large = gangs[0].clone();
    large.classes[0].count = 3;
    let verdicts = admit(&places, &[large, gangs[1].clone()], &rules(1_000));
    assert!(!begins(&verdicts[1]), "{verdicts:?}");
}

#[test]
fn what_can_never_fit_holds_nobody_up() {
    let places = [place("a", "", 8, 8)];
    let gangs = [gang("huge", 0, vec![class(8, 2, 1)]), gang("small", 1, vec![class(4, 1, 1)])];
    let verdicts = admit(&places, &gangs, &rules(1_000_000));
    assert!(begins(&verdicts[1]));
    assert_eq!(reason(&verdicts[0]), "2 pods can't fit on the nodes together, not even if nothing else ran there");
}

#[test]
fn the_domain_in_which_least_is_left_is_taken() {
    let places = [
        place("a", "large", 8, 8),
        place("b", "large", 8, 8),
        place("c", "large", 8, 8),
        place("d", "small", 8, 8),
        place("e", "small", 8, 8),
        place("f", "", 8, 8),
    ];
    let verdicts = admit(&places, &[gang("g", 0, vec![class(8, 2, 6)])], &rules(0));
    assert_eq!(verdicts, [Verdict::Begins { nodes: vec![vec![3, 4]], domain: Some((0, "small".into())) }]);
}

#[test]
fn a_gang_that_must_be_in_one_domain_waits_for_it_and_a_part_of_it_goes_beside_the_rest() {
    let places = [place("a", "x", 8, 8), place("b", "y", 8, 8), place("c", "y", 8, 0)];
    let mut it = gang("g", 0, vec![class(8, 2, 3)]);
    it.level = Some(0);
    let verdicts = admit(&places, &[it.clone()], &rules(0));
    assert_eq!(reason(&verdicts[0]), "1 of 2 pods fit in one rack now");
    (it.classes[0].count, it.beside) = (1, Some(2));
    let verdicts = admit(&places, &[it], &rules(0));
    assert_eq!(verdicts, [Verdict::Begins { nodes: vec![vec![1]], domain: Some((0, "y".into())) }]);
}

#[test]
fn nodes_without_the_label_are_no_domain_together() {
    let places = [place("a", "", 8, 8), place("b", "", 8, 8)];
    let mut it = gang("g", 0, vec![class(8, 2, 2)]);
    it.level = Some(0);
    assert!(!begins(&admit(&places, &[it], &rules(0))[0]));
}

#[test]
fn pods_of_several_kinds_are_packed_together() {
    let places = [place("a", "", 8, 8), place("b", "", 8, 8)];
    let gangs = [gang("g", 0, vec![class(3, 2, 2), class(5, 2, 2)])];
    let verdicts = admit(&places, &gangs, &rules(0));
    assert!(begins(&verdicts[0]), "{verdicts:?}");
}

#[test]
fn what_waits_for_the_scheduler_is_not_free() {
    let mut places = [place("a", "", 8, 8), place("b", "", 8, 4)];
    set_aside(&mut places, &[class(4, 2, 2), class(8, 3, 2)]);
    assert_eq!(places.map(|place| place.free["gpu"].as_f64()), [4.0, 0.0]);
}

prop_compose! {
    fn world()(nodes in prop::collection::vec((0_i64..9, 0_usize..3), 1..7))(
        gangs in prop::collection::vec(
            (prop::collection::vec((1_i64..9, 1_u32..4, prop::collection::vec(any::<bool>(), nodes.len())), 1..3),
             0_i64..3, 0_i64..2_000, any::<bool>(), prop::option::of(Just(0_usize))), 0..6),
        nodes in Just(nodes),
    ) -> (Vec<Place>, Vec<PodGang>) {
        let racks = ["", "x", "y"];
        let places = nodes.iter().enumerate()
            .map(|(at, (free, rack))| place(&format!("n{at}"), racks[*rack], 8, *free)).collect();
        let gangs = gangs.into_iter().enumerate().map(|(at, (classes, priority, since_ms, has_begun, level))| {
            let classes = classes.into_iter()
                .map(|(gpus, count, may_use)| PodClass { requests: resources(gpus), count, may_use }).collect();
            PodGang { id: format!("g{at}"), priority, since_ms, has_begun, classes, level, beside: None }
        }).collect();
        (places, gangs)
    }
}

proptest! {
    #[test]
    fn no_node_is_overcommitted_and_no_gang_is_partial((places, gangs) in world(), now_ms in 0_i64..4_000) {
        let verdicts = admit(&places, &gangs, &rules(now_ms));
        prop_assert_eq!(verdicts.len(), gangs.len());
        let mut used = vec![0_i64; places.len()];
        for (gang, verdict) in gangs.iter().zip(&verdicts) {
            let Verdict::Begins { nodes, domain } = verdict else { continue };
            prop_assert_eq!(nodes.len(), gang.classes.len());
            for (class, nodes) in gang.classes.iter().zip(nodes) {
                prop_assert_eq!(nodes.len(), class.count as usize, "all or none");
                for &node in nodes {
                    prop_assert!(class.may_use[node]);
                    used[node] += class.requests["gpu"].steps();
                }
            }
            let racks: std::collections::BTreeSet<_> =
                nodes.iter().flatten().map(|&node| places[node].labels.get("rack").cloned().ok_or(node)).collect();
            if gang.level.is_some() {
                prop_assert_eq!(racks.len(), 1, "one domain");
            }
            if let Some((_, value)) = domain {
                prop_assert_eq!(racks.into_iter().next(), Some(Ok(value.clone())));
            }
        }
        for (place, used) in places.iter().zip(used) {
            prop_assert!(used <= place.free["gpu"].steps(), "{} is overcommitted", place.name);
        }
    }

    /// Whoever waits though it would fit alone waits for one that goes before it.
    #[test]
    fn the_first_gang_begins_if_it_fits_alone((places, gangs) in world(), now_ms in 0_i64..4_000) {
        let verdicts = admit(&places, &gangs, &rules(now_ms));
        let first = (0..gangs.len()).min_by_key(|&at| {
            let gang = &gangs[at];
            (!gang.has_begun, std::cmp::Reverse(gang.priority), gang.since_ms, &gang.id)
        });
        if let Some(first) = first {
            let alone = admit(&places, &gangs[first..=first], &rules(now_ms));
            prop_assert_eq!(&alone[0], &verdicts[first]);
        }
    }

    /// What goes after the first late gang that could fit leaves nodes that would hold it if they were empty.
    #[test]
    fn back_fill_is_bounded((places, gangs) in world()) {
        let verdicts = admit(&places, &gangs, &rules(4_000));
        let key = |at: usize| {
            let gang = &gangs[at];
            (!gang.has_begun, std::cmp::Reverse(gang.priority), gang.since_ms, &gang.id)
        };
        let is_reserving = |at: &usize| matches!(verdicts[*at], Verdict::Waits { is_reserving: true, .. });
        if let Some(first) = (0..gangs.len()).filter(is_reserving).min_by_key(|&at| key(at)) {
            let mut places = places.clone();
            places.iter_mut().for_each(|place| place.free = (*place.total).clone());
            for (at, verdict) in verdicts.iter().enumerate() {
                if let Verdict::Begins { nodes, .. } = verdict && key(at) > key(first) {
                    for (class, nodes) in gangs[at].classes.iter().zip(nodes) {
                        nodes.iter().for_each(|&node| fit::take(&mut places[node].free, &class.requests));
                    }
                }
            }
            prop_assert!(begins(&admit(&places, &gangs[first..=first], &rules(4_000))[0]), "{verdicts:?}");
        }
    }

    #[test]
    fn the_order_of_gangs_does_not_matter((places, gangs) in world(), now_ms in 0_i64..4_000) {
        let forth = admit(&places, &gangs, &rules(now_ms));
        let back: Vec<PodGang> = gangs.iter().rev().cloned().collect();
        let mut verdicts = admit(&places, &back, &rules(now_ms));
        verdicts.reverse();
        prop_assert_eq!(forth, verdicts);
    }
}

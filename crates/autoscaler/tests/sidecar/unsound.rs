//! Plans that break an invariant, by policies that are made to: what is sound in them goes on.

use mobula_autoscaler::clock::FollowingClock;
use mobula_gcs::{BundleSelector, GangRequest, ResourceRequest};
use mobula_planner::{DrainKind, Memory, Plan, Policy, Snapshot};

use super::{
    refusals::{chip_tasks, with_chips},
    support::amounts,
    *,
};

/// Plans as `ray-v2`, and then spoils it.
struct Spoiled(fn(&Snapshot, &mut Plan));

impl Policy for Spoiled {
    fn name(&self) -> &'static str {
        "ray-v2"
    }

    fn plan(&self, snapshot: &Snapshot, memory: &Memory) -> (Plan, Memory) {
        let (mut plan, memory) = RayV2.plan(snapshot, memory);
        self.0(snapshot, &mut plan);
        (plan, memory)
    }
}

/// An idle node, and work that only `slice` can do.
fn world(spoil: fn(&Snapshot, &mut Plan)) -> World {
    let (kube, gcs) = World::parts(vec![idle_node("w0", "cpu", LONG_IDLE_MS)]);
    with_chips(&kube);
    gcs.change_state(|state| state.pending = chip_tasks(2));
    let clock = Arc::new(FollowingClock::starting_at(START_MS));
    World::start_with(kube, gcs, clock, |config| config.policy = Arc::new(Spoiled(spoil)))
}

fn decision(world: &World) -> String {
    world.board.last_decision().map(|decision| decision.to_json().to_string()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn growth_goes_on_where_a_removal_is_wrong() {
    let world = world(|_, plan| plan.terminate.iter_mut().for_each(|end| end.drain = DrainKind::NotNeeded));
    world.until("growth", |w| w.kube.replicas(1) == 1).await;
    world.pass(30.0).await;
    assert!(decision(&world).contains("only growth goes on: end-drain"), "{}", decision(&world));
    assert!(world.metric("mobula_plan_violations_total{rule=\"end-drain\"}") > 1.0);
    assert_eq!((world.gcs.drains(), world.kube.workers_to_delete(0)), (vec![], vec![]));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn growth_for_all_else_goes_on_where_a_plan_with_gangs_is_wrong() {
    let world = world(|snapshot, plan| {
        let slice = plan.groups.get_mut("slice").filter(|_| !snapshot.gangs.is_empty());
        slice.into_iter().for_each(|group| group.desired = 99);
    });
    world.until("scale-down", |w| w.kube.workers_to_delete(0) == ["w0"] && w.kube.replicas(1) == 1).await;
    let bundle = ResourceRequest { resources: amounts(&[("CPU", 3.0)]), ..ResourceRequest::default() };
    let gang = GangRequest {
        details: format!("{:0>36}:PACK|PENDING", "a"),
        bundle_selectors: vec![BundleSelector { requests: vec![bundle], ..BundleSelector::default() }],
        ..GangRequest::default()
    };
    world.gcs.change_state(|state| {
        state.gangs = vec![gang];
        state.pending = chip_tasks(6);
    });
    world.until("more growth", |w| w.kube.replicas(1) == 3).await;
    world.pass(10.0).await;
    assert_eq!(world.kube.replicas(0), 0, "the gang waits");
    assert!(decision(&world).contains("the plan that would serve it breaks an invariant"), "{}", decision(&world));
    // Once the gang is gone, all is as usual.
    world.gcs.change_state(|state| state.gangs.clear());
    world.until("a sound plan", |w| !decision(w).contains("invariant")).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_is_wrong_throughout_changes_nothing() {
    let world = world(|_, plan| plan.groups.values_mut().for_each(|group| group.desired = 99));
    world.pass(30.0).await;
    assert!(decision(&world).contains("is not applied: "), "{}", decision(&world));
    assert_eq!((world.kube.tried_patches(), world.gcs.drains()), (0, vec![]));
    world.end().await;
}

//! Prices from a mounted ConfigMap.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use mobula_planner::Offering;

use super::*;

/// A directory as the kubelet makes it of a ConfigMap: the file is a link through a directory that is a link.
struct ConfigMap(tempfile::TempDir);

impl ConfigMap {
    fn new(text: &str) -> Self {
        let map = ConfigMap(tempfile::tempdir().unwrap());
        map.swap("1", text);
        symlink(Path::new("..data/prices"), map.file()).unwrap();
        map
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("prices")
    }

    /// Another version of it, all at once.
    fn swap(&self, version: &str, text: &str) {
        let dir = self.0.path();
        fs::create_dir(dir.join(version)).unwrap();
        fs::write(dir.join(version).join("prices"), text).unwrap();
        symlink(Path::new(version), dir.join("..tmp")).unwrap();
        fs::rename(dir.join("..tmp"), dir.join("..data")).unwrap();
    }
}

fn start(prices: PathBuf) -> World {
    let (kube, gcs) = World::parts(vec![]);
    let clock = Arc::new(JumpingClock(AtomicI64::new(START_MS)));
    World::start_with(kube, gcs, clock, |config| config.prices = Some(prices))
}

/// Prices of group `cpu` in the last tick that was recorded.
fn recorded(world: &World) -> Vec<f64> {
    let recording = Recording::of_bytes("test", world.board.recorder.bytes().unwrap()).unwrap();
    let last = recording.frames().last().unwrap().unwrap();
    let offerings: &[Offering] = last.options.prices.0.get("cpu").map_or(&[], Vec::as_slice);
    offerings.iter().map(|offering| offering.price_per_hour).collect()
}

#[tokio::test(start_paused = true)]
async fn new_prices_are_read_when_the_config_map_changes_and_bad_ones_are_left() {
    let map = ConfigMap::new("cpu: 1.5");
    let world = start(map.file());
    world.pass(15.0).await;
    assert_eq!(recorded(&world), [1.5]);
    map.swap("2", "cpu: 2.5");
    world.pass(15.0).await;
    assert_eq!(recorded(&world), [2.5]);
    map.swap("3", "cpu: cheap");
    world.pass(30.0).await;
    assert_eq!(recorded(&world), [2.5]);
    assert_eq!(world.metric("mobula_prices_refused"), 1.0);
    assert_eq!(world.metric("mobula_errors_total{kind=\"refused\",source=\"prices\"}"), 1.0);
    map.swap("4", "cpu: {price_per_hour: 3.5, capacity_type: spot}");
    world.pass(15.0).await;
    assert_eq!(recorded(&world), [3.5]);
    assert_eq!(world.metric("mobula_prices_refused"), 0.0);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_price_file_does_not_keep_the_cluster_from_scaling() {
    let world = start("/nonexistent/prices".into());
    world.gcs.change_state(|state| state.pending = tasks(4.0, 1));
    world.until("scale-up", |w| w.kube.replicas(0) == 1).await;
    assert_eq!(world.metric("mobula_prices_refused"), 1.0);
    assert_eq!(recorded(&world), [0.0; 0]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn new_prices_are_planned_with_also_where_nothing_else_happens() {
    let policy = || mobula_planner::policy("mobula", &mobula_planner::PolicyOptions::default()).unwrap();
    let map = ConfigMap::new("cpu: 1.5");
    let (kube, gcs) = World::parts(vec![busy_node("w1", "cpu")]);
    let clock = Arc::new(JumpingClock(AtomicI64::new(START_MS)));
    let world = World::start_with(kube, gcs, clock, |config| {
        config.prices = Some(map.file());
        config.policy = policy();
    });
    world.pass(40.0).await;
    let planned = world.plans();
    map.swap("2", "gpu: 2.5");
    world.pass(15.0).await;
    assert_eq!(world.plans(), planned + 1.0);
    let explained = world.board.last_decision().unwrap().to_json();
    assert!(explained["warnings"].to_string().contains("gpu"), "{explained}");
    world.frames_that_replay(&*policy());
    world.end().await;
}

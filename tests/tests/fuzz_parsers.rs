//! Everything that is read from outside, damaged at random: captures, RayClusters, pods, recordings, metrics.
//!
//! Nothing may panic, and what is accepted must come out again as it went in. `MOBULA_FUZZ_SECONDS` fuzzes each parser for so
//! long instead of a fixed number of inputs, `MOBULA_FUZZ_SEED` (1) chooses the series. An input that fails is kept in a file
//! whose name the failure tells, and is what the same seed and number give again.
// The length of the run comes from the environment and the clock; a test may fail loudly.
#![allow(clippy::disallowed_methods, clippy::panic, clippy::unwrap_used)]

#[path = "fuzz_parsers/mutate.rs"]
mod mutate;

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mobula_api::{PodView, RayCluster};
use mobula_autoscaler::object_store::{Holdings, read_holdings};
use mobula_autoscaler::recorder::{Frame, Recorder, RecorderConfig, Recording};
use mobula_autoscaler::snapshot::{self, Observation, SnapshotOptions};
use mobula_gcs::{ClusterState, wire};
use mobula_planner::{Memory, Policy, PolicyOptions, RayV2, lint};
use mutate::Random;
use serde_json::Value;

/// Longest that one input may take: a parser that hangs is as bad as one that panics.
const SLOWEST: Duration = Duration::from_secs(5);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of a folder with this extension, sorted; the large ones are left out, so that many inputs can be tried.
fn files(folder: &str, extension: &str) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    paths.sort();
    let files: Vec<Vec<u8>> =
        paths.iter().map(|path| std::fs::read(path).unwrap()).filter(|bytes| bytes.len() < 60_000).collect();
    assert!(!files.is_empty(), "{folder} has no {extension}");
    files
}

fn texts(folder: &str, extension: &str) -> Vec<String> {
    files(folder, extension).into_iter().map(|bytes| String::from_utf8(bytes).unwrap()).collect()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}: must be a number")))
}

/// Makes inputs and tries them: `ordinary` many, or for the time that the environment gives. `attempt` says whether the input
/// was accepted.
fn fuzz<I: AsRef<[u8]>>(
    target: &str,
    ordinary: u64,
    mut make: impl FnMut(&mut Random) -> I,
    attempt: impl Fn(&I) -> bool,
) {
    let seed = number("MOBULA_FUZZ_SEED").unwrap_or(1);
    let seconds = number("MOBULA_FUZZ_SECONDS").map(Duration::from_secs);
    let (started, mut tried, mut accepted) = (Instant::now(), 0u64, 0u64);
    while seconds.map_or(tried < ordinary, |limit| started.elapsed() < limit) {
        let input = make(&mut Random::new(seed.wrapping_mul(1_000_003).wrapping_add(tried)));
        let begun = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| attempt(&input)));
        let took = begun.elapsed();
        if outcome.is_err() || took > SLOWEST {
            let file = std::env::temp_dir().join(format!("mobula-fuzz-{target}-{seed}-{tried}"));
            std::fs::write(&file, input.as_ref()).unwrap();
            let what = if outcome.is_err() { "failed".to_owned() } else { format!("took {took:?}") };
            panic!("{target}: input {tried} of seed {seed} {what}; it is in {}", file.display());
        }
        accepted += u64::from(outcome.unwrap_or_default());
        tried += 1;
    }
    println!("{target}: {tried} inputs, {accepted} accepted, {:?}", started.elapsed());
    // Damage that nothing survives tests only the first check of a parser; damage that all survives tests nothing.
    assert!(accepted * 50 > tried && accepted < tried, "{target}: {accepted} of {tried} accepted");
}

/// By their debug form: NaN equals itself there. Protobuf leaves zeros out, and with them their sign.
fn assert_same(a: &impl Debug, b: &impl Debug) {
    let form = |value: &dyn Debug| format!("{value:?}").replace(": -0.0", ": 0.0");
    let (a, b) = (form(a), form(b));
    assert!(a == b, "went in as\n{a}\ncame out as\n{b}");
}

fn cluster() -> RayCluster {
    let yaml = std::fs::read_to_string(root().join("deploy/examples/raycluster-a.yaml")).unwrap();
    RayCluster::from_value(serde_saphyr::from_str(&yaml).unwrap()).unwrap()
}

/// What the sidecar and the workbench go on to do with what they read.
fn plan(state: ClusterState, cluster: RayCluster, pods: Option<Vec<PodView>>) -> Option<Frame> {
    let wire = wire::encode_cluster_state(&state).into();
    let observation = Observation {
        now_ms: 1_700_000_000_000,
        state,
        cluster: cluster.into(),
        pods: pods.map(Into::into),
        object_store_bytes: Default::default(),
        gang_created_ms: Default::default(),
        session_since_ms: None,
        surroundings: Default::default(),
    };
    let options = SnapshotOptions::default();
    let built = snapshot::build(&observation, &options).ok()?;
    let memory = Memory::default();
    let (plan, memory_after) = RayV2.plan(&built.snapshot, &memory);
    let broken = lint(&built.snapshot, &plan);
    assert!(broken.is_empty(), "the plan breaks {broken:?}");
    let (policy, policy_options, outcome) = ("ray-v2".to_owned(), PolicyOptions::default(), String::new());
    Some(Frame { tick: 0, observation, wire, options, policy, policy_options, memory, plan, memory_after, outcome })
}

#[test]
fn replies_of_the_gcs() {
    let seeds = files("crates/gcs/testdata/captures", "pb");
    let cluster = cluster();
    fuzz(
        "replies",
        4_000,
        |random| {
            let (seed, other) = (random.pick(&seeds).clone(), random.pick(&seeds).clone());
            mutate::bytes(random, seed, &other)
        },
        |bytes| {
            let Ok(state) = wire::decode_cluster_state(bytes) else { return false };
            let again = wire::decode_cluster_state(&wire::encode_cluster_state(&state)).unwrap();
            assert_same(&state, &again);
            plan(state, cluster.clone(), None);
            true
        },
    );
}

#[test]
fn replies_as_json() {
    let seeds = texts("crates/gcs/testdata/captures", "json");
    fuzz(
        "replies-as-json",
        800,
        |random| {
            let (seed, other) = (random.pick(&seeds), random.pick(&seeds));
            mutate::text(random, seed, other)
        },
        |text| {
            let Ok(state) = wire::decode_cluster_state_json(text) else { return false };
            let again = wire::decode_cluster_state(&wire::encode_cluster_state(&state)).unwrap();
            assert_same(&state, &again);
            true
        },
    );
}

fn manifests() -> Vec<String> {
    [texts("crates/api/testdata", "yaml"), texts("deploy/examples", "yaml")].concat()
}

#[test]
fn manifests_as_text() {
    let seeds = manifests();
    fuzz(
        "manifests",
        250,
        |random| {
            let (seed, other) = (random.pick(&seeds), random.pick(&seeds));
            mutate::text(random, seed, other)
        },
        |text| serde_saphyr::from_str::<Value>(text).is_ok_and(try_cluster),
    );
}

#[test]
fn rayclusters() {
    let seeds: Vec<Value> = manifests().iter().map(|text| serde_saphyr::from_str(text).unwrap()).collect();
    fuzz(
        "rayclusters",
        800,
        |random| {
            let (seed, other) = (random.pick(&seeds).clone(), random.pick(&seeds));
            mutate::json(random, seed, other).to_string()
        },
        |text| try_cluster(serde_json::from_str(text).unwrap()),
    );
}

/// An accepted RayCluster loses nothing, and whatever it says can be planned or is refused.
fn try_cluster(value: Value) -> bool {
    let Ok(cluster) = RayCluster::from_value(value) else { return false };
    let written = cluster.to_value();
    let again = RayCluster::from_value(written.clone()).unwrap();
    assert_same(&cluster, &again);
    assert_eq!(written, again.to_value());
    let _ = cluster.settings();
    let _ = cluster.resize_bounds();
    plan(ClusterState::default(), cluster, Some(Vec::new()));
    true
}

#[test]
fn pods() {
    let text = std::fs::read_to_string(root().join("crates/mobula/tests/inputs/pods.json")).unwrap();
    let list: Value = serde_json::from_str(&text).unwrap();
    let seeds: Vec<Value> = list["items"].as_array().unwrap().clone();
    let (cluster, state) = (cluster(), ClusterState::default());
    fuzz(
        "pods",
        1_500,
        |random| {
            let (seed, other) = (random.pick(&seeds).clone(), random.pick(&seeds));
            mutate::json(random, seed, other).to_string()
        },
        |text| {
            let Ok(pod) = PodView::from_value(&serde_json::from_str(text).unwrap()) else { return false };
            let again: PodView = serde_json::from_value(serde_json::to_value(&pod).unwrap()).unwrap();
            assert_same(&pod, &again);
            let _ = mobula_autoscaler::resize::node_resize(&pod, 60_000, 0);
            plan(state.clone(), cluster.clone(), Some(vec![pod]));
            true
        },
    );
}

#[test]
fn recordings() {
    let cluster = cluster();
    let record = |frames: Vec<Frame>| {
        let recorder = Recorder::new(RecorderConfig::default()).unwrap();
        frames.into_iter().for_each(|frame| recorder.record(frame).unwrap());
        recorder.bytes().unwrap()
    };
    // Frames that repeat the one before would only be counted.
    let distinct = |frames: Vec<Frame>| {
        frames.into_iter().enumerate().map(|(i, frame)| Frame { outcome: i.to_string(), ..frame }).collect::<Vec<_>>()
    };
    let frames: Vec<Frame> = files("deploy/examples/demand", "pb")
        .iter()
        .filter_map(|reply| plan(wire::decode_cluster_state(reply).unwrap(), cluster.clone(), None))
        .collect();
    let seeds: Vec<Vec<u8>> = (1..=frames.len()).map(|count| record(frames[..count].to_vec())).collect();
    fuzz(
        "recordings",
        250,
        |random| {
            let (seed, other) = (random.pick(&seeds).clone(), random.pick(&seeds).clone());
            mutate::bytes(random, seed, &other)
        },
        |bytes| {
            let Ok(recording) = Recording::of_bytes("input", bytes.clone()) else { return false };
            let read: Vec<Frame> = recording.frames().filter_map(Result::ok).collect();
            let again =
                Recording::of_bytes("again", record(distinct(read.clone()))).and_then(|again| again.frames().collect());
            let again: Vec<Frame> = if read.is_empty() { Vec::new() } else { again.unwrap() };
            let plans = |frames: &[Frame]| frames.iter().map(|frame| frame.plan.clone()).collect::<Vec<_>>();
            assert_same(&plans(&read), &plans(&again));
            !read.is_empty()
        },
    );
}

#[test]
fn metrics() {
    // Without the lines that nobody reads, damage hits those that matter.
    let is_read = |line: &&str| {
        ["ray_object_store_memory", "ray_spill_manager_objects_bytes", "ray_scheduler_tasks"]
            .iter()
            .any(|name| line.starts_with(name))
    };
    let read = |text: &String| text.lines().filter(is_read).map(|line| format!("{line}\n")).collect::<String>();
    let seeds: Vec<String> = texts("crates/autoscaler/testdata/metrics", "txt").iter().map(read).collect();
    fuzz(
        "metrics",
        400,
        |random| {
            let (seed, other) = (random.pick(&seeds), random.pick(&seeds));
            mutate::text(random, seed, other)
        },
        |text| {
            let Ok(read) = read_holdings(text) else { return false };
            let Holdings { object_store_bytes, running_tasks } = read;
            let mut written = format!(
                "ray_object_store_memory{{Location=\"SPILLED\"}} 0\n\
                 ray_spill_manager_objects_bytes{{State=\"Pinned\"}} {object_store_bytes}\n"
            );
            written.extend(running_tasks.map(|tasks| format!("ray_scheduler_tasks{{State=\"Executing\"}} {tasks}\n")));
            // Metrics are doubles: what they can't hold exactly comes back rounded.
            let rounded = |amount: u64| amount as f64 as u64;
            let expected =
                Holdings { object_store_bytes: rounded(object_store_bytes), running_tasks: running_tasks.map(rounded) };
            assert_eq!(read_holdings(&written), Ok(expected));
            true
        },
    );
}

//! `mobula replay` and `mobula explain` on recordings that the recorder of this version writes.
// Helpers of tests may fail loudly.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use mobula_api::RayCluster;
use mobula_autoscaler::recorder::{Frame, Recorder, RecorderConfig, Recording};
use mobula_autoscaler::snapshot::{self, Observation, SnapshotOptions};
use mobula_gcs::wire;
use mobula_planner::{Memory, Policy, PolicyOptions, RayV2};
use serde_json::Value;

const CAPTURES: &str = "deploy/examples/demand";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs `mobula`; standard output, standard error, exit status.
fn mobula(args: &[&str]) -> (String, String, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_mobula")).args(args).env_clear().output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

/// Ticks as a sidecar would have recorded them, one a capture and a second apart.
fn ticks(captures: &[&str]) -> Vec<Frame> {
    let yaml = std::fs::read_to_string(root().join("deploy/examples/raycluster-a.yaml")).unwrap();
    let cluster = RayCluster::from_value(serde_saphyr::from_str(&yaml).unwrap()).unwrap();
    let mut memory = Memory::default();
    let mut frames = Vec::new();
    for (capture, second) in captures.iter().zip(0..) {
        let reply = std::fs::read(root().join(CAPTURES).join(format!("{capture}.pb"))).unwrap();
        let observation = Observation {
            now_ms: 1_700_000_000_000 + second * 1_000,
            state: wire::decode_cluster_state(&reply).unwrap(),
            cluster: cluster.clone().into(),
            pods: None,
            object_store_bytes: Default::default(),
            gang_created_ms: Default::default(),
            session_since_ms: None,
            surroundings: Default::default(),
        };
        let options = SnapshotOptions::default();
        let built = snapshot::build(&observation, &options).unwrap();
        let (plan, memory_after) = RayV2.plan(&built.snapshot, &memory);
        frames.push(Frame {
            tick: 0,
            observation,
            wire: reply.into(),
            options,
            policy: RayV2.name().to_owned(),
            policy_options: PolicyOptions::default(),
            memory: memory.clone(),
            plan,
            memory_after: memory_after.clone(),
            outcome: "nothing to do".to_owned(),
        });
        memory = memory_after;
    }
    frames
}

const THREE: [&str; 3] = ["idle_three_nodes", "pending_tasks_shapes", "pending_pg_each_strategy"];

fn write(dir: &Path, name: &str, frames: Vec<Frame>) -> String {
    let recorder = Recorder::new(RecorderConfig::default()).unwrap();
    frames.into_iter().for_each(|frame| recorder.record(frame).unwrap());
    let path = dir.join(name);
    std::fs::write(&path, recorder.bytes().unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_recording_is_planned_again_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "r", ticks(&THREE));
    assert_eq!(mobula(&["replay", &file]), ("3 ticks: all planned again bit for bit\n".into(), String::new(), 0));
    let (json, _, code) = mobula(&["replay", &file, "-o", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["ticks"], &json["same"], code), (&3.into(), &3.into(), 0));
}

#[test]
fn a_directory_of_segments_reads_as_one_recording() {
    let dir = tempfile::tempdir().unwrap();
    let config = RecorderConfig { directory: Some(dir.path().to_owned()), ..RecorderConfig::default() };
    for frames in [ticks(&THREE), ticks(&THREE[..1])] {
        let recorder = Recorder::new(config.clone()).unwrap();
        frames.into_iter().for_each(|frame| recorder.record(frame).unwrap());
    }
    let (text, _, code) = mobula(&["replay", dir.path().to_str().unwrap()]);
    assert_eq!((text.as_str(), code), ("4 ticks: all planned again bit for bit\n", 0));
}

#[test]
fn a_plan_that_comes_out_otherwise_is_told_and_fails() {
    let dir = tempfile::tempdir().unwrap();
    let mut frames = ticks(&THREE);
    frames[1].plan.groups.values_mut().for_each(|group| group.desired += 7);
    let file = write(dir.path(), "r", frames);
    let (text, _, code) = mobula(&["replay", &file]);
    assert_eq!(code, 1);
    assert!(text.contains("tick 1 at 1700000001000 ms:\n  replicas of cpu-group: "), "{text}");
    assert!(text.ends_with("3 ticks: 2 planned again bit for bit, 1 otherwise\n"), "{text}");
    // Compared with a policy, differences are the answer and no failure.
    let (text, _, code) = mobula(&["replay", &file, "--policy", "ray-v2"]);
    assert_eq!(code, 0);
    assert!(text.contains("wanted replicas over time"), "{text}");
    assert!(text.ends_with("3 ticks: ray-v2 decides 2 as recorded, 1 otherwise\n"), "{text}");
}

#[test]
fn a_torn_recording_is_read_up_to_the_tear() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "r", ticks(&THREE));
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 3]).unwrap();
    let (text, warnings, code) = mobula(&["replay", &file]);
    assert_eq!((text.as_str(), code), ("2 ticks: all planned again bit for bit; 1 parts can't be read\n", 0));
    assert!(warnings.contains("a frame was cut off"), "{warnings}");
}

#[test]
fn another_policy_may_be_given_other_prices_and_another_topology() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "r", ticks(&THREE));
    let prices = dir.path().join("prices");
    std::fs::write(&prices, "cpu-group: 1").unwrap();
    let prices = prices.to_str().unwrap();
    let options = ["--prices", prices, "--topology", "gke", "--improve", "5", "--keep-gpu-clean"];
    let (text, _, code) = mobula(&[&["replay", &file, "--policy", "ray-v2"], &options[..]].concat());
    assert_eq!((text.ends_with("3 ticks: ray-v2 decides 3 as recorded, 0 otherwise\n"), code), (true, 0), "{text}");
    // Without a policy the recording is planned again as it was: there is nothing to choose.
    for option in [&["--prices", prices][..], &["--topology", "gke"], &["--improve", "5"], &["--keep-gpu-clean"]] {
        let (_, error, code) = mobula(&[&["replay", &file], option].concat());
        assert!(code == 2 && error.contains("--policy"), "{option:?}: {error}");
    }
}

#[test]
fn what_is_no_recording_is_refused_by_name() {
    let yaml = root().join("deploy/examples/raycluster-a.yaml");
    for command in [&["replay"][..], &["explain", "--recording"]] {
        let (_, error, code) = mobula(&[command, &[yaml.to_str().unwrap()]].concat());
        assert_eq!(code, 2, "{error}");
        assert!(error.contains("raycluster-a.yaml: not a recording of Mobula"), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let (_, error, code) = mobula(&["replay", dir.path().to_str().unwrap()]);
    assert!(code == 2 && error.contains("no recording there"), "{error}");
    let missing = dir.path().join("missing");
    let (_, error, code) = mobula(&["replay", missing.to_str().unwrap()]);
    assert_eq!((error.matches("No such file").count(), code), (1, 2), "{error}");
    let file = write(dir.path(), "r.mobula", ticks(&THREE));
    let (_, error, code) = mobula(&["replay", dir.path().to_str().unwrap()]);
    assert!(code == 2 && error.contains(&format!("name one of these files instead: {file}")), "{error}");
    let (_, error, code) = mobula(&["replay", &file, "--policy", "x"]);
    assert_eq!((error.as_str(), code), ("error: --policy: x: unknown: must be one of mobula, ray-v2\n", 2));
}

#[test]
fn reasons_are_told_of_the_tick_and_the_subject_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "r", ticks(&THREE));
    let (last, _, code) = mobula(&["explain", "--recording", &file, "-o", "json"]);
    let last: Value = serde_json::from_str(&last).unwrap();
    assert_eq!((&last["at_ms"], code), (&1_700_000_002_000_i64.into(), 0));
    let (earlier, _, _) = mobula(&["explain", "--recording", &file, "--at", "1700000001999", "-o", "json"]);
    let earlier: Value = serde_json::from_str(&earlier).unwrap();
    assert_eq!(earlier["at_ms"], 1_700_000_001_000_i64);

    let recorded = Recording::read(Path::new(&file)).unwrap().frames().last().unwrap().unwrap();
    let reason = recorded.plan.explain.first().unwrap();
    let (told, _, code) = mobula(&["explain", "--recording", &file, &reason.subject]);
    assert_eq!(code, 0);
    assert!(told.contains(&reason.text) && told.starts_with(&reason.subject), "{told}");
    let (_, error, code) = mobula(&["explain", "--recording", &file, "no such thing"]);
    assert!(code == 1 && error.contains("nothing is said of no such thing"), "{error}");
}

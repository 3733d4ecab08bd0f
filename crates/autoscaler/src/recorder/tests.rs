use std::fs;
use std::sync::Arc;

use mobula_api::RayCluster;
use mobula_gcs::wire;
use mobula_planner::{Amount, Memory, PolicyOptions, Quota, RayV2};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::hosts::KubeNode;
use crate::snapshot::{self, Observation, SnapshotOptions, Surroundings};

mod cost;

/// Demand as Ray 2.60 sent it: pending tasks, and nodes that are idle.
const PENDING: &[u8] = include_bytes!("../../../gcs/testdata/captures/pending_tasks_shapes.pb");
const IDLE: &[u8] = include_bytes!("../../../gcs/testdata/captures/idle_three_nodes.pb");

/// The groups that the captures came from.
fn cluster() -> RayCluster {
    let group = |name: &str, limits: serde_json::Value| {
        json!({
            "groupName": name, "minReplicas": 0, "maxReplicas": 10, "replicas": 1,
            "template": {"spec": {"containers": [{"name": "ray", "resources": {"limits": limits}}]}},
        })
    };
    let head = json!({"template": {"spec": {"containers": [{"name": "ray", "resources": {"limits": {"cpu": 2, "memory": "4Gi"}}}]}}});
    let groups = [
        group("cpu-group", json!({"cpu": "4", "memory": "8Gi"})),
        group("gpu-group", json!({"cpu": 8, "memory": "64Gi", "nvidia.com/gpu": 8})),
    ];
    RayCluster::from_value(json!({
        "metadata": {"name": "a", "resourceVersion": "7", "annotations": {"unknown": "kept"}},
        "spec": {"headGroupSpec": head, "workerGroupSpecs": groups},
    }))
    .unwrap()
}

/// A Kubernetes node and a quota.
fn surroundings() -> Surroundings {
    let free = [("cpu".to_owned(), Amount::from_units(3))].into();
    let kube_node = KubeNode { name: "n".to_owned(), unfit: Some("is cordoned".to_owned()), ..KubeNode::default() };
    let quota = Quota { source: "ResourceQuota q".to_owned(), groups: Vec::new(), free };
    Surroundings { kube_nodes: vec![kube_node].into(), quotas: vec![quota] }
}

/// A tick at `now_ms` that saw `reply`, as the loop would hand it in.
pub(super) fn tick(now_ms: i64, reply: &[u8], memory: &Memory) -> Frame {
    let observation = Observation {
        now_ms,
        state: wire::decode_cluster_state(reply).unwrap(),
        cluster: cluster().into(),
        pods: None,
        object_store_bytes: [("ab".to_owned(), 7)].into(),
        gang_created_ms: Default::default(),
        session_since_ms: Some(5),
        surroundings: surroundings(),
    };
    let options = SnapshotOptions { max_in_flight: Some(10), ..SnapshotOptions::default() };
    let snapshot = snapshot::build(&observation, &options).unwrap().snapshot;
    let (plan, memory_after) = mobula_planner::Policy::plan(&RayV2, &snapshot, memory);
    Frame {
        tick: 0,
        observation,
        wire: reply.to_vec().into(),
        options,
        policy: "ray-v2".into(),
        policy_options: PolicyOptions { improve_work: 7, ..PolicyOptions::default() },
        memory: memory.clone(),
        plan,
        memory_after,
        outcome: "nothing to do".into(),
    }
}

/// A tick that differs from every other one.
fn distinct(now_ms: i64) -> Frame {
    Frame { outcome: format!("outcome {now_ms}"), ..tick(now_ms, PENDING, &Memory::default()) }
}

fn times(frames: Frames<'_>) -> Vec<i64> {
    frames.map(|frame| frame.unwrap().observation.now_ms).collect()
}

fn in_memory(frames: impl IntoIterator<Item = Frame>) -> Vec<u8> {
    let recorder = Recorder::new(RecorderConfig::default()).unwrap();
    frames.into_iter().for_each(|frame| recorder.record(frame).unwrap());
    recorder.bytes().unwrap()
}

fn recording(bytes: &[u8]) -> Recording {
    Recording::of_bytes("test", bytes.to_vec()).unwrap()
}

#[test]
fn what_is_recorded_is_read_back_and_planned_again_bit_for_bit() {
    let first = tick(1_000, PENDING, &Memory::default());
    let second = tick(2_000, IDLE, &first.memory_after);
    let read: Vec<Frame> =
        recording(&in_memory([first.clone(), second.clone()])).frames().map(Result::unwrap).collect();
    assert_eq!(read, [first, Frame { tick: 1, ..second }]);
    for frame in read {
        let again = frame.replay(&RayV2, &frame.memory).unwrap();
        assert_eq!(serde_json::to_vec(&again.plan).unwrap(), serde_json::to_vec(&frame.plan).unwrap());
        assert_eq!(again.memory, frame.memory_after);
    }
}

#[test]
fn a_tick_that_repeats_the_last_is_only_counted_until_it_is_due() {
    let idle_for = |now_ms: i64| {
        let mut frame = tick(now_ms, IDLE, &Memory::default());
        frame.observation.state.version = now_ms;
        frame.observation.state.nodes.change_all(|node| node.idle_ms += now_ms);
        frame
    };
    let frames = [0, 200, 400, MOST_SILENCE_MS - 1, MOST_SILENCE_MS, MOST_SILENCE_MS + 1].map(idle_for);
    let bytes = in_memory(frames);
    let ticks: Vec<u64> = recording(&bytes).frames().map(|frame| frame.unwrap().tick).collect();
    assert_eq!(ticks, [0, 4]);
}

fn change_first(frame: &mut Frame, change: fn(&mut mobula_gcs::NodeState)) {
    let nodes = &mut frame.observation.state.nodes;
    let first = nodes.living()[0].node_id.clone();
    nodes.change(&first, change).unwrap();
}

/// A node that has accepted a drain is dead to us, while the GCS still says for how long it has been idle.
#[test]
fn how_long_a_dead_node_was_idle_is_no_difference() {
    let mut base = tick(0, PENDING, &Memory::default());
    change_first(&mut base, |node| node.status = mobula_gcs::NodeStatus::Dead);
    let mut longer = base.clone();
    let nodes = &mut longer.observation.state.nodes;
    let idle = nodes.iter().map(|node| mobula_gcs::NodeState { idle_ms: node.idle_ms + 100, ..(**node).clone() });
    *nodes = idle.collect();
    assert!(longer.repeats(&base));
}

#[test]
fn whatever_differs_but_clocks_is_stored() {
    let base = tick(0, PENDING, &Memory::default());
    let changes: [fn(&mut Frame); 8] = [
        |frame| frame.outcome.push('!'),
        |frame| frame.observation.state.pending.truncate(1),
        |frame| change_first(frame, |node| node.status = mobula_gcs::NodeStatus::Draining),
        |frame| change_first(frame, |node| node.status = mobula_gcs::NodeStatus::Dead),
        |frame| Arc::make_mut(&mut frame.observation.cluster).metadata.resource_version.push('8'),
        |frame| frame.observation.pods = Some([mobula_api::PodView::default()].into()),
        |frame| frame.options.conserve_gpu_nodes = false,
        |frame| frame.memory.allocation_failed_ms = [("g".to_owned(), 1)].into(),
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut changed = base.clone();
        change(&mut changed);
        assert!(!changed.repeats(&base), "change {i}");
    }
}

#[test]
fn a_clock_that_was_set_back_stores_the_tick() {
    let bytes = in_memory([tick(100_000, IDLE, &Memory::default()), tick(50_000, IDLE, &Memory::default())]);
    assert_eq!(times(recording(&bytes).frames()), [100_000, 50_000]);
}

#[test]
fn the_oldest_go_first_and_both_limits_hold() {
    for (limit_bytes, limit_frames) in [(12_000, 1_000), (1 << 20, 16)] {
        let recorder = Recorder::new(RecorderConfig { directory: None, limit_bytes, limit_frames }).unwrap();
        for now_ms in 0..100 {
            recorder.record(distinct(now_ms)).unwrap();
            assert!(recorder.held_bytes() <= limit_bytes && recorder.held_frames() <= limit_frames);
        }
        let kept = times(recording(&recorder.bytes().unwrap()).frames());
        assert_eq!(kept.len() as u64, recorder.held_frames());
        assert!(kept.len() > 1 && kept.is_sorted() && kept.last() == Some(&99), "{kept:?}");
    }
}

#[test]
fn a_tick_larger_than_the_limit_is_refused_and_smaller_ones_go_on() {
    let limit_bytes = in_memory([distinct(0)]).len() as u64 + 100;
    let recorder = Recorder::new(RecorderConfig { directory: None, limit_bytes, limit_frames: 10 }).unwrap();
    let mut large = distinct(1);
    // Hardly compressible.
    large.outcome =
        (0..20_000u64).map(|i| char::from(b'a' + (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59) as u8 % 26)).collect();
    assert!(matches!(recorder.record(large), Err(RecorderError::TooLarge { .. })));
    recorder.record(distinct(2)).unwrap();
    recorder.record(distinct(3)).unwrap();
    let kept = times(recording(&recorder.bytes().unwrap()).frames());
    assert!(kept.ends_with(&[3]), "{kept:?}");
    assert!(recorder.held_bytes() <= limit_bytes);
}

#[test]
fn segments_on_disk_are_rotated_and_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let config = RecorderConfig { directory: Some(dir.path().to_owned()), limit_bytes: 40_000, limit_frames: 1_000 };
    for start in [0, 100] {
        let recorder = Recorder::new(config.clone()).unwrap();
        for now_ms in start..start + 100 {
            recorder.record(distinct(now_ms)).unwrap();
        }
        assert!(recorder.held_bytes() <= config.limit_bytes, "{}", recorder.held_bytes());
        let on_disk: u64 =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert_eq!(on_disk, recorder.held_bytes());
    }
    let recorder = Recorder::new(config).unwrap();
    let kept = times(Recording::read(dir.path()).unwrap().frames());
    assert_eq!(kept.len() as u64, recorder.held_frames());
    assert!(kept.is_sorted() && kept.last() == Some(&199), "{kept:?}");
    // One file, as `/recording` gives it, reads the same.
    assert_eq!(times(recording(&recorder.bytes().unwrap()).frames()), kept);
}

#[test]
fn a_limit_of_zero_turns_it_off() {
    let recorder = Recorder::new(RecorderConfig { limit_bytes: 0, ..RecorderConfig::default() }).unwrap();
    recorder.record(distinct(1)).unwrap();
    assert_eq!((recorder.is_on(), recorder.held_bytes()), (false, 0));
}

#[test]
fn foreign_and_newer_files_are_told_apart() {
    let error = |bytes: &[u8]| Recording::of_bytes("f", bytes.to_vec()).unwrap_err().to_string();
    assert_eq!(error(b"PK\x03\x04"), "f: not a recording of Mobula (it does not start with `MOBULA`)");
    assert_eq!(error(b""), "f: not a recording of Mobula (it does not start with `MOBULA`)");
    assert_eq!(
        error(b"MOBULA2 9.9.9\n..."),
        "f: recorded in format 2 by \"9.9.9\"; this version reads format 1: use a newer mobula"
    );
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Recording::read(dir.path()), Err(RecorderError::Nothing { .. })));
    assert!(matches!(Recording::read(&dir.path().join("none")), Err(RecorderError::Io { .. })));
}

#[test]
fn a_torn_tail_is_told_and_the_next_segment_read() {
    let first = in_memory([distinct(1), distinct(2)]);
    let second = in_memory([distinct(3)]);
    let torn = [&first[..first.len() - 5], &second].concat();
    let read: Vec<Result<i64, String>> = recording(&torn)
        .frames()
        .map(|frame| frame.map(|frame| frame.observation.now_ms).map_err(|error| error.to_string()))
        .collect();
    assert_eq!(read.len(), 3, "{read:?}");
    assert_eq!((&read[0], &read[2]), (&Ok(1), &Ok(3)));
    assert!(read[1].as_ref().unwrap_err().contains("the frames that follow it in this segment are left out"));
    let cut = recording(&first[..first.len() - 5]).frames().last().unwrap().unwrap_err().to_string();
    assert!(cut.contains("a frame was cut off"), "{cut}");
}

#[test]
fn a_crash_right_after_a_segment_was_made_is_no_foreign_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("00000000.mobula"), in_memory([distinct(1)])).unwrap();
    fs::write(dir.path().join("00000001.mobula"), b"MOB").unwrap();
    let read: Vec<bool> = Recording::read(dir.path()).unwrap().frames().map(|frame| frame.is_ok()).collect();
    assert_eq!(read, [true, false]);
    assert_eq!(
        Recorder::new(RecorderConfig { directory: Some(dir.path().to_owned()), ..RecorderConfig::default() })
            .unwrap()
            .held_frames(),
        1
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_recording_cut_anywhere_gives_the_frames_before_the_cut(permille in 0usize..1000) {
        let bytes = in_memory((0..4).map(distinct));
        let cut = &bytes[..bytes.len() * permille / 1000];
        if let Ok(recording) = Recording::of_bytes("f", cut.to_vec()) {
            let read: Vec<i64> = recording.frames().map_while(Result::ok).map(|frame| frame.observation.now_ms).collect();
            prop_assert_eq!(read.clone(), (0..read.len() as i64).collect::<Vec<_>>());
        }
    }

    #[test]
    fn damage_is_never_read_as_another_tick(at in 0usize..1000, with in 1u8..=255) {
        let frames: Vec<Frame> = (0..3).map(distinct).collect();
        let mut bytes = in_memory(frames.clone());
        let at = bytes.len() * at / 1000;
        bytes[at] ^= with;
        if let Ok(recording) = Recording::of_bytes("f", bytes) {
            for frame in recording.frames().flatten() {
                let expected = &frames[usize::try_from(frame.observation.now_ms).unwrap()];
                prop_assert_eq!(&frame.observation, &expected.observation);
                prop_assert_eq!(&frame.plan, &expected.plan);
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), with_header in any::<bool>()) {
        let header: &[u8] = if with_header { b"MOBULA1 0\n" } else { b"" };
        if let Ok(recording) = Recording::of_bytes("f", [header, &bytes].concat()) {
            prop_assert!(recording.frames().count() <= bytes.len() + 1);
        }
    }
}

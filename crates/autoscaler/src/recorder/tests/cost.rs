//! What a recording costs. Measured on captures of Ray 2.60:
//!
//! | cluster | reply of the GCS | first frame of a segment | following frame |
//! |---|---|---|---|
//! | 3 nodes, idle | 1.5 kB | 1.4 kB | 79 B |
//! | 1,000 nodes, each idle for longer | 525 kB | 89 kB | 12 kB |
//!
//! So 4 MiB hold days of a small cluster at rest (a frame every 10 s), and about 50 minutes of 1,000 nodes.

use super::*;

const THOUSAND_NODES: &[u8] = include_bytes!("../../../../gcs/testdata/captures/simulated_1000_gpu_nodes.pb");

/// First and following frame of a segment in bytes, where one node is busier and all idle times went on.
fn bytes_of(reply: &[u8]) -> (usize, usize) {
    let next = |now_ms: i64| {
        let mut frame = tick(now_ms, reply, &Memory::default());
        let state = &mut frame.observation.state;
        state.version += now_ms;
        let first = state.nodes.living()[0].node_id.clone();
        state.nodes.change_all(|node| {
            node.idle_ms += now_ms;
            if node.node_id == first {
                node.available = Arc::default();
            }
        });
        frame.wire = wire::encode_cluster_state(&frame.observation.state).into();
        frame
    };
    let (first, second) = (next(1), next(20_000));
    let one = in_memory([first.clone()]).len();
    (one, in_memory([first, second]).len() - one)
}

#[test]
fn a_following_frame_costs_a_fraction_of_the_first() {
    for (name, reply, most) in [("3 nodes", IDLE, 600), ("1,000 nodes", THOUSAND_NODES, 30_000)] {
        let (first, following) = bytes_of(reply);
        println!("{name}: reply {} bytes, first frame {first}, following {following}", reply.len());
        assert!(following * 2 < first && following < most, "{name}: {first}, then {following}");
    }
}

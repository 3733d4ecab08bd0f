//! Whatever the bytes, decoding returns.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // test data is read from files

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use mobula_gcs::wire;
use proptest::prelude::*;

static CAPTURES: LazyLock<Vec<(Vec<u8>, String)>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/captures");
    let names =
        ["pending_pg_each_strategy", "pending_actors_label_selectors", "cluster_status_real_autoscaler_v2_burst"];
    let read = |name| {
        let pb = fs::read(folder.join(format!("{name}.pb"))).unwrap();
        (pb, fs::read_to_string(folder.join(format!("{name}.json"))).unwrap())
    };
    names.into_iter().map(read).collect()
});

/// Decodes in every way; what decodes must survive a round trip.
fn decode_all(bytes: &[u8]) {
    let _ = wire::decode_cluster_status(bytes);
    let _ = wire::decode_autoscaling_state(bytes);
    if let Ok(state) = wire::decode_cluster_state(bytes) {
        let again = wire::decode_cluster_state(&wire::encode_cluster_state(&state)).unwrap();
        // Debug, because amounts may be NaN.
        assert_eq!(format!("{again:?}"), format!("{state:?}"));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = wire::decode_cluster_state_json(text);
        let _ = wire::decode_cluster_status_json(text);
    }
}

/// Overwrites, inserts and removes bytes, then cuts.
fn mutate(mut bytes: Vec<u8>, edits: &[(prop::sample::Index, u8, u8)], cut: Option<prop::sample::Index>) -> Vec<u8> {
    for (at, how, value) in edits {
        let at = at.index(bytes.len().max(1));
        match how % 3 {
            0 if at < bytes.len() => bytes[at] = *value,
            1 => bytes.insert(at, *value),
            _ if at < bytes.len() => drop(bytes.remove(at)),
            _ => {}
        }
    }
    if let Some(cut) = cut {
        bytes.truncate(cut.index(bytes.len().max(1)));
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        decode_all(&bytes);
    }

    #[test]
    fn damaged_captures(
        which in 0_usize..3,
        edits in prop::collection::vec(any::<(prop::sample::Index, u8, u8)>(), 0..8),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        decode_all(&mutate(CAPTURES[which].0.clone(), &edits, cut));
    }

    #[test]
    fn damaged_json(
        which in 0_usize..3,
        edits in prop::collection::vec(any::<(prop::sample::Index, u8, u8)>(), 0..4),
    ) {
        decode_all(&mutate(CAPTURES[which].1.clone().into_bytes(), &edits, None));
    }
}

#[test]
fn deep_nesting() {
    decode_all("[".repeat(100_000).as_bytes());
    decode_all("{\"a\":".repeat(100_000).as_bytes());
    decode_all(&[0x0b; 100_000]);
}

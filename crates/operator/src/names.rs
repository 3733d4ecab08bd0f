//! Names of children, as KubeRay makes them.

use crate::frame::hash::fnv1a;

/// Longest name that leaves room for a prefix of nodes and a random suffix.
const MOST_NAME_BYTES: usize = 50;
/// Longest label value.
const MOST_LABEL_BYTES: usize = 63;
/// What Kubernetes makes random names of: no vowels, nothing that looks alike.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Letters of a random name.
const SUFFIX_CHARS: usize = 5;
/// How many such suffixes there are.
const SUFFIXES: u64 = 27_u64.pow(SUFFIX_CHARS as u32);
/// Hosts of a replica are this far apart before they are mixed: a prime above the replicas of any multi-host group, so that
/// two slots meet only in groups beyond anything that Kubernetes holds.
const HOST_STRIDE: u64 = 16_381;

/// KubeRay's `CheckName`: the last 50 bytes, and no digit or punctuation in front.
pub fn check_name(name: &str) -> String {
    let mut name = last_bytes(name, MOST_NAME_BYTES).to_owned();
    if name.starts_with(|c: char| c.is_ascii_digit() || c.is_ascii_punctuation()) {
        name.replace_range(..1, "r");
    }
    name
}

/// KubeRay's `CheckLabel`: the last 63 bytes, and no punctuation in front.
pub fn check_label(value: &str) -> String {
    let mut value = last_bytes(value, MOST_LABEL_BYTES).to_owned();
    if value.starts_with(|c: char| c.is_ascii_punctuation()) {
        value.replace_range(..1, "r");
    }
    value
}

/// KubeRay's `CheckRouteName`: the first bytes, so that a host name has room for it and the namespace; then `CheckName`.
pub fn check_route_name(name: &str, namespace: &str) -> String {
    check_name(first_bytes(name, (MOST_NAME_BYTES + 1).saturating_sub(namespace.len())))
}

/// What names of head pods start with: `{cluster}-head-`.
pub fn head_pod_prefix(cluster: &str) -> String {
    format!("{}-", plain_head_pod_name(cluster))
}

/// The name of the head pod where it has no suffix: `{cluster}-head`.
pub fn plain_head_pod_name(cluster: &str) -> String {
    format!("{}-head", first_bytes(cluster, MOST_NAME_BYTES)).to_lowercase()
}

/// What names of worker pods start with: `{cluster}-{group}-worker-`, whose first part is cut.
pub fn worker_pod_prefix(cluster: &str, group: &str) -> String {
    let whole = format!("{cluster}-{group}");
    format!("{}-worker-", first_bytes(&whole, MOST_NAME_BYTES)).to_lowercase()
}

/// The name of a pod: `prefix` and five letters that follow from what the pod is. So a pod that is asked for twice is made
/// once, by whichever operator asks.
///
/// In one incarnation no two slots of a group have the same name (as far as Kubernetes can hold such a group). A name may
/// still be taken, by a pod of another incarnation or of another operator: then the next incarnation is to be tried.
pub fn pod_name(prefix: &str, uid: &str, group: &str, replica: u32, host: u32, incarnation: u32) -> String {
    let slot = u64::from(replica) + HOST_STRIDE * u64::from(host);
    format!("{prefix}{}", suffix(&["pod", uid, group], incarnation, slot))
}

/// The name of a replica of several hosts: `{group}-` and five letters, as [`pod_name`].
pub fn replica_name(uid: &str, group: &str, replica: u32, incarnation: u32) -> String {
    format!("{group}-{}", suffix(&["replica", uid, group], incarnation, u64::from(replica)))
}

/// Five letters: a permutation of all suffixes, chosen by `keys` and the incarnation, applied to the slot.
fn suffix(keys: &[&str], incarnation: u32, slot: u64) -> String {
    let seed = mixed(hash(keys) ^ u64::from(incarnation));
    // Not a multiple of 3, so that multiplication by it permutes the 3^15 suffixes.
    let factor = 3 * (mixed(seed) % (SUFFIXES / 3)) + 1;
    let offset = seed % SUFFIXES;
    let mut number = (factor * (slot % SUFFIXES) + offset) % SUFFIXES;
    let mut letters = String::with_capacity(SUFFIX_CHARS);
    for _ in 0..SUFFIX_CHARS {
        let index = (number % ALPHABET.len() as u64) as usize;
        letters.extend(ALPHABET.get(index).map(|letter| char::from(*letter)));
        number /= ALPHABET.len() as u64;
    }
    letters
}

/// Of the parts, each with an end that no text holds.
fn hash(parts: &[&str]) -> u64 {
    fnv1a(parts.iter().flat_map(|part| part.bytes().chain([0xff])))
}

/// The last step of splitmix64: every bit of the input reaches every bit of the output.
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// At most the first `most` bytes, cut between characters.
fn first_bytes(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// At most the last `most` bytes, cut between characters.
fn last_bytes(text: &str, most: usize) -> &str {
    let mut start = text.len().saturating_sub(most);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn long_names_keep_their_end_and_pods_their_beginning() {
        let long = format!("{}{}", "a".repeat(20), "b".repeat(40));
        assert_eq!(check_name(&long), format!("{}{}", "a".repeat(10), "b".repeat(40)));
        assert_eq!(check_name(&format!("x{}", "9".repeat(50))), format!("r{}", "9".repeat(49)));
        assert_eq!(check_name("-x"), "rx");
        assert_eq!(check_name(""), "");
        assert_eq!(check_label(&format!("x-{}", "b".repeat(62))), format!("r{}", "b".repeat(62)));
        assert_eq!(check_label("9-head"), "9-head");
        assert_eq!(head_pod_prefix("My"), "my-head-");
        assert_eq!(head_pod_prefix(&long), format!("{}{}-head-", "a".repeat(20), "b".repeat(30)));
        assert_eq!(worker_pod_prefix("c", "GPU"), "c-gpu-worker-");
        assert_eq!(worker_pod_prefix(&long, "g"), format!("{}{}-worker-", "a".repeat(20), "b".repeat(30)));
        assert_eq!(head_pod_prefix(&"é".repeat(40)), format!("{}-head-", "é".repeat(25)));
    }

    #[test]
    fn pods_of_a_group_have_names_of_their_own() {
        let shapes = [(40_000_u32, 1_u32), (2_000, 15), (100, 256)];
        for (replicas, hosts) in shapes {
            let slots = (0..replicas).flat_map(|replica| (0..hosts).map(move |host| (replica, host)));
            let names: BTreeSet<String> = slots.map(|(r, h)| pod_name("p-", "uid", "g", r, h, 0)).collect();
            assert_eq!(names.len(), (replicas * hosts) as usize, "{replicas} x {hosts}");
        }
    }

    #[test]
    fn a_name_follows_from_what_the_pod_is_and_from_all_of_it() {
        let name = pod_name("c-g-worker-", "uid", "g", 3, 0, 0);
        assert_eq!(name, pod_name("c-g-worker-", "uid", "g", 3, 0, 0));
        assert!(name.starts_with("c-g-worker-") && name.len() == "c-g-worker-".len() + 5, "{name}");
        let others = [
            pod_name("c-g-worker-", "uid2", "g", 3, 0, 0),
            pod_name("c-g-worker-", "uid", "h", 3, 0, 0),
            pod_name("c-g-worker-", "uid", "g", 4, 0, 0),
            pod_name("c-g-worker-", "uid", "g", 3, 1, 0),
            pod_name("c-g-worker-", "uid", "g", 3, 0, 1),
        ];
        assert!(others.iter().all(|other| *other != name), "{others:?}");
        assert_ne!(replica_name("uid", "g", 0, 0), replica_name("uid", "g", 1, 0));
    }
}

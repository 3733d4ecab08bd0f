//! Levels for the label families that are met in practice.
//!
//! There is no standard for the labels of anything narrower than a zone, so levels are configuration, and these are lists to
//! choose from. Each is ordered from broad to narrow. Labels that no node has cost nothing.
//!
//! A level counts as a fabric only where its labels come from the network's own description of itself. Labels of clouds tell
//! how near two hosts are; their RDMA reaches further.

use crate::TopologyLevel;

/// Hosts of an NVL72 rack, the largest domain of NVLink there is: 18 of 4 GPUs.
const NVL72_HOSTS: u32 = 18;

/// A level as it is written down here.
struct Level {
    name: &'static str,
    keys: &'static [&'static str],
    is_fabric: bool,
    max_hosts: Option<u32>,
}

const fn level(name: &'static str, keys: &'static [&'static str]) -> Level {
    Level { name, keys, is_fabric: false, max_hosts: None }
}

const fn fabric(name: &'static str, keys: &'static [&'static str]) -> Level {
    Level { name, keys, is_fabric: true, max_hosts: None }
}

/// Hosts whose GPUs share one NVLink network.
const fn nvlink(keys: &'static [&'static str]) -> Level {
    Level { name: "accelerator", keys, is_fabric: false, max_hosts: Some(NVL72_HOSTS) }
}

const ZONE: Level = level("zone", &["topology.kubernetes.io/zone"]);
const HOST: Level = level("host", &["kubernetes.io/hostname"]);
/// By whoever tells it; `ray.io/gpu-domain` is the label by which Ray's placement groups ask for one domain.
const ACCELERATOR: Level = nvlink(&[
    "ray.io/gpu-domain",
    "nvidia.com/gpu.clique",
    "accelerator.topograph.run/domain",
    "network.topology.nvidia.com/accelerator",
    "topology.k8s.aws/ultraserver-id",
    "ds.coreweave.com/nvlink.domain",
]);

/// All families in one list: the default. Where two of them are found in one cluster, the more exact one is asked first.
const AUTO: &[Level] = &[
    ZONE,
    fabric("fabric-3", &["fabric.topograph.run/tier-3", "network.topology.nvidia.com/tier-3"]),
    fabric(
        "fabric-2",
        &[
            "fabric.topograph.run/tier-2",
            "network.topology.nvidia.com/tier-2",
            "network.topology.nvidia.com/core",
            "network.topology.nvidia.com/datacenter",
        ],
    ),
    fabric(
        "fabric-1",
        &["fabric.topograph.run/tier-1", "network.topology.nvidia.com/tier-1", "network.topology.nvidia.com/spine"],
    ),
    fabric(
        "fabric-0",
        &[
            "fabric.topograph.run/tier-0",
            "network.topology.nvidia.com/tier-0",
            "network.topology.nvidia.com/leaf",
            "network.topology.nvidia.com/block",
        ],
    ),
    level("network-1", &["topology.k8s.aws/network-node-layer-1", "volcano.sh/hypercluster"]),
    level("network-2", &["topology.k8s.aws/network-node-layer-2", "volcano.sh/hypernode"]),
    level(
        "block",
        &[
            "topology.kubernetes.io/block",
            "cloud.google.com/gce-topology-block",
            "topology.k8s.aws/network-node-layer-3",
            "oci.oraclecloud.com/host.network_block_id",
            "cloud.provider.com/topology-block",
        ],
    ),
    ACCELERATOR,
    level(
        "rack",
        &[
            "topology.kubernetes.io/rack",
            "cloud.google.com/gce-topology-subblock",
            "oci.oraclecloud.com/host.rack_id",
            "cloud.provider.com/topology-rack",
            "volcano.sh/tor",
            "topology.gpustack.ai/rack",
        ],
    ),
    HOST,
];

/// topograph since 2026-08, with its labels of before that.
const TOPOGRAPH: &[Level] = &[
    ZONE,
    fabric("fabric-3", &["fabric.topograph.run/tier-3", "network.topology.nvidia.com/tier-3"]),
    fabric(
        "fabric-2",
        &["fabric.topograph.run/tier-2", "network.topology.nvidia.com/tier-2", "network.topology.nvidia.com/core"],
    ),
    fabric(
        "fabric-1",
        &["fabric.topograph.run/tier-1", "network.topology.nvidia.com/tier-1", "network.topology.nvidia.com/spine"],
    ),
    fabric(
        "fabric-0",
        &["fabric.topograph.run/tier-0", "network.topology.nvidia.com/tier-0", "network.topology.nvidia.com/leaf"],
    ),
    nvlink(&["ray.io/gpu-domain", "accelerator.topograph.run/domain", "network.topology.nvidia.com/accelerator"]),
    level("accelerator-part", &["accelerator.topograph.run/sub-domain"]),
    HOST,
];

/// topograph 0.1.
const TOPOGRAPH_V01: &[Level] = &[
    ZONE,
    fabric("datacenter", &["network.topology.nvidia.com/datacenter"]),
    fabric("spine", &["network.topology.nvidia.com/spine"]),
    fabric("block", &["network.topology.nvidia.com/block"]),
    nvlink(&["ray.io/gpu-domain", "nvidia.com/gpu.clique", "network.topology.nvidia.com/accelerator"]),
    HOST,
];

/// Nothing but NVLink.
const NVLINK: &[Level] = &[ZONE, ACCELERATOR, HOST];

/// Google. On A4X a sub-block is an NVLink domain.
const GKE: &[Level] = &[
    ZONE,
    level("block", &["cloud.google.com/gce-topology-block"]),
    level("subblock", &["cloud.google.com/gce-topology-subblock"]),
    nvlink(&["ray.io/gpu-domain", "nvidia.com/gpu.clique"]),
    level("machine", &["cloud.google.com/gce-topology-host"]),
    HOST,
];

/// Amazon.
const EKS: &[Level] = &[
    ZONE,
    level("network-1", &["topology.k8s.aws/network-node-layer-1"]),
    level("network-2", &["topology.k8s.aws/network-node-layer-2"]),
    level("network-3", &["topology.k8s.aws/network-node-layer-3"]),
    nvlink(&["ray.io/gpu-domain", "nvidia.com/gpu.clique", "topology.k8s.aws/ultraserver-id"]),
    HOST,
];

/// Oracle.
const OCI: &[Level] = &[
    ZONE,
    level("block", &["oci.oraclecloud.com/host.network_block_id"]),
    nvlink(&["ray.io/gpu-domain", "nvidia.com/gpu.clique"]),
    level("rack", &["oci.oraclecloud.com/host.rack_id"]),
    HOST,
];

/// CoreWeave.
const COREWEAVE: &[Level] =
    &[ZONE, nvlink(&["ray.io/gpu-domain", "ds.coreweave.com/nvlink.domain", "nvidia.com/gpu.clique"]), HOST];

/// The keys of Kueue's and KAI's documentation.
const KUEUE: &[Level] = &[
    level("block", &["cloud.provider.com/topology-block"]),
    level("rack", &["cloud.provider.com/topology-rack"]),
    HOST,
];

/// The keys of Volcano's discovery by label.
const VOLCANO: &[Level] = &[
    level("hypercluster", &["volcano.sh/hypercluster"]),
    level("hypernode", &["volcano.sh/hypernode"]),
    level("tor", &["volcano.sh/tor"]),
    HOST,
];

/// GPUStack.
const GPUSTACK: &[Level] = &[
    level("room", &["topology.gpustack.ai/room"]),
    level("row", &["topology.gpustack.ai/row"]),
    level("rack", &["topology.gpustack.ai/rack"]),
    level("switch", &["topology.gpustack.ai/switch"]),
    HOST,
];

/// Names by which users choose, the default first.
const PRESETS: [(&str, &[Level]); 12] = [
    ("auto", AUTO),
    ("none", &[]),
    ("topograph", TOPOGRAPH),
    ("topograph-v0.1", TOPOGRAPH_V01),
    ("nvlink", NVLINK),
    ("gke", GKE),
    ("eks", EKS),
    ("oci", OCI),
    ("coreweave", COREWEAVE),
    ("kueue", KUEUE),
    ("volcano", VOLCANO),
    ("gpustack", GPUSTACK),
];

/// The levels of this name, from broad to narrow; `None`: there is no preset of this name.
pub fn preset(name: &str) -> Option<Vec<TopologyLevel>> {
    let (_, levels) = PRESETS.into_iter().find(|(known, _)| *known == name)?;
    let level = |level: &Level| TopologyLevel {
        name: level.name.to_owned(),
        keys: level.keys.iter().map(|key| (*key).to_owned()).collect(),
        is_fabric: level.is_fabric,
        max_hosts: level.max_hosts,
    };
    Some(levels.iter().map(level).collect())
}

/// The names that [`preset`] knows, the default first.
pub fn preset_names() -> impl Iterator<Item = &'static str> {
    PRESETS.into_iter().map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_preset_names_each_level_and_each_label_once_and_ends_at_the_host() {
        for name in preset_names() {
            let levels = preset(name).unwrap();
            let names: BTreeSet<&String> = levels.iter().map(|level| &level.name).collect();
            assert_eq!(names.len(), levels.len(), "{name}");
            let keys: Vec<&String> = levels.iter().flat_map(|level| &level.keys).collect();
            assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len(), "{name}");
            assert!(levels.iter().all(|level| !level.keys.is_empty()), "{name}");
            let last = levels.last().map(|level| level.keys.as_slice());
            assert!(name == "none" || last == Some(&["kubernetes.io/hostname".to_owned()][..]), "{name}: {last:?}");
        }
        assert_eq!(preset("nowhere"), None);
    }

    #[test]
    fn the_default_goes_from_the_zone_over_fabric_block_nvlink_and_rack_to_the_host() {
        let levels = preset("auto").unwrap();
        let order: Vec<&str> = levels.iter().map(|level| level.name.as_str()).collect();
        let expected = [
            "zone",
            "fabric-3",
            "fabric-2",
            "fabric-1",
            "fabric-0",
            "network-1",
            "network-2",
            "block",
            "accelerator",
            "rack",
            "host",
        ];
        assert_eq!(order, expected);
        let fabrics: Vec<bool> = levels.iter().map(|level| level.name.starts_with("fabric")).collect();
        assert_eq!(levels.iter().map(|level| level.is_fabric).collect::<Vec<_>>(), fabrics);
        let nvlink = levels.iter().find(|level| level.max_hosts.is_some()).unwrap();
        assert_eq!((nvlink.name.as_str(), nvlink.max_hosts), ("accelerator", Some(18)));
        for key in ["nvidia.com/gpu.clique", "ray.io/gpu-domain"] {
            assert!(nvlink.keys.iter().any(|known| known == key), "{key}");
        }
    }
}

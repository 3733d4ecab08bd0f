//! Names of resources that stand for RDMA devices. Each device plugin has its own; there is no standard.

/// Prefixes of the last part of a name, of which device plugins make their names
/// (`nvidia.com/mlnxnics`, `vpc.amazonaws.com/efa`, `mellanox.com/ib0`, `networking.gke.io.networks/rdma-1`).
const PREFIXES: [&str; 7] = ["efa", "erdma", "hca", "ib", "infiniband", "mlnx", "roce"];

/// Whether a resource of this name, of Kubernetes or of Ray, is an RDMA device.
pub fn is_rdma_resource(name: &str) -> bool {
    // What almost all requests name.
    if matches!(name, "CPU" | "GPU" | "memory") {
        return false;
    }
    let name = name.to_ascii_lowercase();
    if name.contains("rdma") {
        return true;
    }
    match name.rsplit_once('/') {
        // SR-IOV host devices of NVIDIA's network operator.
        Some((domain, last)) => {
            PREFIXES.iter().any(|prefix| last.starts_with(prefix)) || (domain == "nvidia.com" && last == "hostdev")
        }
        // Ray's custom resources have no domain: only whole words count.
        None => name.split(['-', '_', '.', ':']).any(|word| PREFIXES.contains(&word)),
    }
}

#[cfg(test)]
mod tests {
    use super::is_rdma_resource;

    #[test]
    fn names_of_device_plugins_are_known_and_others_are_not() {
        for name in [
            "rdma/hca",
            "rdma/hca_shared_devices_a",
            "rdma/ib",
            "rdma/roce_gdr",
            "vpc.amazonaws.com/efa",
            "nvidia.com/mlnxnics",
            "nvidia.com/hostdev",
            "nvidia.com/rdma_ib0",
            "openshift.io/cx7rdma",
            "networking.gke.io.networks/rdma-0",
            "mellanox.com/ib0",
            "aliyun/erdma",
            "rdma",
            "RDMA_NIC",
            "my-ib",
        ] {
            assert!(is_rdma_resource(name), "{name}");
        }
        for name in [
            "nvidia.com/gpu",
            "GPU",
            "CPU",
            "amd.com/gpu",
            "google.com/tpu",
            "ephemeral-storage",
            "library",
            "tribe_ibis",
        ] {
            assert!(!is_rdma_resource(name), "{name}");
        }
    }
}

//! How many pods may share a host.

use crate::{Amount, Resources, Snapshot};

/// Hosts of NVLink domains have so many GPUs at least (GB200 and GB300: four).
const GPUS_OF_A_HOST: i64 = 4;

/// By group: most of its pods that one host may hold, as far as its GPUs tell. Where hosts are not known they are taken to have
/// the most GPUs that a pod of any group has, and no fewer than those of NVLink domains.
pub(crate) fn pods_a_host(snapshot: &Snapshot) -> Vec<u32> {
    let gpus = |resources: &Resources| resources.get("GPU").map_or(0, |amount| amount.steps());
    let of_groups = || snapshot.node_types.iter().map(|group| gpus(&group.resources));
    let most = of_groups().fold(Amount::from_units(GPUS_OF_A_HOST).steps(), i64::max);
    let share = |gpus: i64| if gpus > 0 { u32::try_from(most / gpus).unwrap_or(u32::MAX) } else { 1 };
    of_groups().map(share).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::NodeType;

    fn shares(gpus: &[i64]) -> Vec<u32> {
        let group = |gpus: &i64| NodeType {
            resources: Arc::new(Resources::from([("GPU".to_owned(), Amount::from_units(*gpus))])),
            ..NodeType::default()
        };
        pods_a_host(&Snapshot { node_types: gpus.iter().map(group).collect(), ..Snapshot::default() })
    }

    #[test]
    fn pods_with_few_gpus_may_share_a_host() {
        assert_eq!(shares(&[1, 2, 3, 4, 0]), [4, 2, 1, 1, 1]);
        assert_eq!(shares(&[1, 8]), [8, 1]);
        assert_eq!(shares(&[]), []);
    }
}

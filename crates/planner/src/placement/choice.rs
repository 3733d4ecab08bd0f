//! The policies by name.

/// How the node of a pod is chosen. Every policy gives each node that can take the pod a score from 0 to 100; the highest wins.
///
/// Free and asked-for amounts are taken before the pod is placed. `max` is the largest node's. Scores are cut to integers, so
/// that ties are the rule: see [`TieBreak`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeChoice {
    /// Any node: all score the same, and ties are always drawn, as is the device for a share of a GPU.
    Random,
    /// `1 - mean over CPU and GPU of (free / max) * (asked / max)`: work goes where little of what it needs is free (Tetris).
    DotProduct,
    /// Pods of one class (a share, one GPU, two GPUs, …) together: nodes with this class alone, then with this and others, then
    /// empty ones, then nodes with others only; within each of the four bands the fuller node. Without a GPU: 0.
    Clustering,
    /// Shared devices first (the fuller, the better), then idle devices of a used node, then empty nodes (the smaller, the
    /// better). Without a GPU: 0.
    Packing,
    /// `1 - mean over CPU and GPU of (free - asked) / max`: what stays free is least.
    BestFit,
    /// Fragmentation gradient descent: `sigmoid(F(before) - F(after))`, in GPUs: the node whose free GPUs lose least of their use
    /// to the typical pods (see [`Cluster::fragmented_gpu_milli`](super::Cluster::fragmented_gpu_milli)). For a share each device
    /// is tried.
    Fgd,
}

impl NodeChoice {
    /// All, in the order of the paper's tables.
    pub const ALL: [NodeChoice; 6] = [
        NodeChoice::Random,
        NodeChoice::DotProduct,
        NodeChoice::Clustering,
        NodeChoice::Packing,
        NodeChoice::BestFit,
        NodeChoice::Fgd,
    ];

    /// The name by which users know it.
    pub fn name(self) -> &'static str {
        match self {
            NodeChoice::Random => "random",
            NodeChoice::DotProduct => "dot-product",
            NodeChoice::Clustering => "clustering",
            NodeChoice::Packing => "packing",
            NodeChoice::BestFit => "best-fit",
            NodeChoice::Fgd => "fgd",
        }
    }

    /// The one of this name; `None` if there is none.
    pub fn by_name(name: &str) -> Option<Self> {
        NodeChoice::ALL.into_iter().find(|choice| choice.name() == name)
    }
}

/// Which of the nodes with the best score is taken. It decides about results as much as the policy does.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TieBreak {
    /// The one that comes first in the order in which the cluster was given its nodes.
    First,
    /// Any of them, by the number that the caller has drawn.
    Drawn,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_found_by_its_name() {
        for choice in NodeChoice::ALL {
            assert_eq!(NodeChoice::by_name(choice.name()), Some(choice));
        }
        assert_eq!(NodeChoice::by_name("FGD"), None);
    }
}

//! A cluster that is filled pod by pod.

use std::collections::BTreeSet;

use super::choice::{NodeChoice, TieBreak};
use super::fragmentation::{Fragmentation, accepts};
use super::node::{Node, class};
use super::score::{Scorer, drawn};
use super::words::{GPU_MILLI, GpuNode, GpuRequest};
use super::workload::{ShapeId, TooVaried, Workload};

/// Classes of pods, as [`class`] numbers them.
const CLASSES: usize = 32;
/// Touched nodes that are remembered at least.
const MOST_TOUCHED: usize = 65_536;

/// Most models of GPUs in one cluster.
const MAX_MODELS: usize = 256;

/// Nodes, what is free on them, and a policy that chooses among them. Pods come one by one, and stay until they are taken away.
///
/// For each shape the scores of all nodes are kept, and those of the nodes that were touched since are computed anew when such a
/// pod comes: a placement changes one node.
#[derive(Clone, Debug)]
pub struct Cluster<'a> {
    workload: &'a Workload,
    scorer: Scorer,
    ties: TieBreak,
    /// In order of preference.
    nodes: Vec<Node>,
    /// By shape and model of GPUs: whether such a pod may run there.
    accepts: Vec<Vec<bool>>,
    columns: Vec<Column>,
    /// The node of each placement and departure so far.
    touched: Vec<usize>,
    /// How many pods of each class are on each node.
    classes: Vec<[u32; CLASSES]>,
    allocated_gpu_milli: u64,
}

/// The scores of all nodes for one shape.
#[derive(Clone, Debug, Default)]
struct Column {
    /// For each node 0 if it can't take the pod, else 1 more than its score. Empty until a pod comes.
    ranks: Vec<u8>,
    /// They are of the time of so many placements.
    placements: usize,
}

/// Where a pod went.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Index of the node in the order in which the cluster was given them.
    pub node: usize,
    /// The GPUs of the node that it uses, the lowest bit for the first.
    pub devices: u16,
}

impl<'a> Cluster<'a> {
    /// An empty cluster. `nodes` are in order of preference for [`TieBreak::First`]; `workload` holds every shape that may come,
    /// and what is typical of it.
    pub fn new(
        choice: NodeChoice,
        ties: TieBreak,
        nodes: &[GpuNode],
        workload: &'a Workload,
    ) -> Result<Self, TooVaried> {
        let models: BTreeSet<&str> = nodes.iter().map(|node| node.model.as_str()).collect();
        let models: Vec<&str> = models.into_iter().collect();
        if models.len() > MAX_MODELS {
            return Err(TooVaried { what: "models of GPUs", most: MAX_MODELS });
        }
        let fragmentation = Fragmentation::new(workload, &models)?;
        let largest = |size: fn(&GpuNode) -> u32| nodes.iter().map(size).max().unwrap_or(0);
        let scorer = Scorer {
            choice,
            max_cpu_milli: largest(|node| node.cpu_milli),
            max_gpu_milli: largest(|node| u32::from(node.gpus) * u32::from(GPU_MILLI)),
            fragmentation,
        };
        let of_shape = |shape| models.iter().map(|model| accepts(shape, model)).collect();
        let mut cluster = Cluster {
            workload,
            scorer,
            // Where all score the same, the draw is the policy.
            ties: if choice == NodeChoice::Random { TieBreak::Drawn } else { ties },
            nodes: nodes
                .iter()
                .map(|node| Node::new(node, models.binary_search(&node.model.as_str()).unwrap_or(0)))
                .collect(),
            accepts: workload.shapes.iter().map(of_shape).collect(),
            columns: vec![Column::default(); workload.shapes.len()],
            touched: Vec::new(),
            classes: vec![[0; CLASSES]; nodes.len()],
            allocated_gpu_milli: 0,
        };
        for node in 0..cluster.nodes.len() {
            cluster.measure(node);
        }
        Ok(cluster)
    }

    /// Places a pod of this shape. `draw` is any 64-bit number: where something is left to chance, it decides.
    ///
    /// `None` if no node can take it, or if the shape is of another workload.
    pub fn place(&mut self, shape: ShapeId, draw: u64) -> Option<Placed> {
        self.refresh(shape)?;
        let (node, draw) = self.best(shape, draw)?;
        let request = self.workload.request(shape)?;
        let before = self.nodes.get(node)?;
        let devices = self.scorer.devices(before, request, draw);
        let after = before.with(request, devices);
        *self.nodes.get_mut(node)? = after;
        self.measure(node);
        self.touch(node);
        if let Some(count) = self.classes.get_mut(node).and_then(|counts| counts.get_mut(class_index(request)?)) {
            *count += 1;
        }
        self.allocated_gpu_milli = self.allocated_gpu_milli.saturating_add(request.total_gpu_milli());
        Some(Placed { node, devices })
    }

    /// Takes a pod away that was placed so.
    pub fn take_away(&mut self, shape: ShapeId, placed: Placed) {
        let Some(request) = self.workload.request(shape) else { return };
        let Some(node) = self.nodes.get_mut(placed.node) else { return };
        node.give_back(request, placed.devices);
        if let Some(counts) = self.classes.get_mut(placed.node)
            && let Some(count) = class_index(request).and_then(|index| counts.get_mut(index))
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                node.classes &= !class(request);
            }
        }
        self.measure(placed.node);
        self.touch(placed.node);
        self.allocated_gpu_milli = self.allocated_gpu_milli.saturating_sub(request.total_gpu_milli());
    }

    /// Columns must look at this node again. What all of them have long seen is forgotten, so that this does not grow for ever.
    fn touch(&mut self, node: usize) {
        if self.touched.len() > self.nodes.len().saturating_mul(4).max(MOST_TOUCHED) {
            self.touched.clear();
            self.columns.iter_mut().for_each(|column| column.ranks.clear());
        }
        self.touched.push(node);
    }

    /// GPUs in use, in thousandths.
    pub fn allocated_gpu_milli(&self) -> u64 {
        self.allocated_gpu_milli
    }

    /// Free GPUs, in thousandths, that typical pods can't use where they are: for each node and each typical shape (the most
    /// frequent ones, up to 95 % of the pods), weighed with its frequency, all free GPUs if such a pod does not run there or
    /// needs no GPU, else those on devices with less free than it asks for of each.
    pub fn fragmented_gpu_milli(&self) -> u64 {
        let all = self.nodes.iter().fold(0_i64, |all, node| all.saturating_add(node.fragmentation));
        self.scorer.fragmentation.milli(all)
    }

    /// Brings the scores of all nodes for a shape up to date.
    fn refresh(&mut self, shape: ShapeId) -> Option<()> {
        let request = self.workload.request(shape)?;
        let accepts = self.accepts.get(shape.0)?;
        let column = self.columns.get_mut(shape.0)?;
        let rank = |node: &Node| {
            let runs = accepts.get(node.model) == Some(&true) && node.fits(request);
            if runs { self.scorer.score(node, request) + 1 } else { 0 }
        };
        let touched = self.touched.get(column.placements..).unwrap_or_default();
        if column.ranks.is_empty() || touched.len() > self.nodes.len() {
            column.ranks = self.nodes.iter().map(rank).collect();
        } else {
            for index in touched {
                *column.ranks.get_mut(*index)? = rank(self.nodes.get(*index)?);
            }
        }
        column.placements = self.touched.len();
        Some(())
    }

    /// The best node by the scores of a shape, and what is left of the draw.
    fn best(&self, shape: ShapeId, draw: u64) -> Option<(usize, u64)> {
        let ranks = &self.columns.get(shape.0)?.ranks;
        let best = ranks.iter().fold(0, |best, rank| best.max(*rank));
        if best == 0 {
            return None;
        }
        let is_best = |rank: &u8| *rank == best;
        if self.ties == TieBreak::First {
            return Some((ranks.iter().position(is_best)?, draw));
        }
        let (nth, rest) = drawn(draw, ranks.iter().filter(|rank| is_best(rank)).count());
        let mut indices = (0..ranks.len()).filter(|index| ranks.get(*index).is_some_and(is_best));
        Some((indices.nth(nth)?, rest))
    }

    /// Computes the fragmentation of a node anew.
    fn measure(&mut self, node: usize) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.fragmentation = self.scorer.fragmentation.of(node.model, node.cpu_free_milli, node.gpus_free_milli());
        }
    }
}

/// The number of the class of a request; none without a GPU.
fn class_index(request: &GpuRequest) -> Option<usize> {
    let class = class(request);
    (class != 0).then(|| class.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests;

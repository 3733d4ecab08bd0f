//! Public traces in the planner's words, and the published experiments that were made with them.
//!
//! - [`openb`] reads the lists of nodes and pods that came with "Beware of Fragmentation" (a data centre of Alibaba).
//! - [`fgd`] is the experiment of that paper: pods arrive until they ask for 130 % of the GPUs, and a policy places them.
//! - [`capacity`] runs jobs on nodes without a control plane.
//! - [`jobs`] reads traces of work: our own form, that of openb, that of Philly.
//!
//! No file is opened here and no clock asked; chance is a seed that is passed in. The same input gives the same numbers on every
//! machine.

pub mod capacity;
pub mod fgd;
pub mod jobs;
mod lines;
pub mod openb;
#[cfg(feature = "parquet")]
mod parquet;
mod seeded;

pub use seeded::Seeded;

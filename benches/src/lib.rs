//! What the benchmarks share: problems of any size, processes to compare with, and the numbers about a process.
//!
//! - `benches/*.rs` are criterion benchmarks of single functions.
//! - `src/bin/*.rs` are runs side by side with Ray's own autoscaler; each prints a table for `RESULTS.md`.

pub mod problem;
pub mod process;
pub mod stage;
pub mod statistics;
pub mod tick;

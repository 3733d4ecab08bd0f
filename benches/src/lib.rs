//! What the benchmarks share: problems of any size, processes to compare with, and the numbers about a process.
//!
//! - `benches/*.rs` are criterion benchmarks of single functions.
//! - `src/bin/side_by_side` holds runs beside Ray's own scheduler and autoscaler; each prints a table for `RESULTS.md`.

pub mod classes;
pub mod full_size;
pub mod problem;
pub mod process;
pub mod random;
pub mod shapes;
pub mod stage;
pub mod statistics;
pub mod tick;

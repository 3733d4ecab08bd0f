//! `bench`: the benchmarks.

use anyhow::Result;

use crate::command::{Arguments, Command, cargo, run};

/// Sub-command `bench`.
pub const COMMAND: Command = Command {
    name: "bench",
    summary: "Runs the benchmarks; what follows `--` goes to criterion.",
    help: "Results and the commands that gave them are kept in benches/RESULTS.md.",
    flags: &[],
    passes_on: true,
    run: bench,
};

fn bench(arguments: &Arguments) -> Result<()> {
    run(cargo(&["bench", "--locked", "-p", "mobula-benches", "--"]).args(&arguments.passed_on))
}

/// One short run of each benchmark: that they still do what they measure.
pub fn smoke() -> Result<()> {
    run(&mut cargo(&["bench", "--locked", "-p", "mobula-benches", "--benches", "--", "--test"]))
}

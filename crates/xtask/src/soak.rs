//! `soak`: random scenarios with faults through the simulator.

use anyhow::Result;

use crate::command::{Arguments, Command, cargo, run};

/// Sub-command `soak`.
pub const COMMAND: Command = Command {
    name: "soak",
    summary: "Runs random scenarios with faults through the simulator: `-- --count N --first SEED`.",
    help: "Invariants are looked at in every turn. A seed that fails is printed with the command that runs it again, and made smaller.",
    flags: &[],
    passes_on: true,
    run: soak,
};

fn soak(arguments: &Arguments) -> Result<()> {
    run(cargo(&["run", "--locked", "--release", "-p", "mobula", "--", "simulate", "soak"]).args(&arguments.passed_on))
}

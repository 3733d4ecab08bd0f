//! `live`: the whole thing, to look at.

use anyhow::Result;

use crate::command::{Arguments, Command, cargo, run};
use crate::parts;

/// Sub-command `live`.
pub const COMMAND: Command = Command {
    name: "live",
    summary: "A real Ray head, a real API server, the sidecar and a driver: replicas over time beside `ray status`.",
    help: "Takes up to three minutes once the parts are built, and stops everything that it started.",
    flags: &[],
    passes_on: false,
    run: live,
};

fn live(_: &Arguments) -> Result<()> {
    parts::ensure(&parts::all()?)?;
    run(&mut cargo(&["build", "--locked", "--quiet", "-p", "mobula"]))?;
    run(&mut cargo(&["run", "--locked", "--quiet", "-p", "mobula-tests", "--bin", "live"]))
}

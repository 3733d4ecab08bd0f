//! `live`: the whole thing, to look at.

use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result};

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
    parts::ensure(&parts::of_tests()?)?;
    // The show builds it too, to be sure that it is of now; here, so that this is not part of its time.
    run(&mut cargo(&["build", "--locked", "--quiet", "-p", "mobula"]))?;
    // Becomes the show, so that whoever interrupts it waits until it has cleaned up.
    let error = cargo(&["run", "--locked", "--quiet", "-p", "mobula-tests", "--bin", "live"]).exec();
    Err(error).context("could not start cargo")
}

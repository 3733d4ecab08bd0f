//! `peer-e2e`: KubeRay's own end-to-end tests against our operator.

use anyhow::Result;

use crate::command::{Arguments, Command, cargo, run};
use crate::parts;

/// Sub-command `peer-e2e`.
pub const COMMAND: Command = Command {
    name: "peer-e2e",
    summary: "KubeRay's own end-to-end tests of RayClusters, with Mobula in KubeRay's place.",
    help: "Those that need no running Ray: under a real control plane, with nodes that KWOK pretends. `cargo xtask test` runs\n\
           them, too; this runs nothing else, and takes two minutes once the parts are there.",
    flags: &[],
    passes_on: false,
    run: peer_e2e,
};

fn peer_e2e(_: &Arguments) -> Result<()> {
    parts::ensure(&parts::of_tests()?)?;
    run(&mut cargo(&["test", "--locked", "--workspace", "--test", "operator", "--", "--nocapture", "peer::"]))
}

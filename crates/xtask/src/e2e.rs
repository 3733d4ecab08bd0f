//! `e2e`: the whole loop on a real node.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command as Process;

use anyhow::{Context as _, Result, ensure};

use crate::command::{Arguments, Command, cargo, run};
use crate::parts;

/// Exit code of `e2e check` on a machine that can't run a node. Everything else that goes wrong is an error.
const CANNOT: i32 = 3;

/// Sub-command `e2e`.
pub const COMMAND: Command = Command {
    name: "e2e",
    summary: "A real one-node Kubernetes cluster with real Ray: our operator and our sidecar as containers.",
    help: "Needs root on Linux, namespaces, overlayfs, and Debian's apt for containerd, runc and the CNI plugins; says what is\n\
           missing. Everything runs in namespaces of its own and is stopped and removed at the end, also after Ctrl-C. The\n\
           first time it builds a Kubernetes node and an image of Ray, which takes 10 to 20 minutes; then 3 to 6.",
    flags: &[("--check", "only say whether this machine can")],
    passes_on: false,
    run: e2e,
};

fn e2e(arguments: &Arguments) -> Result<()> {
    // As the tests build it: another choice of packages would be a choice of features, and compile all of them anew.
    run(&mut cargo(&["test", "--locked", "--quiet", "--workspace", "--no-run", "--test", "operator"]))?;
    run(Process::new(program()?).arg("check"))?;
    if arguments.has("--check") {
        return Ok(());
    }
    parts::ensure(&parts::all()?)?;
    // Becomes the program, so that whoever interrupts it waits until it has cleaned up.
    let error = Process::new(program()?).arg("run").exec();
    Err(error).context("could not start e2e")
}

/// As part of the tests, which have built it: whether this machine can, and if so, the whole of it.
pub fn where_possible() -> Result<bool> {
    let checked = Process::new(program()?).arg("check").status().context("could not start e2e")?;
    if checked.code() == Some(CANNOT) {
        return Ok(false);
    }
    ensure!(checked.success(), "`e2e check` ended with {checked}");
    parts::ensure(&parts::all()?)?;
    run(Process::new(program()?).arg("run")).map(|()| true)
}

/// Cargo puts it beside this program.
fn program() -> Result<PathBuf> {
    Ok(std::env::current_exe().context("where this program lies is not known")?.with_file_name("e2e"))
}

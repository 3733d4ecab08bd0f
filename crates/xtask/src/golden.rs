//! `golden`: what a real KubeRay makes of the inputs of the golden corpus.

use anyhow::Result;

use crate::command::{Arguments, Command, cargo, run};
use crate::parts;

/// Sub-command `golden`.
pub const COMMAND: Command = Command {
    name: "golden",
    summary: "A real KubeRay makes what the golden inputs ask for: compared with what is recorded.",
    help: "On a real API server; takes three minutes once the parts are there. What follows `--` names inputs (folders of\n\
           crates/operator/testdata/golden); without a name, all. A new input is a folder with an `input.yaml`.",
    flags: &[("--write", "records anew instead")],
    passes_on: true,
    run: golden,
};

fn golden(arguments: &Arguments) -> Result<()> {
    let needed = ["etcd", "kube-apiserver", "kuberay-crds", "kuberay-operator"];
    parts::ensure(&needed.map(parts::named).into_iter().collect::<Result<Vec<_>>>()?)?;
    let mut golden = cargo(&["run", "--locked", "--quiet", "-p", "mobula-tests", "--bin", "golden", "--"]);
    golden.args(arguments.has("--write").then_some("--write"));
    run(golden.args(&arguments.passed_on))
}

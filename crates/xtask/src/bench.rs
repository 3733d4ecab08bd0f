//! `bench`: the benchmarks.

use anyhow::Result;

use crate::command::{Arguments, Command, cargo, run};
use crate::parts;

/// Sub-command `bench`.
pub const COMMAND: Command = Command {
    name: "bench",
    summary: "Runs the benchmarks; what follows `--` goes to criterion.",
    help: "Results and the commands that gave them are kept in benches/RESULTS.md.",
    flags: &[(
        "--operators",
        "`mobula operator` beside KubeRay's instead; what follows `--` says how much, see `-- --help`",
    )],
    passes_on: true,
    run: bench,
};

fn bench(arguments: &Arguments) -> Result<()> {
    if arguments.has("--operators") {
        let needed = ["etcd", "kube-apiserver", "kuberay-crds", "kuberay-operator"];
        parts::ensure(&needed.map(parts::named).into_iter().collect::<Result<Vec<_>>>()?)?;
        run(&mut cargo(&["build", "--locked", "--release", "-p", "mobula"]))?;
        let mut operators = cargo(&["run", "--locked", "--release", "-p", "mobula-benches", "--bin", "side_by_side"]);
        return run(operators.args(["--", "operators"]).args(&arguments.passed_on));
    }
    run(cargo(&["bench", "--locked", "-p", "mobula-benches", "--"]).args(&arguments.passed_on))
}

/// One short run of each benchmark: that they still do what they measure. As the tests are built, since nothing is measured.
pub fn smoke() -> Result<()> {
    run(&mut cargo(&["test", "--locked", "--workspace", "--bench", "*"]))
}

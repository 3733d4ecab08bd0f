//! `test`: everything that CI runs.

use std::time::Instant;

use anyhow::Result;

use crate::command::{Arguments, Command, cargo, run};
use crate::parts;

/// Sub-command `test`.
pub const COMMAND: Command = Command {
    name: "test",
    summary: "Runs all tests, those against real parts included.",
    help: "Unit and doc tests of every crate; then, one after another, the tests against a real Ray, a real kube-apiserver and\n\
           Ray's own scheduler (fetching these parts first); then one short run of each benchmark.",
    flags: &[("--fast", "only what needs neither Python nor Go")],
    passes_on: false,
    run: test,
};

fn test(arguments: &Arguments) -> Result<()> {
    let start = Instant::now();
    let fast = arguments.has("--fast");
    run(&mut cargo(&["test", "--locked", "--workspace", "--lib", "--bins"]))?;
    run(&mut cargo(&[
        "test",
        "--locked",
        "--workspace",
        "--exclude",
        "mobula-tests",
        "--test",
        "*",
        "--no-fail-fast",
    ]))?;
    run(&mut cargo(&["test", "--locked", "--workspace", "--doc"]))?;
    if !fast {
        parts::ensure(&parts::all()?)?;
        // Serially: each case starts servers and raylets that share two cores with the code under test.
        run(&mut cargo(&[
            "test",
            "--locked",
            "-p",
            "mobula-tests",
            "--test",
            "*",
            "--no-fail-fast",
            "--",
            "--test-threads=1",
            "--nocapture",
        ]))?;
        run(&mut cargo(&["bench", "--locked", "--workspace", "--benches", "--", "--test"]))?;
    }
    let what =
        if fast { "all fast tests passed (real parts were not run)" } else { "all tests passed, real parts included" };
    println!("test: {what}, {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

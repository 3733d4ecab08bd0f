//! `lint`: everything that can be said about the code without running it.

use anyhow::{Result, bail};

use crate::command::{Arguments, Command, cargo, output, root, run};
use crate::invariants::{
    bans_hold, files_are_short, members_inherit, nothing_unsafe, only_gcs_knows_protobuf,
    only_the_binary_knows_the_simulator, planner_is_pure,
};
use crate::{parts, sources};

/// Sub-command `lint`.
pub const COMMAND: Command = Command {
    name: "lint",
    summary: "Format, clippy, docs, licences and the invariants of ARCHITECTURE.md.",
    help: "Works without a network once cargo-deny is there. Known vulnerabilities are not asked for: that needs a database\n\
           from the network and changes from day to day, so it is no part of what decides about a commit\n\
           (`cargo deny check advisories` does it).",
    flags: &[],
    passes_on: false,
    run: lint,
};

type Step = (&'static str, fn() -> Result<()>);

fn lint(_: &Arguments) -> Result<()> {
    let steps: [Step; 5] =
        [("invariants", invariants), ("format", format), ("licences", licences), ("clippy", clippy), ("docs", docs)];
    let mut failed = Vec::new();
    for (name, step) in steps {
        if let Err(error) = step() {
            eprintln!("{name}: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("lint failed: {}", failed.join(", "));
    }
    println!("lint: all clean ({})", steps.map(|(name, _)| name).join(", "));
    Ok(())
}

fn invariants() -> Result<()> {
    let edges = "normal,build";
    let planner = cargo_tree(&["-p", "mobula-planner", "-e", edges, "--prefix", "none"])?;
    let direct = cargo_tree(&["--workspace", "--depth", "1", "-e", edges, "--prefix", "depth"])?;
    let sources = sources::read(&root())?;
    let found = [
        planner_is_pure(&planner),
        only_gcs_knows_protobuf(&direct),
        only_the_binary_knows_the_simulator(&direct),
        nothing_unsafe(&sources),
        files_are_short(&sources),
        members_inherit(&sources),
        bans_hold(&sources),
    ]
    .concat();
    if !found.is_empty() {
        bail!("{}", found.join("\n  "));
    }
    Ok(())
}

fn cargo_tree(arguments: &[&str]) -> Result<String> {
    output(cargo(&["tree", "--locked", "--format", "{p}"]).args(arguments))
}

fn format() -> Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"]))
}

fn licences() -> Result<()> {
    let cargo_deny = parts::named("cargo-deny")?;
    parts::ensure(std::slice::from_ref(&cargo_deny))?;
    // cargo-deny looks at the dependencies for all targets; a build has fetched only those for this one.
    run(&mut cargo(&["fetch", "--locked", "--quiet"]))?;
    let binary = cargo_deny.directory()?.join("bin/cargo-deny");
    run(std::process::Command::new(binary)
        .args(["--offline", "--workspace", "--locked", "--log-level", "warn", "check", "bans", "licenses", "sources"])
        .current_dir(root()))
}

fn clippy() -> Result<()> {
    run(&mut cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn docs() -> Result<()> {
    run(cargo(&["doc", "--locked", "--workspace", "--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings"))
}

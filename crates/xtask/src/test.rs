//! `test`: everything that CI runs.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::command::{Arguments, Command, cargo, root, run};
use crate::sources::{self, Source};
use crate::{bench, e2e, parts};

/// Sub-command `test`.
pub const COMMAND: Command = Command {
    name: "test",
    summary: "Runs all tests, those against real parts included.",
    help: "Unit and doc tests of every crate; then, one after another, the integration tests, among them those against a real\n\
           Ray, a real control plane and Ray's own scheduler (fetching these parts first); then one short run of each\n\
           benchmark; at last, where the machine can, the whole loop of `cargo xtask e2e`.",
    flags: &[("--fast", "only what needs neither Python nor Go")],
    passes_on: false,
    run: test,
};

/// Integration tests that start real parts.
const NEED_PARTS: [&str; 5] = ["group_shapes", "image", "operator", "ray_v2_scheduler", "real"];

fn test(arguments: &Arguments) -> Result<()> {
    let start = Instant::now();
    let fast = arguments.has("--fast");
    let mut integration = integration_tests(&sources::read(&root())?);
    if fast {
        integration.retain(|name| !NEED_PARTS.contains(&name.as_str()));
    } else {
        parts::ensure(&parts::of_tests()?)?;
    }
    // Always the whole workspace, and targets by name: each choice of packages is a choice of features of their
    // dependencies, which would all be compiled anew.
    run(&mut cargo(&["test", "--locked", "--workspace", "--lib", "--bins"]))?;
    run(&mut cargo(&["test", "--locked", "--workspace", "--doc"]))?;
    let mut tests = cargo(&["test", "--locked", "--workspace", "--no-fail-fast"]);
    for name in &integration {
        tests.args(["--test", name]);
    }
    // Serially: real parts share the machine with the code under test. Cargo builds `mobula` beside this program, because
    // it has tests of its own; the harness need not build it again.
    let binary = std::env::current_exe().context("where this program lies is not known")?.with_file_name("mobula");
    run(tests.args(["--", "--test-threads=1", "--nocapture"]).env("MOBULA_TEST_BINARY", binary))?;
    let what = if fast {
        "all fast tests passed (real parts were not run)"
    } else {
        bench::smoke()?;
        if e2e::where_possible()? {
            "all tests passed, real parts and a real node included"
        } else {
            "all tests passed, real parts included, but for e2e: this machine can't run a Kubernetes node, see above"
        }
    };
    println!("test: {what}, {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Names of all integration tests of the workspace: `tests/NAME.rs` and `tests/NAME/main.rs` of each package.
fn integration_tests(sources: &[Source]) -> Vec<String> {
    let mut names: Vec<String> =
        sources.iter().filter_map(|source| integration_test(Path::new(&source.path))).collect();
    names.sort();
    names.dedup();
    names
}

fn integration_test(path: &Path) -> Option<String> {
    let is_rust = path.extension().is_some_and(|extension| extension == "rs");
    let file = path.file_stem()?.to_str()?;
    let directory = path.parent()?;
    let is_tests =
        |directory: &Path| directory.file_name().is_some_and(|name| name == "tests") && directory != Path::new("tests");
    match directory.parent() {
        _ if !is_rust => None,
        // A module called `tests` beside the code is below `src`.
        _ if directory.components().any(|part| part.as_os_str() == "src") => None,
        _ if is_tests(directory) => Some(file.to_owned()),
        Some(above) if file == "main" && is_tests(above) => Some(directory.file_name()?.to_str()?.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integration_tests_are_found_by_their_place() {
        let name = |path: &str| integration_test(Path::new(path));
        assert_eq!(name("crates/gcs/tests/client.rs").as_deref(), Some("client"));
        assert_eq!(name("tests/tests/real/main.rs").as_deref(), Some("real"));
        assert_eq!(name("tests/tests/real/demand.rs"), None);
        assert_eq!(name("crates/autoscaler/src/patch/tests.rs"), None);
        assert_eq!(name("crates/autoscaler/src/snapshot/tests/properties.rs"), None);
        assert_eq!(name("tests/src/wait.rs"), None);
    }

    #[test]
    fn every_test_that_needs_parts_exists() {
        let all = integration_tests(&sources::read(&root()).unwrap());
        for name in NEED_PARTS {
            assert!(all.iter().any(|test| test == name), "{name} is not among {all:?}");
        }
    }
}

//! What ARCHITECTURE.md promises and no compiler checks. Every function takes text and returns what breaks the promise, so
//! that its test can show that it fails.

use crate::sources::Source;

/// More lines than this are two things.
const MAX_LINES: usize = 600;

/// Crates that would bring input, output or a runtime into the planner.
const IMPURE: [&str; 12] =
    ["axum", "h2", "hyper", "kube", "kube-client", "mio", "prost", "reqwest", "rustls", "socket2", "tokio", "tonic"];

/// Crates that only `gcs` may depend on directly: no other crate knows protobuf.
const PROTOBUF: [&str; 7] = ["pbjson", "pbjson-build", "prost", "prost-build", "protox", "tonic", "tonic-prost"];

/// Crates whose code must not ask the operating system for the time, randomness or the environment.
const CORES: [&str; 8] = [
    "crates/api/",
    "crates/apiserver/",
    "crates/autoscaler/",
    "crates/gcs/",
    "crates/operator/",
    "crates/planner/",
    "crates/traces/",
    "sim/",
];

/// `tree`: `cargo tree -p mobula-planner --prefix none --format {p}`.
pub fn planner_is_pure(tree: &str) -> Vec<String> {
    let names = tree.lines().filter_map(|line| line.split_whitespace().next());
    let mut found: Vec<&str> = names.filter(|name| IMPURE.contains(name)).collect();
    found.sort_unstable();
    found.dedup();
    found
        .into_iter()
        .map(|name| format!("mobula-planner depends on {name}: it must stay free of input and output"))
        .collect()
}

/// `tree`: `cargo tree --workspace --depth 1 --prefix depth --format {p}`, lines like `0mobula-gcs v0.1.0` and `1prost v0.14.1`.
pub fn only_gcs_knows_protobuf(tree: &str) -> Vec<String> {
    direct_dependencies(tree)
        .filter(|(member, name)| *member != "mobula-gcs" && PROTOBUF.contains(name))
        .map(|(member, name)| format!("{member} depends on {name}: only mobula-gcs knows protobuf"))
        .collect()
}

/// `tree`: as for [`only_gcs_knows_protobuf`].
pub fn only_the_binary_knows_the_simulator(tree: &str) -> Vec<String> {
    direct_dependencies(tree)
        .filter(|(member, name)| {
            *name == "mobula-sim" && !["mobula", "mobula-benches", "mobula-tests"].contains(member)
        })
        .map(|(member, _)| {
            format!("{member} depends on mobula-sim: production code must not know that it is simulated")
        })
        .collect()
}

/// Each member with each package that it depends on itself.
fn direct_dependencies(tree: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut member = "";
    tree.lines().filter_map(move |line| {
        let name = line.split_whitespace().next()?;
        if let Some(name) = name.strip_prefix('0') {
            member = name;
        }
        Some((member, name.strip_prefix('1')?))
    })
}

/// The one file that the compiler can't check: the C library's functions as a simulation sees them.
const UNCHECKED: &str = "crates/mobula/src/simulate/beneath.rs";

/// No unsafe code, and no permission for it, but in one file.
pub fn nothing_unsafe(sources: &[Source]) -> Vec<String> {
    let word = concat!("un", "safe");
    let permission = format!("allow({word}_code)");
    let opens = |rest: &str| {
        let next = rest.trim_start();
        ["{", "(", "fn ", "impl ", "trait ", "extern "].iter().any(|start| next.starts_with(start))
    };
    let uses = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        let is_word = |at: usize| !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
        let mut found = code.match_indices(word).map(|(at, _)| at);
        code.contains(&permission) || found.any(|at| is_word(at) && opens(&code[at + word.len()..]))
    };
    lines(sources, "rs")
        .filter(|(path, _, line)| *path != UNCHECKED && uses(line))
        .map(|(path, number, _)| format!("{path}:{number}: {word}"))
        .collect()
}

/// No file is too long.
pub fn files_are_short(sources: &[Source]) -> Vec<String> {
    let long = sources.iter().filter(|source| source.text.lines().count() > MAX_LINES);
    long.map(|s| format!("{}: {} lines, over {MAX_LINES}: this is two things", s.path, s.text.lines().count()))
        .collect()
}

/// Every member takes the workspace's lints, and its dependencies from the workspace's one table.
pub fn members_inherit(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for manifest in sources.iter().filter(|source| source.path.ends_with("Cargo.toml")) {
        if !manifest.text.contains("[lints]\nworkspace = true") {
            found.push(format!("{}: must say `[lints] workspace = true`", manifest.path));
        }
        let mut section = "";
        for line in manifest.text.lines().map(str::trim) {
            if line.starts_with('[') {
                section = line;
            } else if section.ends_with("dependencies]")
                && line.contains('=')
                && !line.starts_with('#')
                && !line.contains("workspace = true")
            {
                found.push(format!("{}: `{line}`: must be `workspace = true`", manifest.path));
            }
        }
    }
    found
}

/// The bans of clippy.toml are lifted in these crates only for tests.
pub fn bans_hold(sources: &[Source]) -> Vec<String> {
    let lifts = |line: &str| {
        let compact: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        let lifted = ["allow(", "expect("].iter().any(|word| compact.contains(word));
        lifted && compact.contains("clippy::disallowed_") && !compact.contains("cfg_attr(test,")
    };
    let mut found = Vec::new();
    let guarded =
        |path: &str| CORES.iter().any(|core| path.starts_with(&format!("{core}src/"))) && !path.ends_with("tests.rs");
    for source in sources.iter().filter(|source| source.is("rs") && guarded(&source.path)) {
        let code = source.text.lines().take_while(|line| !line.trim_start().starts_with("#[cfg(test)]"));
        for (index, _) in code.enumerate().filter(|(_, line)| lifts(line)) {
            found.push(format!("{}:{}: lifts a ban of clippy.toml outside tests", source.path, index + 1));
        }
    }
    found
}

fn lines<'a>(sources: &'a [Source], extension: &'a str) -> impl Iterator<Item = (&'a str, usize, &'a str)> {
    let files = sources.iter().filter(move |source| source.is(extension));
    files.flat_map(|source| source.text.lines().enumerate().map(|(i, line)| (source.path.as_str(), i + 1, line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: impl Into<String>) -> Vec<Source> {
        vec![Source { path: path.into(), text: text.into() }]
    }

    #[test]
    fn a_runtime_in_the_planner_is_found() {
        assert_eq!(planner_is_pure("mobula-planner v0.1.0 (/x)\nserde v1.0.0\n"), Vec::<String>::new());
        let found = planner_is_pure("mobula-planner v0.1.0 (/x)\ntokio v1.0.0\ntokio v1.0.0 (*)\n");
        assert_eq!(found, ["mobula-planner depends on tokio: it must stay free of input and output"]);
    }

    #[test]
    fn protobuf_outside_gcs_is_found() {
        let fine = "0mobula-gcs v0.1.0 (/x)\n1prost v0.14.0\n\n0mobula-api v0.1.0 (/x)\n1serde v1.0.0\n";
        assert_eq!(only_gcs_knows_protobuf(fine), Vec::<String>::new());
        let found = only_gcs_knows_protobuf("0mobula-autoscaler v0.1.0 (/x)\n1tonic v0.14.0\n");
        assert_eq!(found, ["mobula-autoscaler depends on tonic: only mobula-gcs knows protobuf"]);
    }

    #[test]
    fn production_code_that_knows_the_simulator_is_found() {
        let fine = "0mobula v0.1.0 (/x)\n1mobula-sim v0.1.0 (/x)\n";
        assert_eq!(only_the_binary_knows_the_simulator(fine), Vec::<String>::new());
        let found = only_the_binary_knows_the_simulator("0mobula-operator v0.1.0 (/x)\n1mobula-sim v0.1.0 (/x)\n");
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn forbidden_blocks_and_permissions_are_found() {
        let block = concat!("fn f() { un", "safe { g() } }\n");
        let permission = concat!("#![allow(un", "safe_code)]\n");
        assert_eq!(nothing_unsafe(&source("a.rs", block)).len(), 1);
        assert_eq!(nothing_unsafe(&source("a.rs", permission)).len(), 1);
        assert!(nothing_unsafe(&source(UNCHECKED, block)).is_empty());
        assert!(nothing_unsafe(&source("a.rs", concat!("// an un", "safe { block } is spoken of\n"))).is_empty());
    }

    #[test]
    fn a_file_one_line_too_long_is_found() {
        assert!(files_are_short(&source("a.rs", "x\n".repeat(MAX_LINES))).is_empty());
        assert_eq!(files_are_short(&source("a.rs", "x\n".repeat(MAX_LINES + 1))).len(), 1);
    }

    #[test]
    fn a_member_on_its_own_is_found() {
        let fine = "[lints]\nworkspace = true\n\n[dependencies]\nserde.workspace = true\n";
        assert!(members_inherit(&source("crates/a/Cargo.toml", fine)).is_empty());
        let own = "[dependencies]\nserde = \"1\"\n";
        assert_eq!(members_inherit(&source("crates/a/Cargo.toml", own)).len(), 2);
    }

    #[test]
    fn a_lifted_ban_is_found_unless_for_tests() {
        let ban = "#![allow(clippy::disallowed_methods)]\n";
        assert_eq!(bans_hold(&source("crates/planner/src/lib.rs", ban)).len(), 1);
        assert!(bans_hold(&source("crates/mobula/src/main.rs", ban)).is_empty());
        let for_tests = "#[cfg(test)]\nmod tests {\n    #![allow(clippy::disallowed_methods)]\n}\n";
        assert!(bans_hold(&source("crates/planner/src/lib.rs", for_tests)).is_empty());
    }
}

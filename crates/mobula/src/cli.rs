//! The command line: `mobula <subcommand>`, and the one command of `ray` that Mobula stands in for.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{crd, explain, lint, operator, plan, render, replay, reproduce, sidecar, simulate};

/// Exit code for a command line or an input that can't be used.
pub const EXIT_BAD_INPUT: u8 = 2;

#[derive(Debug, Parser)]
#[command(name = "mobula", version, about = "Autoscaler and workbench for Ray on Kubernetes", max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what would be done with this RayCluster and this demand, and why: one tick on files
    Plan(plan::Args),
    /// Scale a RayCluster: what KubeRay's autoscaler container runs
    Sidecar(sidecar::Args),
    /// Say why things are as they are: the reasons of a running sidecar or of a recording
    Explain(explain::Args),
    /// Run a recording again, bit for bit or through another policy
    Replay(replay::Args),
    /// Reconcile RayClusters: in the place of KubeRay's operator, with its flags
    Operator(Box<operator::Args>),
    /// Print every object that the operator would create for these manifests, without a cluster
    Render(render::Args),
    /// Say what is wrong with manifests of ray.io, before they are applied
    Lint(lint::Args),
    /// Print the custom resource definitions of ray.io
    Crd(crd::Args),
    /// Run the experiments of a paper again, beside what was published
    Reproduce(reproduce::Args),
    /// Run a scenario in virtual time: the production code in a simulated world
    Simulate(simulate::Args),
    /// Run policies through the same simulated worlds, and say what differs
    Compare(simulate::CompareArgs),
}

/// Why there is nothing to run.
#[derive(Debug)]
pub enum Refusal {
    /// Called as `ray` for something that is not the autoscaler.
    NotRay(String),
    /// Help was asked for, or the arguments are wrong.
    Clap(clap::Error),
}

impl Refusal {
    /// Tells the user, on stdout if this is what was asked for, else on stderr.
    pub fn print(&self) -> ExitCode {
        match self {
            Refusal::NotRay(message) => {
                eprintln!("{message}");
                ExitCode::from(EXIT_BAD_INPUT)
            }
            Refusal::Clap(error) => {
                // A closed pipe is no reason to fail.
                let _ = error.print();
                ExitCode::from(if error.use_stderr() { EXIT_BAD_INPUT } else { 0 })
            }
        }
    }
}

/// Reads a whole command line, the program's name included. Called as `ray`, only `ray kuberay-autoscaler …` is known; called as
/// `manager`, which is what KubeRay's chart calls its operator, `manager FLAGS` is `mobula operator FLAGS`.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, Refusal> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    if is_called(&args, "ray") {
        args = as_sidecar(args)?;
    } else if is_called(&args, "manager") {
        args.splice(..1, ["mobula", "operator"].map(OsString::from));
    }
    Cli::try_parse_from(args).map(|cli| cli.command).map_err(Refusal::Clap)
}

fn is_called(args: &[OsString], name: &str) -> bool {
    args.first().is_some_and(|program| Path::new(program).file_stem() == Some(OsStr::new(name)))
}

/// `ray kuberay-autoscaler ARGS` is `mobula sidecar ARGS`.
fn as_sidecar(args: Vec<OsString>) -> Result<Vec<OsString>, Refusal> {
    let mut rest = args.into_iter().skip(1);
    match rest.next() {
        Some(command) if command == "kuberay-autoscaler" => {
            Ok(["mobula", "sidecar"].into_iter().map(OsString::from).chain(rest).collect())
        }
        other => {
            let said = other.map_or_else(|| "nothing".to_owned(), |command| format!("`{}`", command.to_string_lossy()));
            Err(Refusal::NotRay(format!(
                "this is Mobula {}, standing in for Ray's autoscaler, not Ray: as `ray` it knows only \
                 `ray kuberay-autoscaler --cluster-name NAME --cluster-namespace NAMESPACE`, and was asked for {said}",
                env!("CARGO_PKG_VERSION")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Command, Refusal> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn called_as_ray_the_autoscaler_command_is_the_sidecar() {
        for program in ["ray", "/usr/local/bin/ray"] {
            let command =
                parse_words(&[program, "kuberay-autoscaler", "--cluster-name", "a", "--cluster-namespace", "ns"]);
            assert!(matches!(command, Ok(Command::Sidecar(_))), "{command:?}");
        }
    }

    #[test]
    fn called_as_ray_anything_else_is_refused_and_says_what_this_is() {
        for words in [&["ray", "start", "--head"][..], &["ray", "status"], &["ray"], &["ray", "plan"]] {
            match parse_words(words) {
                Err(Refusal::NotRay(message)) => assert!(message.starts_with("this is Mobula"), "{message}"),
                other => panic!("{words:?} gave {other:?}"),
            }
        }
    }

    #[test]
    fn called_as_the_chart_of_kuberay_calls_its_operator_it_is_the_operator() {
        let flags = [
            "--feature-gates=RayClusterStatusConditions=true,RayJobDeletionPolicy=false",
            "--batch-scheduler=volcano",
            "--watch-namespace=a,b",
            "--log-stdout-encoder",
            "json",
            "--enable-leader-election=true",
            "--enable-metrics=true",
            "--reconcile-concurrency",
            "4",
            "--qps=100",
            "--burst=200",
        ];
        let words: Vec<&str> = ["/manager"].into_iter().chain(flags).collect();
        let command = parse_words(&words);
        assert!(matches!(command, Ok(Command::Operator(_))), "{command:?}");
        assert!(matches!(parse_words(&["/manager", "--no-such-flag"]), Err(Refusal::Clap(_))));
    }

    #[test]
    fn called_by_its_own_name_every_subcommand_is_known() {
        let plan = parse_words(&["mobula", "plan", "--raycluster", "c.yaml", "--demand", "d.pb"]);
        assert!(matches!(plan, Ok(Command::Plan(_))), "{plan:?}");
        assert!(matches!(parse_words(&["mobula", "kuberay-autoscaler"]), Err(Refusal::Clap(_))));
    }
}

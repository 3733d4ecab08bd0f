//! Sub-commands, their flags, and running other programs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

/// A sub-command.
pub struct Command {
    /// Its name on the command line.
    pub name: &'static str,
    /// One line for the list of commands.
    pub summary: &'static str,
    /// What `--help` adds to the summary.
    pub help: &'static str,
    /// The flags it knows: name with dashes, and what it does.
    pub flags: &'static [(&'static str, &'static str)],
    /// Whether what follows `--` is passed on to another program.
    pub passes_on: bool,
    /// Does it.
    pub run: fn(&Arguments) -> Result<()>,
}

/// What the user wrote after the sub-command.
#[derive(Debug, Default)]
pub struct Arguments {
    flags: Vec<String>,
    /// What followed `--`.
    pub passed_on: Vec<String>,
}

impl Arguments {
    /// Whether the flag was given.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|given| given == flag)
    }
}

/// Finds the sub-command and runs it.
pub fn dispatch(commands: &[Command], arguments: &[String]) -> Result<()> {
    let wants_help = |word: &String| matches!(word.as_str(), "--help" | "-h" | "help");
    let Some(name) = arguments.first().filter(|word| !wants_help(word)) else {
        print!("{}", overview(commands));
        return Ok(());
    };
    let command = commands
        .iter()
        .find(|command| command.name == name)
        .with_context(|| format!("no command `{name}`; `cargo xtask --help` lists them"))?;
    let own = arguments.iter().skip(1).take_while(|word| *word != "--");
    if own.clone().any(wants_help) {
        print!("{}", manual(command));
        return Ok(());
    }
    (command.run)(&parse(command, &arguments[1..])?)
}

fn parse(command: &Command, words: &[String]) -> Result<Arguments> {
    let mut words = words.iter();
    let mut arguments = Arguments::default();
    for word in words.by_ref().take_while(|word| *word != "--") {
        ensure!(
            command.flags.iter().any(|(flag, _)| flag == word),
            "`cargo xtask {}` does not know `{word}`; see `cargo xtask {} --help`",
            command.name,
            command.name
        );
        arguments.flags.push(word.clone());
    }
    arguments.passed_on = words.cloned().collect();
    ensure!(
        command.passes_on || arguments.passed_on.is_empty(),
        "`cargo xtask {}` takes nothing after `--`",
        command.name
    );
    Ok(arguments)
}

fn overview(commands: &[Command]) -> String {
    let mut text = String::from("Usage: cargo xtask COMMAND [FLAGS]\n\nCommands:\n");
    for command in commands {
        let _ = writeln!(text, "  {:<8} {}", command.name, command.summary);
    }
    text + "\n`cargo xtask COMMAND --help` says more.\n"
}

fn manual(command: &Command) -> String {
    let tail = if command.passes_on { " [-- ARGUMENTS]" } else { "" };
    let mut text =
        format!("{}\n\n{}\n\nUsage: cargo xtask {} [FLAGS]{tail}\n", command.summary, command.help, command.name);
    if !command.flags.is_empty() {
        text.push_str("\nFlags:\n");
    }
    for (flag, meaning) in command.flags {
        let _ = writeln!(text, "  {flag:<8} {meaning}");
    }
    text
}

/// The root of the workspace.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// A cargo command at the root of the workspace, by the cargo that runs us.
pub fn cargo(arguments: &[&str]) -> std::process::Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    command.args(arguments).current_dir(root());
    // What cargo told us about ourselves must not reach the build scripts of others: some would run again each time.
    let about_us = |name: &String| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.starts_with(start));
    for (name, _) in std::env::vars().filter(|(name, _)| about_us(name)) {
        command.env_remove(name);
    }
    command
}

/// Prints the command, runs it and fails if it fails.
pub fn run(command: &mut std::process::Command) -> Result<()> {
    let shown = show(command);
    eprintln!("$ {shown}");
    let start = Instant::now();
    let status = command.status().with_context(|| format!("could not start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status}) after {:.0} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Runs the command and returns what it wrote to stdout; its stderr becomes part of the error.
pub fn output(command: &mut std::process::Command) -> Result<String> {
    let shown = show(command);
    let output = command.output().with_context(|| format!("could not start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn show(command: &std::process::Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Command = Command {
        name: "test",
        summary: "Tests.",
        help: "All.",
        flags: &[("--fast", "less")],
        passes_on: false,
        run: |arguments| {
            ensure!(arguments.has("--fast"), "ran without the flag");
            Ok(())
        },
    };

    fn dispatched(words: &[&str]) -> Result<()> {
        dispatch(&[FAST], &words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn known_flag_reaches_the_command() {
        dispatched(&["test", "--fast"]).unwrap();
        assert_eq!(dispatched(&["test"]).unwrap_err().to_string(), "ran without the flag");
    }

    #[test]
    fn unknown_words_are_refused_by_name() {
        assert!(dispatched(&["tset"]).unwrap_err().to_string().contains("`tset`"));
        assert!(dispatched(&["test", "--fats"]).unwrap_err().to_string().contains("`--fats`"));
        assert!(dispatched(&["test", "--fast", "--", "x"]).unwrap_err().to_string().contains("nothing after `--`"));
    }

    #[test]
    fn help_runs_nothing() {
        dispatched(&["test", "--help"]).unwrap();
        assert!(manual(&FAST).contains("--fast   less"));
        assert!(overview(&[FAST]).contains("test     Tests."));
    }
}

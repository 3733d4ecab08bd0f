//! Developer commands: `cargo xtask lint|test|parts|live|e2e|peer-e2e|golden|bench|soak|doctor`.
//!
//! Small on purpose (one dependency), so that it compiles in a second: the work is done by cargo, go and pip.
#![allow(clippy::disallowed_methods)] // a developer tool asks for the time and the environment

mod bench;
mod command;
mod debian;
mod doctor;
mod e2e;
mod golden;
mod images;
mod invariants;
mod lint;
mod live;
mod parts;
mod peer_e2e;
mod recipes;
mod soak;
mod sources;
mod test;

use std::process::ExitCode;

use command::Command;

const COMMANDS: [Command; 10] = [
    lint::COMMAND,
    test::COMMAND,
    parts::COMMAND,
    live::COMMAND,
    e2e::COMMAND,
    peer_e2e::COMMAND,
    golden::COMMAND,
    bench::COMMAND,
    soak::COMMAND,
    doctor::COMMAND,
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match command::dispatch(&COMMANDS, &arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

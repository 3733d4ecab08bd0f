//! The binary that goes into the image.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Error;
use crate::parts::output_of;
use crate::surroundings::cargo;

/// Builds the binary with the profile `shipped` and gives its path: static, for the musl target, if the Rust toolchain and a
/// C compiler have that, else for this machine.
pub fn build() -> Result<PathBuf, Error> {
    let mut cargo = cargo();
    cargo.stderr(Stdio::inherit());
    cargo.args([
        "build",
        "--profile",
        "shipped",
        "--package",
        "mobula",
        "--bin",
        "mobula",
        "--no-default-features",
        "--message-format=json-render-diagnostics",
    ]);
    if std::env::consts::ARCH == "aarch64" {
        // The allocator must know the largest page that a kernel may have: 64 KiB.
        cargo.env("JEMALLOC_SYS_WITH_LG_PAGE", "16");
    }
    if let Some(target) = musl_target() {
        cargo.args(["--target", &target]);
    }
    let messages = output_of(&mut cargo)?;
    // One JSON object a line; those about executables say where they are.
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut executables = messages.filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)));
    executables
        .next_back()
        .ok_or_else(|| Error::Command { command: format!("{cargo:?}"), problem: "it named no executable".to_owned() })
}

/// The musl target of this machine's architecture, if Rust's own libraries for it are installed and a C compiler for it:
/// some dependencies hold C code.
fn musl_target() -> Option<String> {
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let libraries = output_of(Command::new("rustc").args(["--print", "target-libdir", "--target", &target])).ok()?;
    let compiler = output_of(Command::new("musl-gcc").arg("--version"));
    (Path::new(libraries.trim()).is_dir() && compiler.is_ok()).then_some(target)
}

//! What the developer's machine is asked: where the cache is, and how cargo is started.
#![allow(clippy::disallowed_methods)] // a developer's tool asks for the environment

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;

/// Mobula's cache directory: `$MOBULA_CACHE`, else `$HOME/.cache/mobula`.
pub fn cache() -> Result<PathBuf, Error> {
    match (env::var_os("MOBULA_CACHE"), env::var_os("HOME")) {
        (Some(cache), _) => Ok(cache.into()),
        (None, Some(home)) => Ok(Path::new(&home).join(".cache/mobula")),
        (None, None) => Err(Error::NoCache),
    }
}

/// Cargo in the workspace, with the environment that it had before it started this program: what it told us about ourselves
/// would make the build scripts of others run again.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    let about_us = |name: &String| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.starts_with(start));
    for (name, _) in env::vars().filter(|(name, _)| about_us(name)) {
        cargo.env_remove(name);
    }
    cargo
}

//! The files of the workspace that people write, for the invariants that look at text.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Directories that hold sources.
const DIRECTORIES: [&str; 7] = ["benches", "crates", "deploy", "fuzz", "proto", "sim", "tests"];

/// A source file.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path from the root, with forward slashes.
    pub path: String,
    /// Content.
    pub text: String,
}

impl Source {
    /// Whether the name ends so.
    pub fn is(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|have| have == extension)
    }
}

/// Reads every Rust, Python, proto, shell and manifest file below the root, in order of path.
pub fn read(root: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for directory in DIRECTORIES.map(|name| root.join(name)) {
        if directory.is_dir() {
            collect(root, &directory, &mut sources)?;
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

fn collect(root: &Path, directory: &Path, sources: &mut Vec<Source>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("could not list {}", directory.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(root, &path, sources)?;
            }
        } else if matches!(path.extension().and_then(|e| e.to_str()), Some("rs" | "py" | "proto" | "sh" | "toml")) {
            let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
            let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            sources.push(Source { path, text });
        }
    }
    Ok(())
}

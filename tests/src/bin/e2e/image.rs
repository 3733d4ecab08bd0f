//! Our own image, from what is in the working tree now.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use mobula_image::{binary, contents, oci};

/// Its name, as the manifests write it.
pub const REFERENCE: &str = "mobula:e2e";

/// The image before it is written.
pub struct Image(oci::Image);

/// Builds the binary that is shipped, unless MOBULA_TEST_BINARY names another, and collects what belongs to it.
pub fn build() -> Result<Image> {
    let cache = match (std::env::var_os("MOBULA_CACHE"), std::env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, home) => PathBuf::from(home.context("neither MOBULA_CACHE nor HOME is set")?).join(".cache/mobula"),
    };
    let binary = match std::env::var_os("MOBULA_TEST_BINARY") {
        Some(binary) => PathBuf::from(binary),
        None => binary::build(cargo())?,
    };
    let (name, tag) = REFERENCE.split_once(':').context("an image has a tag")?;
    let image = contents::collect(&contents::Ingredients {
        binary,
        bash: None,
        ca_bundle: None,
        cache,
        name: name.to_owned(),
        tag: tag.to_owned(),
    })?;
    Ok(Image(image))
}

impl Image {
    /// Writes its archive into this directory.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let layout = directory.join("layout");
        oci::write(&self.0, &layout)?;
        Ok(oci::write_archive(&layout, &archive(directory))?)
    }
}

/// Where the archive is.
pub fn archive(directory: &Path) -> PathBuf {
    directory.join("mobula.oci.tar")
}

/// Cargo in the workspace, with the environment that it had before it started this program: what it told us about ourselves
/// would make the build scripts of others run again.
fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    let about_us = |name: &String| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.starts_with(start));
    for (name, _) in std::env::vars().filter(|(name, _)| about_us(name)) {
        cargo.env_remove(name);
    }
    cargo
}

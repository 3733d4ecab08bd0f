//! Our own image, from what is in the working tree now.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use mobula_image::{binary, contents, oci, surroundings};

/// Its name, as the manifests write it.
pub const REFERENCE: &str = "mobula:e2e";

/// The image before it is written.
pub struct Image(oci::Image);

/// Builds the binary that is shipped, unless MOBULA_TEST_BINARY names another, and collects what belongs to it.
pub fn build() -> Result<Image> {
    let binary = match std::env::var_os("MOBULA_TEST_BINARY") {
        Some(binary) => PathBuf::from(binary),
        None => binary::build()?,
    };
    let (name, tag) = REFERENCE.split_once(':').context("an image has a tag")?;
    let image = contents::collect(&contents::Ingredients {
        binary,
        bash: None,
        ca_bundle: None,
        cache: surroundings::cache()?,
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

//! Builds Mobula's container image as an OCI layout, without a container engine, and runs what is in it.
//!
//! - [`contents`] decides which files the image has: the binary as `mobula` and `ray`, just the C library files it needs,
//!   a static bash (KubeRay starts the sidecar through `/bin/bash -c --`), CA certificates, the user.
//! - [`oci`] writes them as an OCI layout and archive, and [`oci::verify`] re-reads one and checks every digest. The same
//!   input gives the same bytes.
//! - [`unpacked`] unpacks a layout and runs a command in it with nothing else in sight, as a container engine would.
//! - [`binary`] builds the binary that goes in, [`parts`] fetches the two Debian packages, and [`elf`] reads which libraries a
//!   binary is linked with. [`surroundings`] says where they are kept.

pub mod binary;
pub mod contents;
pub mod elf;
pub mod oci;
pub mod parts;
pub mod rootfs;
pub mod surroundings;
pub mod unpacked;

use std::io;
use std::path::{Path, PathBuf};

/// Why an image could not be built, checked or run. None is worth a retry without a change, except a failed download.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program that is needed could not be started, or failed.
    #[error("`{command}` failed: {problem}")]
    Command {
        /// The command line.
        command: String,
        /// Its words, or why it did not start.
        problem: String,
    },
    /// Nothing says where downloads may be kept.
    #[error("neither MOBULA_CACHE nor HOME is set: say where downloads may be kept")]
    NoCache,
    /// Not an ELF file of 64 bits.
    #[error("{path}: can't be read as a 64-bit ELF file: {problem}")]
    Elf {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A shared library that the binary names is in none of the usual directories.
    #[error("{needed_by} needs {library}, which is in none of {searched}; install it or build for the musl target")]
    MissingLibrary {
        /// Name in the ELF file.
        library: String,
        /// File that names it.
        needed_by: PathBuf,
        /// Directories looked into.
        searched: String,
    },
    /// A package does not hold what it should.
    #[error("package {package} holds no {wanted}; give the file with {option}")]
    Package {
        /// Package name and version.
        package: String,
        /// What was looked for.
        wanted: String,
        /// Option that names a file instead.
        option: &'static str,
    },
    /// The image is larger than it may be.
    #[error("the image would hold {bytes} bytes, more than the limit of {limit}; was the binary stripped?")]
    TooLarge {
        /// Bytes of all files, uncompressed.
        bytes: u64,
        /// [`contents::MAX_IMAGE_BYTES`].
        limit: u64,
    },
    /// A layout contradicts itself or the specification.
    #[error("{path}: {problem}")]
    Layout {
        /// File of the layout.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl Error {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::File { path, source }
    }

    fn layout(path: &Path, problem: impl Into<String>) -> Error {
        Error::Layout { path: path.to_owned(), problem: problem.into() }
    }
}

//! `mobula-image`: builds the container image, checks it, unpacks it.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use mobula_image::{binary, contents, elf, oci, surroundings, unpacked};

/// Builds Mobula's container image without a container engine.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the image: a layout directory `oci` and an archive `mobula-<tag>.oci.tar`.
    Build(Build),
    /// Re-read a layout and check every size and digest in it.
    Verify {
        /// Directory with `oci-layout`.
        layout: PathBuf,
    },
    /// Check a layout and unpack its files.
    Unpack {
        /// Directory with `oci-layout`.
        layout: PathBuf,
        /// A new or empty directory.
        root: PathBuf,
    },
}

#[derive(clap::Args)]
struct Build {
    /// The binary; without it, `cargo build --profile shipped` makes it.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// A static bash; without it, Debian's package bash-static is fetched.
    #[arg(long)]
    bash: Option<PathBuf>,
    /// CA certificates in PEM form; without it, Debian's package ca-certificates is fetched.
    #[arg(long)]
    ca_bundle: Option<PathBuf>,
    /// Directory for the results.
    #[arg(long, default_value = "target/image")]
    output: PathBuf,
    /// Repository of the image.
    #[arg(long, default_value = "mobula")]
    name: String,
    /// Tag of the image.
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    tag: String,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Build(build) => run_build(build),
        Task::Verify { layout } => {
            print_summary(&oci::verify(&layout)?);
            Ok(())
        }
        Task::Unpack { layout, root } => {
            unpacked::unpack(&layout, &root)?;
            Ok(())
        }
    }
}

fn run_build(build: Build) -> anyhow::Result<()> {
    let binary = match build.binary {
        Some(path) => path,
        None => binary::build()?,
    };
    let image = contents::collect(&contents::Ingredients {
        binary: binary.clone(),
        bash: build.bash,
        ca_bundle: build.ca_bundle,
        cache: surroundings::cache()?,
        name: build.name.clone(),
        tag: build.tag.clone(),
    })?;
    for (path, bytes) in image.rootfs.files() {
        println!("{bytes:>10}  /{}", path.display());
    }
    let linked = if elf::linkage(&binary)?.interpreter.is_some() { "with the C library" } else { "static" };
    println!("{:>10}  in all; the binary is {linked}", image.rootfs.bytes());

    let layout = build.output.join("oci");
    let written = oci::write(&image, &layout)?;
    let archive = build.output.join(format!("{}-{}.oci.tar", build.name, build.tag));
    oci::write_archive(&layout, &archive)?;
    print_summary(&written);
    println!("layout   {}\narchive  {}", layout.display(), archive.display());
    Ok(())
}

fn print_summary(image: &oci::Verified) {
    println!(
        "image    {} linux/{}, {} bytes in {} layer(s), {} unpacked; all digests are right",
        image.digest,
        image.architecture,
        image.stored_bytes,
        image.layers.len(),
        image.unpacked_bytes
    );
}

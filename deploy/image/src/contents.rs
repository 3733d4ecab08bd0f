//! Which files the image has.

use std::fs;
use std::path::{Path, PathBuf};

use crate::oci::{Image, RunConfig};
use crate::parts::debian_package;
use crate::rootfs::Rootfs;
use crate::{Error, elf};

/// All files of the image together may be this large, uncompressed.
pub const MAX_IMAGE_BYTES: u64 = 30_000_000;

/// User and group of Ray's own images: files that the sidecar writes into volumes shared with the head belong to them.
pub const USER: (u64, u64) = (1000, 100);

const HOME: &str = "/home/ray";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nray:x:1000:100:ray:/home/ray:/bin/bash\n";
const GROUP: &str = "root:x:0:\nusers:x:100:\n";
/// The kubelet writes `/etc/hosts` and `/etc/resolv.conf`; this says in which order they are asked.
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// What an image is made of.
#[derive(Clone, Debug)]
pub struct Ingredients {
    /// The release binary.
    pub binary: PathBuf,
    /// A static bash; `None`: Debian's package `bash-static`.
    pub bash: Option<PathBuf>,
    /// A file of CA certificates in PEM form; `None`: Debian's package `ca-certificates`.
    pub ca_bundle: Option<PathBuf>,
    /// Mobula's cache directory, where packages are kept.
    pub cache: PathBuf,
    /// Repository of the image.
    pub name: String,
    /// Tag of the image.
    pub tag: String,
}

/// Collects the image's files.
pub fn collect(ingredients: &Ingredients) -> Result<Image, Error> {
    let binary = &ingredients.binary;
    let mut rootfs = Rootfs::default();
    rootfs.file("/usr/local/bin/mobula", 0o755, read(binary)?);
    rootfs.symlink("/usr/local/bin/ray", "mobula");
    // What the chart of KubeRay starts.
    rootfs.symlink("/manager", "usr/local/bin/mobula");
    for (path, bytes) in elf::runtime_files(binary)? {
        rootfs.file(path, 0o755, bytes);
    }
    add_bash(&mut rootfs, ingredients)?;
    add_ca_certificates(&mut rootfs, ingredients)?;
    rootfs.file("/etc/passwd", 0o644, PASSWD);
    rootfs.file("/etc/group", 0o644, GROUP);
    rootfs.file("/etc/nsswitch.conf", 0o644, NSSWITCH);
    rootfs.directory(HOME, 0o755, USER.0, USER.1);
    rootfs.directory("/tmp", 0o1777, 0, 0);

    let bytes = rootfs.bytes();
    if bytes > MAX_IMAGE_BYTES {
        return Err(Error::TooLarge { bytes, limit: MAX_IMAGE_BYTES });
    }
    Ok(Image {
        name: ingredients.name.clone(),
        tag: ingredients.tag.clone(),
        architecture: elf::linkage(binary)?.architecture.to_owned(),
        rootfs,
        run: run_config(&ingredients.tag),
    })
}

fn run_config(version: &str) -> RunConfig {
    let label = |name: &str, value: &str| (format!("org.opencontainers.image.{name}"), value.to_owned());
    RunConfig {
        user: format!("{}:{}", USER.0, USER.1),
        env: vec![PATH.to_owned(), format!("HOME={HOME}")],
        entrypoint: vec!["/usr/local/bin/mobula".to_owned()],
        working_dir: HOME.to_owned(),
        labels: [
            label("title", "mobula"),
            label("version", version),
            label("licenses", "Apache-2.0 AND GPL-3.0-or-later AND LGPL-2.1-or-later AND MPL-2.0"),
        ]
        .into(),
    }
}

/// KubeRay starts the autoscaler's container with `/bin/bash -c --`, so there must be one; a static one brings no
/// libraries of its own.
fn add_bash(rootfs: &mut Rootfs, ingredients: &Ingredients) -> Result<(), Error> {
    let bash = match &ingredients.bash {
        Some(path) => path.clone(),
        None => {
            let package = debian_package(&ingredients.cache, "bash-static", "--bash")?;
            add_copyright(rootfs, &package, "bash-static")?;
            let places = ["bin/bash-static", "usr/bin/bash-static"].map(|place| package.join(place));
            places.into_iter().find(|place| place.is_file()).ok_or_else(|| Error::Package {
                package: package.display().to_string(),
                wanted: "bin/bash-static".to_owned(),
                option: "--bash",
            })?
        }
    };
    if elf::linkage(&bash)?.interpreter.is_some() {
        let problem = "needs shared libraries; a static bash is wanted".to_owned();
        return Err(Error::Elf { path: bash, problem });
    }
    rootfs.file("/bin/bash", 0o755, read(&bash)?);
    Ok(())
}

fn add_ca_certificates(rootfs: &mut Rootfs, ingredients: &Ingredients) -> Result<(), Error> {
    let bundle = match &ingredients.ca_bundle {
        Some(path) => read(path)?,
        None => {
            let package = debian_package(&ingredients.cache, "ca-certificates", "--ca-bundle")?;
            add_copyright(rootfs, &package, "ca-certificates")?;
            bundle_of(&package.join("usr/share/ca-certificates/mozilla"))?
        }
    };
    rootfs.file("/etc/ssl/certs/ca-certificates.crt", 0o644, bundle);
    Ok(())
}

/// All certificates of a directory in one file, in the order of their names.
fn bundle_of(directory: &Path) -> Result<Vec<u8>, Error> {
    let entries = fs::read_dir(directory).map_err(Error::file(directory))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "crt"))
        .collect();
    paths.sort();
    let mut bundle = Vec::new();
    for path in paths {
        bundle.extend(read(&path)?);
    }
    Ok(bundle)
}

fn add_copyright(rootfs: &mut Rootfs, package: &Path, name: &str) -> Result<(), Error> {
    let path = Path::new("usr/share/doc").join(name).join("copyright");
    rootfs.file(&path, 0o644, read(&package.join(&path))?);
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(Error::file(path))
}

//! Files of Debian packages without installing them: apt chooses and fetches, dpkg-deb unpacks.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::command::run;

/// Unpacks these packages and all that they depend on into `root`, but for those called in `without`.
pub fn unpack(packages: &[&str], without: &[&str], root: &Path) -> Result<()> {
    let scratch = root.join("debian.tmp");
    fs::create_dir_all(scratch.join("archives/partial"))?;
    // With nothing installed, apt chooses everything that the packages need.
    fs::write(scratch.join("status"), "")?;
    if fetch(packages, &scratch).is_err() {
        // Its lists may be old, or not there at all.
        run(Command::new("apt-get").args(["-q=2", "update"]).stdout(Stdio::null()))?;
        fetch(packages, &scratch)?;
    }
    for entry in fs::read_dir(scratch.join("archives"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_wanted = !without.iter().any(|other| name.starts_with(&format!("{other}_")));
        if is_wanted && path.extension().is_some_and(|extension| extension == "deb") {
            unpack_one(&path, root)?;
        }
    }
    fs::remove_dir_all(&scratch).context("could not remove the fetched packages")
}

fn fetch(packages: &[&str], scratch: &Path) -> Result<()> {
    let mut apt = Command::new("apt-get");
    for (option, path) in [("Dir::State::status", "status"), ("Dir::Cache::archives", "archives")] {
        apt.arg("-o").arg(format!("{option}={}", scratch.join(path).display()));
    }
    // Without a sandbox user: that one could not write into the scratch directory.
    apt.args(["-o", "APT::Sandbox::User=root", "-q=2", "--yes"]);
    apt.args(["--no-install-recommends", "--download-only", "install"]);
    run(apt.args(packages).stdout(Stdio::null()))
}

/// `dpkg-deb -x` would put a directory in the place of the link `/lib`.
fn unpack_one(archive: &Path, root: &Path) -> Result<()> {
    let mut content = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(archive)
        .stdout(Stdio::piped())
        .spawn()
        .context("could not start dpkg-deb")?;
    let tar = content.stdout.take().context("dpkg-deb has no output")?;
    let unpacked = Command::new("tar")
        .args(["-x", "--keep-directory-symlink", "-C"])
        .arg(root)
        .stdin(tar)
        .status()
        .context("could not start tar")?;
    ensure!(content.wait()?.success() && unpacked.success(), "could not unpack {}", archive.display());
    Ok(())
}

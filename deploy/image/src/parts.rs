//! The Debian packages whose files go into the image, fetched once and kept by version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Error;

/// Gives the directory of an unpacked Debian package in its newest version, fetching it if it is not in `cache` yet.
///
/// `cache` is Mobula's cache directory; the package is kept in `parts/<name>-<version>/`. `instead` is the option by which
/// a user without Debian's tools names a file instead of the package.
pub fn debian_package(cache: &Path, name: &str, instead: &'static str) -> Result<PathBuf, Error> {
    let parts = cache.join("parts");
    let version = candidate_version(name, instead)?;
    let directory = parts.join(format!("{name}-{version}"));
    if directory.is_dir() {
        return Ok(directory);
    }
    fs::create_dir_all(&parts).map_err(Error::file(&parts))?;
    let scratch = tempfile::tempdir_in(&parts).map_err(Error::file(&parts))?;
    let mut download = Command::new("apt-get");
    // Without a sandbox user: that one could not write into the scratch directory, which is the caller's alone.
    download.args(["-o", "APT::Sandbox::User=root", "download", "--quiet=2"]);
    output_of(download.arg(format!("{name}={version}")).current_dir(scratch.path()))?;

    let archive = fs::read_dir(scratch.path())
        .map_err(Error::file(scratch.path()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let archive = archive.ok_or_else(|| Error::Package {
        package: format!("{name} {version}"),
        wanted: ".deb file after its download".to_owned(),
        option: instead,
    })?;
    let unpacked = scratch.path().join("unpacked");
    output_of(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&unpacked))?;
    match fs::rename(&unpacked, &directory) {
        // Someone else was faster.
        Err(_) if directory.is_dir() => {}
        outcome => outcome.map_err(Error::file(&directory))?,
    }
    Ok(directory)
}

fn candidate_version(name: &str, instead: &'static str) -> Result<String, Error> {
    let policy = output_of(Command::new("apt-cache").args(["policy", name]))?;
    let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:")).map(str::trim);
    match candidate {
        Some(version) if version != "(none)" => Ok(version.to_owned()),
        _ => Err(Error::Package {
            package: name.to_owned(),
            wanted: "version known to apt (run `apt-get update`)".to_owned(),
            option: instead,
        }),
    }
}

/// Runs a command to its end and gives what it printed.
pub(crate) fn output_of(command: &mut Command) -> Result<String, Error> {
    let line = format!("{command:?}");
    let failed = |problem: String| Error::Command { command: line.clone(), problem };
    let output = command.stdin(Stdio::null()).output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("{}: {}", output.status, words.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

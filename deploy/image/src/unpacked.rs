//! An image unpacked on this machine, and commands run in it with nothing else in sight.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::GzDecoder;

use crate::{Error, oci};

/// An image's files in a directory of their own.
#[derive(Clone, Debug)]
pub struct Unpacked {
    /// The directory. A caller may put files into it that an engine would mount, such as a service account's.
    pub root: PathBuf,
    /// How it runs.
    pub run: oci::RunConfig,
}

/// Checks the image in `layout` and unpacks it into `root`, a new or empty directory.
pub fn unpack(layout: &Path, root: &Path) -> Result<Unpacked, Error> {
    let image = oci::verify(layout)?;
    fs::create_dir_all(root).map_err(Error::file(root))?;
    for layer in &image.layers {
        let file = File::open(layer).map_err(Error::file(layer))?;
        let mut archive = tar::Archive::new(GzDecoder::new(file));
        archive.set_preserve_permissions(true);
        archive.set_preserve_ownerships(runs_as_root());
        archive.unpack(root).map_err(Error::file(root))?;
    }
    // An engine mounts it; the image itself has no such directory.
    let proc = root.join("proc");
    fs::create_dir_all(&proc).map_err(Error::file(&proc))?;
    Ok(Unpacked { root: root.to_owned(), run: image.run })
}

impl Unpacked {
    /// The command `argv` as a container engine would start it: as process 1 of its own process and mount namespaces, with
    /// the image as its only files, as the image's user, in the image's working directory, and with the image's
    /// environment and `env` over it and nothing else. `/proc` is there, `/dev` is not. The network is this machine's.
    ///
    /// The started process is `unshare` of util-linux, which waits for process 1 and ends with its exit code; when it is
    /// killed, so is process 1. Use [`init_pid`] to signal process 1. Without root, a user namespace is made in which the
    /// caller's own user stands for the image's.
    pub fn command(&self, argv: &[&str], env: &[(&str, &str)]) -> Command {
        let mut environment: BTreeMap<&str, &str> =
            self.run.env.iter().filter_map(|entry| entry.split_once('=')).collect();
        environment.extend(env.iter().copied());

        let mut command = Command::new("unshare");
        if !runs_as_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--mount", "--pid", "--fork", "--kill-child"]);
        command.arg(format!("--mount-proc={}", self.root.join("proc").display()));
        // The inner one gives up the rest; it changes the root before it starts the command.
        let (user, group) = self.run.user.split_once(':').unwrap_or((&self.run.user, "0"));
        if runs_as_root() {
            command.args(["unshare", "--setuid", user, "--setgid", group]);
        } else {
            command.args(["unshare", "--user", "--map-user", user, "--map-group", group]);
        }
        command.arg(format!("--root={}", self.root.display())).arg(format!("--wd={}", self.run.working_dir));
        command.arg("--").args(argv).env_clear().envs(environment);
        command
    }
}

/// The process that is process 1 in the container whose `unshare` process (see [`Unpacked::command`]) is `unshare_pid`;
/// `None` when it has not started or has ended.
pub fn init_pid(unshare_pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{unshare_pid}/task/{unshare_pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn runs_as_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

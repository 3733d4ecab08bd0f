//! Namespaces and cgroups in which a whole node runs, so that it meets nothing of this machine and leaves nothing behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::process;

/// Controllers that kubelet and runc use.
const CONTROLLERS: [&str; 8] = ["blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids"];
/// Programs of the machine that are used, and the package that has them.
const PROGRAMS: [(&str, &str); 7] = [
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("mount", "util-linux"),
    ("ip", "iproute2"),
    ("apt-get", "apt: the node's containerd, runc and CNI plugins are Debian's"),
    ("dpkg-deb", "dpkg"),
    ("tar", "tar"),
];
const NAMESPACES: [&str; 9] = [
    "unshare",
    "--net",
    "--mount",
    "--cgroup",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "--propagation=private",
];
/// Joins the cgroups before `--`, then starts what follows as the child of process 1 of new namespaces. Process 1 is a shell,
/// which takes care of processes whose parent has ended.
const START: &str =
    "while [ \"$1\" != -- ]; do echo $$ > \"$1/cgroup.procs\" || exit 1; shift; done; shift; exec \"$@\"";
const FIRST: &str = "\"$@\"; exit $?";
/// How often it is tried to remove a cgroup whose processes have just been killed.
const TRIES: u32 = 100;

/// Fails with everything that this machine lacks.
pub fn check() -> Result<()> {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("root: it makes namespaces, mounts and cgroups (try `sudo -E`)".to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    for (program, package) in PROGRAMS {
        if !std::env::split_paths(&path).any(|directory| directory.join(program).is_file()) {
            missing.push(format!("the program {program} (package {package})"));
        }
    }
    match fs::read_to_string("/proc/self/cgroup") {
        Ok(text) => missing.extend(lacking_controllers(&text)),
        Err(error) => missing.push(format!("cgroups: /proc/self/cgroup: {error}")),
    }
    if missing.is_empty() {
        missing.extend(probe("namespaces", &["true"], Path::new("/")).err().map(|error| format!("{error:#}")));
    }
    if missing.is_empty() {
        missing.extend(overlay().err().map(|error| format!("{error:#}")));
    }
    ensure!(missing.is_empty(), "this machine can't run a Kubernetes node; it lacks\n  - {}", missing.join("\n  - "));
    Ok(())
}

fn lacking_controllers(text: &str) -> Option<String> {
    let have: Vec<&str> = hierarchies(text).flat_map(|(controllers, _)| controllers.split(',')).collect();
    let lacking: Vec<&str> = CONTROLLERS.into_iter().filter(|name| !have.contains(name)).collect();
    (!lacking.is_empty()).then(|| {
        format!(
            "cgroup controllers of version 1: {}; cgroups of version 2 are not supported here (boot with \
             systemd.unified_cgroup_hierarchy=0 to have version 1)",
            lacking.join(", ")
        )
    })
}

/// Controllers and our own path of each hierarchy of version 1.
fn hierarchies(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    parts.filter(|(controllers, _)| !controllers.is_empty())
}

/// A layered file system, where containers will have theirs.
fn overlay() -> Result<()> {
    let directory = scratch()?;
    for name in ["lower", "upper", "work", "all"] {
        fs::create_dir(directory.path().join(name))?;
    }
    let script = "mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work all";
    probe("overlayfs on the file system of the temporary directory", &["sh", "-c", script], directory.path())
}

fn probe(what: &str, words: &[&str], directory: &Path) -> Result<()> {
    let [program, flags @ ..] = NAMESPACES;
    let output = Command::new(program).args(flags).arg("--").args(words).current_dir(directory).output();
    let output = output.with_context(|| format!("{what}: could not start {program}"))?;
    ensure!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    Ok(())
}

fn scratch() -> Result<TempDir> {
    tempfile::Builder::new().prefix("mobula-e2e-").tempdir().context("could not make a directory")
}

/// Where one node runs: a directory and a cgroup in each hierarchy. Dropped after its processes have been killed, it leaves
/// nothing behind.
pub struct Room {
    directory: TempDir,
    cgroups: Vec<PathBuf>,
}

impl Room {
    /// Makes one.
    pub fn new() -> Result<Room> {
        let mut room = Room { directory: scratch()?, cgroups: Vec::new() };
        let text = fs::read_to_string("/proc/self/cgroup").context("could not read /proc/self/cgroup")?;
        let name = format!("mobula-e2e-{}", std::process::id());
        for (controllers, path) in hierarchies(&text) {
            let mount = Path::new("/sys/fs/cgroup").join(controllers.trim_start_matches("name="));
            let parent = mount.join(path.trim_start_matches('/'));
            sweep(&parent);
            let cgroup = parent.join(&name);
            fs::create_dir(&cgroup).with_context(|| format!("could not make {}", cgroup.display()))?;
            room.cgroups.push(cgroup.clone());
            // A new one has no CPUs, and nothing can join it.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if controllers.split(',').any(|name| name == "cpuset") {
                    fs::copy(parent.join(file), cgroup.join(file)).with_context(|| format!("could not set {file}"))?;
                }
            }
        }
        // In case that this program is killed.
        process::remove_cgroups_at_exit(&room.cgroups)?;
        Ok(room)
    }

    /// The node's directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A command that runs in namespaces of its own. When the process that it starts is killed, or this program ends, all
    /// processes in them are killed.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "sh", "-c", START, "room"]).args(&self.cgroups).arg("--");
        command.args(NAMESPACES).args(["--", "sh", "-c", FIRST, "init"]).arg(program).stdin(Stdio::null());
        command
    }

    /// Keeps the directory, whatever happens.
    pub fn keep(&mut self) -> &Path {
        self.directory.disable_cleanup(true);
        self.directory.path()
    }

    /// Removes the directory even if this program is killed.
    pub fn keep_nothing(&self) -> Result<()> {
        process::remove_at_exit(self.directory.path())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        for cgroup in &self.cgroups {
            for _ in 0..TRIES {
                if remove(cgroup).is_ok() {
                    break;
                }
                sleep(Duration::from_millis(50));
            }
            if cgroup.exists() {
                eprintln!("could not remove the cgroup {}", cgroup.display());
            }
        }
    }
}

/// Removes what a run that was killed has left here.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let run = name.to_str().and_then(|name| name.strip_prefix("mobula-e2e-"));
        if run.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = remove(&entry.path());
        }
    }
}

/// Removes a cgroup and those below it. They hold no files that could be removed.
fn remove(cgroup: &Path) -> Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let path = entry?.path();
        if path.is_dir() {
            remove(&path)?;
        }
    }
    Ok(fs::remove_dir(cgroup)?)
}

/// Makes mounts, cgroups and network inside the namespaces.
pub fn furnish(directory: &Path) -> Result<()> {
    let output = Command::new("sh")
        .args(["-eu", "-c", include_str!("inside.sh"), "inside"])
        .arg(directory)
        .output()
        .context("could not start sh")?;
    if !output.status.success() {
        bail!("could not furnish the namespaces: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "9:name=systemd:/\n8:pids:/\n7:blkio:/\n6:freezer:/\n5:devices:/\n4:memory:/a/b\n3:cpuset:/\n\
                      2:cpu,cpuacct:/\n0::/\n";

    #[test]
    fn hierarchies_are_those_of_version_1() {
        assert_eq!(hierarchies(V1).count(), 8);
        assert_eq!(hierarchies(V1).find(|(name, _)| *name == "memory"), Some(("memory", "/a/b")));
        assert_eq!(lacking_controllers(V1), None);
    }

    #[test]
    fn a_machine_with_version_2_is_told_so() {
        let lacking = lacking_controllers("0::/user.slice\n").unwrap();
        assert!(lacking.contains("memory") && lacking.contains("version 2"), "{lacking}");
    }
}

//! Processes that never outlive the test: each is the leader of a process group, which is killed when the value is dropped
//! and also, by a guard that waits for the end of a pipe, when the test itself is killed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

/// A started program and everything that it started in its turn.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    group: Pid,
    guard: Child,
}

impl Process {
    /// Starts the program with its output in `<directory>/<name>.log`.
    pub fn start(name: &str, command: &mut Command, directory: &Path) -> Result<Process> {
        let log = directory.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("could not create {}", log.display()))?;
        let output = file.try_clone().context("could not share the log")?;
        let child = command
            .stdout(output)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("could not start {name} ({})", command.get_program().display()))?;
        let group = Pid::from_child(&child);
        let guard = guard(group)?;
        Ok(Process { name: name.to_owned(), log, child, group, guard })
    }

    /// What the program reads, if it was started with a pipe there.
    pub fn stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Process id, which is also that of the process group.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Fails, with the end of the log, if the program has ended.
    pub fn must_run(&mut self) -> Result<()> {
        match self.ended() {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}); the end of its log:\n{}", self.name, self.tail(30)),
        }
    }

    /// Everything it has written.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines that it wrote.
    pub fn tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Asks it to end (SIGTERM), and waits.
    pub async fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        kill_process_group(self.group, Signal::TERM).with_context(|| format!("could not end {}", self.name))?;
        let start = Instant::now();
        while start.elapsed() < limit {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("{} has not ended {} s after SIGTERM; the end of its log:\n{}", self.name, limit.as_secs(), self.tail(20))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The guard first: it must not outlive the group, whose number may then be given to somebody else.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the end of the log of {}:\n{}", self.name, self.tail(40));
        }
    }
}

/// Kills the group when this program has ended.
fn guard(group: Pid) -> Result<Child> {
    at_exit("kill -KILL \"-$1\"", [group.as_raw_nonzero().to_string()])
}

/// Removes the directory when this program has ended and its processes are gone.
pub fn remove_at_exit(directory: &Path) -> Result<()> {
    // Never dropped: that would close the pipe.
    at_exit("sleep 2; rm -rf -- \"$1\"", [directory]).map(std::mem::forget)
}

/// Removes these cgroups, and those below them, when this program has ended and their processes are gone.
pub fn remove_cgroups_at_exit(cgroups: &[PathBuf]) -> Result<()> {
    let script = "sleep 2; for group; do find \"$group\" -depth -type d -exec rmdir {} \\; ; done";
    at_exit(script, cgroups).map(std::mem::forget)
}

/// Runs a shell command when this program has ended, in whatever way: then the pipe that `read` waits on is closed.
fn at_exit(script: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Child> {
    Command::new("sh")
        .args(["-c", &format!("read line; {script}"), "guard"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("could not start sh")
}

/// A TCP port that is free now. Below the range from which the system gives ports to clients, so that it stays so.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two test programs at once should not try the same ones.
    let start = (std::process::id() % 1000) as u16 * 10;
    for _ in 0..10_000 {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between 20000 and 30000")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group_exists(id: u32) -> bool {
        let pid = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        rustix::process::test_kill_process_group(pid).is_ok()
    }

    #[test]
    fn dropping_kills_the_children_too() {
        let directory = tempfile::tempdir().unwrap();
        let process =
            Process::start("family", Command::new("sh").args(["-c", "sleep 600 & sleep 600"]), directory.path())
                .unwrap();
        let id = process.id();
        assert!(group_exists(id));
        drop(process);
        for _ in 0..100 {
            if !group_exists(id) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the group is still there");
    }

    #[test]
    fn the_guard_kills_the_group_when_its_pipe_closes() {
        let mut child = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        let mut guard = guard(Pid::from_child(&child)).unwrap();
        drop(guard.stdin.take());
        guard.wait().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }

    #[test]
    fn a_program_that_ended_is_told_with_the_end_of_its_log() {
        let directory = tempfile::tempdir().unwrap();
        let mut process =
            Process::start("short", Command::new("sh").args(["-c", "echo last words; exit 3"]), directory.path())
                .unwrap();
        while process.ended().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let error = process.must_run().unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("last words"), "{error}");
    }

    #[test]
    fn free_ports_differ() {
        assert_ne!(free_port().unwrap(), free_port().unwrap());
    }
}

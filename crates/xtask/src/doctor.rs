//! `doctor`: whether this machine has what building and testing need.

use std::fs;
use std::process::Command as Process;

use anyhow::{Result, bail};

use crate::command::{Arguments, Command, output};
use crate::parts;

/// Sub-command `doctor`.
pub const COMMAND: Command = Command {
    name: "doctor",
    summary: "Checks what must be on the machine, and says how to get what is missing.",
    help: "Rust, a C compiler and make are needed to build; Python, Go and apt, disk and memory only for the tests with real parts.",
    flags: &[],
    passes_on: false,
    run: doctor,
};

const MIN_RUST: [u32; 2] = [1, 95];
const MIN_PYTHON: [u32; 2] = [3, 10];
const MIN_GO: [u32; 2] = [1, 26];
const MIN_DISK_GB: u64 = 20;
const MIN_MEMORY_GB: u64 = 6;

struct Finding {
    what: &'static str,
    /// What is there, or what is wrong with it.
    state: Result<String, String>,
    remedy: &'static str,
}

fn doctor(_: &Arguments) -> Result<()> {
    let findings = [
        Finding {
            what: "Rust",
            state: version("rustc", &["--version"], MIN_RUST),
            remedy: "install it by rustup: https://rustup.rs",
        },
        Finding {
            what: "clippy, rustfmt",
            state: runs("cargo", &["clippy", "--version"]).and_then(|_| runs("cargo", &["fmt", "--version"])),
            remedy: "rustup component add clippy rustfmt",
        },
        Finding {
            what: "C compiler",
            state: runs("cc", &["--version"]),
            remedy: "install gcc or clang (Debian: apt install gcc libc6-dev)",
        },
        Finding { what: "make", state: runs("make", &["--version"]), remedy: "install it (Debian: apt install make)" },
        Finding {
            what: "Python",
            state: version("python3", &["--version"], MIN_PYTHON),
            remedy: "install Python 3.10 or newer (Debian: apt install python3)",
        },
        Finding {
            what: "Python's venv",
            state: runs("python3", &["-c", "import venv, ensurepip; print('there')"]),
            remedy: "install it (Debian: apt install python3-venv)",
        },
        Finding {
            what: "Go",
            state: version("go", &["version"], MIN_GO),
            remedy: "install Go 1.26 or newer: https://go.dev/dl",
        },
        Finding {
            what: "apt, dpkg",
            state: runs("apt-get", &["--version"]).and_then(|_| runs("dpkg-deb", &["--version"])),
            remedy: "Redis, and what a Kubernetes node runs, are unpacked from Debian's packages: use Debian or Ubuntu",
        },
        Finding { what: "disk", state: disk(), remedy: "free some, or set MOBULA_CACHE to a directory with more room" },
        Finding {
            what: "memory",
            state: memory(),
            remedy: "close something: a test runs up to seven Ray nodes of 300 MB and a kube-apiserver",
        },
    ];
    for finding in &findings {
        match &finding.state {
            Ok(state) => println!("ok       {:<16} {state}", finding.what),
            Err(problem) => println!("MISSING  {:<16} {problem}; {}", finding.what, finding.remedy),
        }
    }
    parts::list()?;
    let missing = findings.iter().filter(|finding| finding.state.is_err()).count();
    if missing > 0 {
        bail!("{missing} of {} things are missing", findings.len());
    }
    println!("This machine has everything.");
    Ok(())
}

fn runs(program: &str, arguments: &[&str]) -> Result<String, String> {
    let said = output(Process::new(program).args(arguments)).map_err(|error| format!("{error:#}"))?;
    Ok(said.lines().next().unwrap_or_default().to_owned())
}

fn version(program: &str, arguments: &[&str], least: [u32; 2]) -> Result<String, String> {
    let said = runs(program, arguments)?;
    let [major, minor] = least;
    match first_version(&said) {
        Some(found) if found >= least => Ok(said),
        Some(_) => Err(format!("`{said}`: {major}.{minor} or newer is needed")),
        None => Err(format!("`{said}`: no version in it")),
    }
}

/// The first `N.M` in a line such as `go version go1.26.8 linux/amd64`.
fn first_version(line: &str) -> Option<[u32; 2]> {
    line.split(|c: char| !(c.is_ascii_digit() || c == '.')).find_map(|word| {
        let mut numbers = word.split('.');
        Some([numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?])
    })
}

fn disk() -> Result<String, String> {
    let cache = parts::cache().map_err(|error| error.to_string())?;
    let existing = cache.ancestors().find(|path| path.is_dir()).unwrap_or(&cache);
    let said = output(Process::new("df").arg("-Pk").arg(existing)).map_err(|error| format!("{error:#}"))?;
    let free_kb = said.lines().nth(1).and_then(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok());
    at_least(free_kb.map(|kb| kb * 1024), MIN_DISK_GB, "free")
}

fn memory() -> Result<String, String> {
    let said = fs::read_to_string("/proc/meminfo").map_err(|error| format!("/proc/meminfo: {error}"))?;
    let available_kb = said
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.split_whitespace().next()?.parse::<u64>().ok());
    at_least(available_kb.map(|kb| kb * 1024), MIN_MEMORY_GB, "available")
}

fn at_least(bytes: Option<u64>, least_gb: u64, word: &str) -> Result<String, String> {
    let gb = bytes.ok_or("could not be read")? / 1_000_000_000;
    if gb >= least_gb { Ok(format!("{gb} GB {word}")) } else { Err(format!("{gb} GB {word}, {least_gb} are needed")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_programs_say() {
        assert_eq!(first_version("go version go1.26.8 linux/amd64"), Some([1, 26]));
        assert_eq!(first_version("Python 3.11.7"), Some([3, 11]));
        assert_eq!(first_version("no number here"), None);
    }

    #[test]
    fn missing_program_and_old_version_are_problems() {
        assert!(runs("no-such-program-anywhere", &[]).is_err());
        assert!(version("rustc", &["--version"], [999, 0]).unwrap_err().contains("999.0 or newer"));
    }

    #[test]
    fn too_little_is_said_in_numbers() {
        assert_eq!(at_least(Some(3_000_000_000), 6, "free"), Err("3 GB free, 6 are needed".into()));
        assert_eq!(at_least(Some(7_000_000_000), 6, "free"), Ok("7 GB free".into()));
        assert!(at_least(None, 6, "free").is_err());
    }
}

//! Real parts for the tests: fetched, built and cached once for each version.
//!
//! A part lives in `<cache>/parts/<name>-<version>/` and counts as there when its `installed` file is, which is written
//! last. (Building aside and renaming would break Python environments, whose scripts name their own directory.)

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::command::{Arguments, Command, root};
use crate::recipes;

/// Sub-command `parts`.
pub const COMMAND: Command = Command {
    name: "parts",
    summary: "Fetches, builds and caches the real parts that the tests run.",
    help: "Ray from PyPI; etcd, Kubernetes' programs, KWOK and KubeRay from Go modules; containerd, runc, iptables and Redis from\n\
           Debian, unpacked and not installed; cargo-deny from crates.io. Versions are in tests/parts/VERSIONS, results under\n\
           ${MOBULA_CACHE:-$HOME/.cache/mobula}/parts. Fails, naming the part, if one can't be had. From nothing it takes 40 to 80\n\
           minutes on two cores and 7 GB beside the caches of go and pip; the second time nothing.",
    flags: &[
        ("--list", "say which parts are there and what they cost; fetch nothing"),
        ("--node", "also those of a Kubernetes node, which only `cargo xtask e2e` runs"),
    ],
    passes_on: false,
    run,
};

/// Written last into the directory of a part; holds what the part cost.
const STAMP: &str = "installed";

/// A part of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Name.
    pub name: String,
    /// Version, without a leading `v`.
    pub version: String,
}

impl Part {
    /// Where it is or will be.
    pub fn directory(&self) -> Result<PathBuf> {
        Ok(cache()?.join("parts").join(self.to_string()))
    }

    fn is_installed(&self) -> Result<bool> {
        Ok(self.directory()?.join(STAMP).is_file())
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.name, self.version)
    }
}

/// Parts of the Kubernetes node that `cargo xtask e2e` runs. Other tests do without.
const NODE: [&str; 6] = ["coredns", "kube-proxy", "kubelet", "node-tools", "pause-image", "ray-image"];

/// The parts that tests run, but for those of the node.
pub fn of_tests() -> Result<Vec<Part>> {
    Ok(all()?.into_iter().filter(|part| !NODE.contains(&part.name.as_str())).collect())
}

/// All parts, as tests/parts/VERSIONS lists them.
pub fn all() -> Result<Vec<Part>> {
    let path = root().join("tests/parts/VERSIONS");
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    parse(&text)
}

fn parse(text: &str) -> Result<Vec<Part>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            match (words.next(), words.next(), words.next()) {
                (Some(name), Some(version), None) => Ok(Part { name, version }),
                _ => bail!("tests/parts/VERSIONS: `{line}`: must be a name and a version"),
            }
        })
        .collect()
}

/// The one part of this name.
pub fn named(name: &str) -> Result<Part> {
    all()?
        .into_iter()
        .find(|part| part.name == name)
        .with_context(|| format!("tests/parts/VERSIONS does not list {name}"))
}

/// Installs whatever of these parts is not there yet. Tries all before it fails, so that one run tells everything that is wrong.
pub fn ensure(parts: &[Part]) -> Result<()> {
    let parts_directory = cache()?.join("parts");
    fs::create_dir_all(&parts_directory).with_context(|| format!("could not create {}", parts_directory.display()))?;
    let _lock = lock(&parts_directory.join("lock"))?;
    let mut failed = Vec::new();
    for part in parts {
        if let Err(error) = ensure_one(part) {
            eprintln!("{part}: could not be had: {error:#}");
            failed.push(part.to_string());
        }
    }
    if !failed.is_empty() {
        bail!("could not get {}: see above, and `cargo xtask doctor`", failed.join(", "));
    }
    Ok(())
}

/// Prints which parts are there and what they cost.
pub fn list() -> Result<()> {
    for part in all()? {
        let directory = part.directory()?;
        let state = fs::read_to_string(directory.join(STAMP)).unwrap_or_else(|_| "not there".into());
        println!("{:<8} {:<32} {:<16} {}", "part", part.to_string(), state.trim_end(), directory.display());
    }
    Ok(())
}

fn run(arguments: &Arguments) -> Result<()> {
    if !arguments.has("--list") {
        ensure(&if arguments.has("--node") { all()? } else { of_tests()? })?;
    }
    list()
}

fn ensure_one(part: &Part) -> Result<()> {
    if part.is_installed()? {
        return Ok(());
    }
    let directory = part.directory()?;
    if directory.exists() {
        fs::remove_dir_all(&directory).with_context(|| format!("could not remove {}", directory.display()))?;
    }
    fs::create_dir_all(&directory).with_context(|| format!("could not create {}", directory.display()))?;
    eprintln!("{part}: installing");
    let start = Instant::now();
    recipes::install(part, &directory)?;
    let cost = format!("{:.0} s, {} MB", start.elapsed().as_secs_f64(), size_bytes(&directory)? / 1_000_000);
    let unfinished = directory.join("installed.tmp");
    fs::write(&unfinished, format!("{cost}\n")).context("could not write the stamp")?;
    fs::rename(&unfinished, directory.join(STAMP)).context("could not write the stamp")?;
    eprintln!("{part}: installed ({cost})");
    Ok(())
}

fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("could not open {}", path.display()))?;
    if file.try_lock().is_err() {
        eprintln!("waiting for another run that is fetching parts");
        file.lock().with_context(|| format!("could not lock {}", path.display()))?;
    }
    Ok(file)
}

/// The user's cache directory for this project.
pub fn cache() -> Result<PathBuf> {
    match (std::env::var_os("MOBULA_CACHE"), std::env::var_os("HOME")) {
        (Some(cache), _) => Ok(cache.into()),
        (None, Some(home)) => Ok(Path::new(&home).join(".cache/mobula")),
        (None, None) => bail!("neither MOBULA_CACHE nor HOME is set: say where parts may be kept"),
    }
}

fn size_bytes(directory: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(directory).with_context(|| format!("could not list {}", directory.display()))? {
        let entry = entry?;
        let metadata = entry.path().symlink_metadata()?;
        total += if metadata.is_dir() { size_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_file_is_read_without_comments() {
        let parts = parse("# comment\n\netcd 3.6.16\n  ray   2.60.0\n").unwrap();
        assert_eq!(parts.iter().map(ToString::to_string).collect::<Vec<_>>(), ["etcd-3.6.16", "ray-2.60.0"]);
    }

    #[test]
    fn line_without_version_is_named() {
        assert!(parse("etcd\n").unwrap_err().to_string().contains("`etcd`"));
    }

    #[test]
    fn go_modules_build_the_versions_listed() {
        let require = |file: &str| fs::read_to_string(root().join("tests/parts").join(file)).unwrap();
        let etcd = named("etcd").unwrap().version;
        assert!(require("etcd/go.mod").contains(&format!("go.etcd.io/etcd/server/v3 v{etcd}")));
        for name in ["kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet"] {
            let kubernetes = named(name).unwrap().version;
            assert!(require("kubernetes/go.mod").contains(&format!("k8s.io/kubernetes v{kubernetes}")), "{name}");
        }
        for (name, module) in [
            ("coredns", "github.com/coredns/coredns"),
            ("kuberay-e2e", "github.com/ray-project/kuberay/ray-operator"),
            ("kuberay-operator", "github.com/ray-project/kuberay/ray-operator"),
            ("kwok", "sigs.k8s.io/kwok"),
        ] {
            let folder = name.split('-').next().unwrap();
            let version = named(name).unwrap().version;
            assert!(require(&format!("{folder}/go.mod")).contains(&format!("{module} v{version}")), "{name}");
        }
    }

    #[test]
    fn the_image_holds_a_ray_that_the_tests_know() {
        let image = named("ray-image").unwrap().version;
        assert!(all().unwrap().iter().any(|part| part.name == "ray" && part.version == image));
    }

    #[test]
    fn tests_do_not_build_what_they_do_not_run() {
        let names: Vec<String> = of_tests().unwrap().into_iter().map(|part| part.name).collect();
        assert!(NODE.iter().all(|part| named(part).is_ok() && !names.iter().any(|name| name == part)), "{names:?}");
    }
}

//! Where the real parts are. `cargo xtask parts` puts them there; a part that is missing is an error, never a reason to skip.

use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use mobula_image::surroundings;

/// Names and versions, shared with `cargo xtask parts`.
const VERSIONS: &str = include_str!("../parts/VERSIONS");

/// The Ray that the tests are about.
pub const RAY: &str = "2.60.0";
/// The oldest Ray that the scenarios also run on.
pub const OLD_RAY: &str = "2.52.0";

/// A Ray from PyPI.
#[derive(Clone, Debug)]
pub struct RayPart {
    /// Its version.
    pub version: String,
    /// The directory with `ray` and `python`.
    pub bin: PathBuf,
    /// The GCS, which can run alone.
    pub gcs_server: PathBuf,
}

/// Ray of one of the versions in tests/parts/VERSIONS.
pub fn ray(version: &str) -> Result<RayPart> {
    let directory = installed("ray", version)?;
    let lib = directory.join("lib");
    for entry in std::fs::read_dir(&lib).with_context(|| format!("could not list {}", lib.display()))? {
        let gcs_server = entry?.path().join("site-packages/ray/core/src/ray/gcs/gcs_server");
        if gcs_server.is_file() {
            return Ok(RayPart { version: version.to_owned(), bin: directory.join("bin"), gcs_server });
        }
    }
    bail!("no gcs_server in {}: remove {} and run `cargo xtask parts`", lib.display(), directory.display())
}

/// etcd.
pub fn etcd() -> Result<PathBuf> {
    program("etcd")
}

/// kube-apiserver.
pub fn kube_apiserver() -> Result<PathBuf> {
    program("kube-apiserver")
}

/// KubeRay's operator.
pub fn kuberay_operator() -> Result<PathBuf> {
    program("kuberay-operator")
}

/// A part that is one program, which has the part's name.
pub fn program(name: &str) -> Result<PathBuf> {
    Ok(directory(name)?.join(name))
}

/// The directory of a part of which there is one version.
pub fn directory(name: &str) -> Result<PathBuf> {
    installed(name, version_of(name)?)
}

/// The file of KubeRay's RayCluster definition.
pub fn raycluster_crd() -> Result<PathBuf> {
    kuberay_crd("rayclusters")
}

/// The file of one of KubeRay's definitions.
pub fn kuberay_crd(plural: &str) -> Result<PathBuf> {
    Ok(installed("kuberay-crds", version_of("kuberay-crds")?)?.join(format!("ray.io_{plural}.yaml")))
}

/// The folder of KubeRay's sample manifests.
pub fn kuberay_samples() -> Result<PathBuf> {
    installed("kuberay-samples", version_of("kuberay-samples")?)
}

/// The version of a part of which there is one.
pub fn version_of(name: &str) -> Result<&'static str> {
    let line = VERSIONS.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(str::trim).with_context(|| format!("tests/parts/VERSIONS does not list {name}"))
}

/// Our own binary: the one that `MOBULA_TEST_BINARY` names, else built from what is in the working tree now.
pub fn mobula() -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("MOBULA_TEST_BINARY") {
        let binary = PathBuf::from(binary);
        ensure!(binary.is_file(), "MOBULA_TEST_BINARY: {} is not there", binary.display());
        return Ok(binary);
    }
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build_mobula().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}

fn build_mobula() -> Result<PathBuf> {
    let mut build = surroundings::cargo();
    build.args(["build", "--quiet", "-p", "mobula"]);
    ensure!(build.status().context("could not start cargo")?.success(), "could not build mobula");
    // Tests lie in target/debug/deps, binaries in target/debug.
    let executable = std::env::current_exe().context("where this program lies is not known")?;
    let candidates = executable.ancestors().skip(1).take(2).map(|directory| directory.join("mobula"));
    let found = candidates.into_iter().find(|path| path.is_file());
    found.with_context(|| format!("no mobula beside {}", executable.display()))
}

fn installed(name: &str, version: &str) -> Result<PathBuf> {
    let cache = surroundings::cache()?;
    let directory = cache.join("parts").join(format!("{name}-{version}"));
    ensure!(
        directory.join("installed").is_file(),
        "{name} {version} is not in {}: run `cargo xtask parts`",
        directory.display()
    );
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_by_name() {
        assert!(version_of("kube-apiserver").unwrap().starts_with("1."));
        assert!(version_of("kube").is_err());
    }

    #[test]
    fn both_rays_are_listed() {
        for version in [RAY, OLD_RAY] {
            assert!(VERSIONS.lines().any(|line| line == format!("ray {version}")), "{version}");
        }
    }

    #[test]
    fn a_part_that_is_not_there_is_an_error_that_says_what_to_do() {
        let error = installed("etcd", "0.0.0").unwrap_err().to_string();
        assert!(error.contains("etcd 0.0.0") && error.contains("cargo xtask parts"), "{error}");
    }
}

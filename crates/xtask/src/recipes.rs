//! How each part is made. Only the ordinary clients of the package registries are used: go, pip, cargo, apt.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::command::{cargo, output, root, run};
use crate::parts::Part;
use crate::{debian, images};

/// What the node of `cargo xtask e2e` runs beside Kubernetes itself. It uses the machine's own C library.
const NODE_TOOLS: [&str; 4] = ["containerd", "containernetworking-plugins", "iptables", "runc"];

/// Makes the part in an empty directory.
pub fn install(part: &Part, directory: &Path) -> Result<()> {
    match part.name.as_str() {
        "etcd" => {
            go_build(root().join("tests/parts/etcd"), "go.etcd.io/etcd/server/v3", "-s -w", &directory.join("etcd"))
        }
        name @ ("kube-apiserver" | "kube-controller-manager" | "kube-proxy" | "kube-scheduler" | "kubelet") => {
            go_build(
                root().join("tests/parts/kubernetes"),
                &format!("k8s.io/kubernetes/cmd/{name}"),
                &kubernetes_flags(&part.version)?,
                &directory.join(name),
            )
        }
        "kuberay-operator" => go_build(
            root().join("tests/parts/kuberay"),
            "github.com/ray-project/kuberay/ray-operator",
            "-s -w",
            &directory.join("kuberay-operator"),
        ),
        "kwok" => kwok(&part.version, directory),
        "coredns" => go_build(root().join("tests/parts/coredns"), ".", "-s -w", &directory.join("coredns")),
        "node-tools" => node_tools(directory),
        "redis-server" => debian::unpack(&["redis-server"], &["libc6"], directory),
        "pause-image" => pause_image(directory),
        "ray-image" => images::ray(&part.version, directory),
        "kuberay-e2e" => kuberay_e2e(directory),
        "kuberay-crds" => kuberay(&part.version, "config/crd/bases", directory),
        "kuberay-samples" => kuberay(&part.version, "config/samples", directory),
        "ray" => ray(&part.version, directory),
        "cargo-deny" => cargo_install(part, directory),
        name => bail!("tests/parts/VERSIONS lists {name}, which nobody knows how to make"),
    }
}

fn go_build(module: PathBuf, package: &str, linker_flags: &str, binary: &Path) -> Result<()> {
    let mut go = Command::new("go");
    go.args(["build", "-trimpath", "-buildvcs=false", "-ldflags", linker_flags, "-o"]).arg(binary).arg(package);
    run(go.env("CGO_ENABLED", "0").current_dir(module))
}

/// The version a Kubernetes binary tells is set at link time; without it the API server's defaults for features are those of 0.0.0.
fn kubernetes_flags(version: &str) -> Result<String> {
    let mut numbers = version.split('.');
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        bail!("Kubernetes version {version}: must be MAJOR.MINOR.PATCH");
    };
    let mut flags = String::from("-s -w");
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        for (name, value) in [
            ("gitVersion", format!("v{version}")),
            ("gitMajor", major.to_owned()),
            ("gitMinor", minor.to_owned()),
            ("gitTreeState", "clean".to_owned()),
            ("buildDate", "2026-01-01T00:00:00Z".to_owned()),
        ] {
            flags.push_str(&format!(" -X {package}.{name}={value}"));
        }
    }
    Ok(flags)
}

/// The program, and its own stages, which it wants to be told: what becomes of a node and of a pod.
fn kwok(version: &str, directory: &Path) -> Result<()> {
    go_build(root().join("tests/parts/kwok"), "sigs.k8s.io/kwok/cmd/kwok", "-s -w", &directory.join("kwok"))?;
    let source = module(&format!("sigs.k8s.io/kwok@v{version}"))?;
    for (from, file) in [
        ("node/fast", "node-initialize.yaml"),
        ("node/heartbeat-with-lease", "node-heartbeat-with-lease.yaml"),
        ("pod/fast", "pod-complete.yaml"),
        ("pod/fast", "pod-delete.yaml"),
        ("pod/fast", "pod-ready.yaml"),
    ] {
        let path = source.join("kustomize/stage").join(from).join(file);
        let text = fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
        fs::write(directory.join(file), text)?;
    }
    Ok(())
}

fn node_tools(directory: &Path) -> Result<()> {
    debian::unpack(&NODE_TOOLS, &["libc6"], directory)?;
    // On a Debian machine these links are made when the package is installed.
    for name in ["iptables", "ip6tables"] {
        for end in ["", "-restore", "-save"] {
            let link = directory.join(format!("usr/sbin/{name}{end}"));
            std::os::unix::fs::symlink(format!("{name}-nft{end}"), &link)?;
        }
    }
    Ok(())
}

fn pause_image(directory: &Path) -> Result<()> {
    let binary = directory.join("pause");
    go_build(root().join("tests/parts/pause"), ".", "-s -w", &binary)?;
    images::pause(&binary, directory)
}

/// KubeRay's own end-to-end tests, as one program.
fn kuberay_e2e(directory: &Path) -> Result<()> {
    let mut go = Command::new("go");
    go.args(["test", "-c", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o"]).arg(directory.join("e2e.test"));
    go.arg("github.com/ray-project/kuberay/ray-operator/test/e2e");
    run(go.env("CGO_ENABLED", "0").current_dir(root().join("tests/parts/kuberay")))
}

/// The manifests in a folder of KubeRay's module, and in the folders below it.
fn kuberay(version: &str, folder: &str, directory: &Path) -> Result<()> {
    let source = module(&format!("github.com/ray-project/kuberay/ray-operator@v{version}"))?;
    let copied = copy_manifests(&source.join(folder), directory)?;
    ensure!(copied > 0, "KubeRay {version} has no manifest in {folder}");
    Ok(())
}

/// Where go has put the source of a module, which it fetches if need be.
fn module(name: &str) -> Result<PathBuf> {
    let answer =
        output(Command::new("go").args(["mod", "download", "-json", name]).current_dir(root().join("tests/parts")))?;
    let source = json_string(&answer, "Dir").with_context(|| format!("go said no directory for {name}: {answer}"))?;
    Ok(PathBuf::from(source))
}

fn copy_manifests(from: &Path, to: &Path) -> Result<usize> {
    fs::create_dir_all(to)?;
    let mut copied = 0;
    for entry in fs::read_dir(from).with_context(|| format!("could not list {}", from.display()))? {
        let path = entry?.path();
        let Some(name) = path.file_name() else { continue };
        if path.is_dir() {
            copied += copy_manifests(&path, &to.join(name))?;
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            // Read and written, not copied: files of the module cache are read-only, and so would a copy be.
            fs::write(to.join(name), fs::read(&path)?)?;
            copied += 1;
        }
    }
    Ok(copied)
}

/// The value of a string member in the flat, indented JSON that `go mod download -json` prints.
fn json_string<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let member = format!("\"{name}\": \"");
    let (_, rest) = text.split_once(member.as_str())?;
    rest.split_once('"').map(|(value, _)| value)
}

fn ray(version: &str, directory: &Path) -> Result<()> {
    run(Command::new("python3").args(["-m", "venv"]).arg(directory))?;
    let pip = directory.join("bin/python");
    let requirement = format!("ray[default]=={version}");
    run(Command::new(pip).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        requirement.as_str(),
    ]))?;
    let said = output(Command::new(directory.join("bin/ray")).arg("--version"))?;
    ensure!(said.contains(version), "asked for Ray {version}, got `{}`", said.trim_end());
    Ok(())
}

fn cargo_install(part: &Part, directory: &Path) -> Result<()> {
    let mut install = cargo(&["install", "--locked", "--quiet", "--version", &part.version, &part.name, "--root"]);
    // Beside the workspace's own builds: `cargo install` from inside it would otherwise fill its target directory.
    run(install.arg(directory).env("CARGO_TARGET_DIR", directory.join("build")))?;
    fs::remove_dir_all(directory.join("build")).context("could not remove what the build left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_is_found_in_what_go_prints() {
        let answer = "{\n\t\"Version\": \"v1.6.2\",\n\t\"Dir\": \"/m/ray-operator@v1.6.2\",\n\t\"Sum\": \"h1:x\"\n}\n";
        assert_eq!(json_string(answer, "Dir"), Some("/m/ray-operator@v1.6.2"));
        assert_eq!(json_string(answer, "Missing"), None);
    }

    #[test]
    fn kubernetes_version_is_split_for_the_linker() {
        let flags = kubernetes_flags("1.36.3").unwrap();
        assert!(flags.contains("-X k8s.io/component-base/version.gitMinor=36"));
        assert!(flags.contains("-X k8s.io/client-go/pkg/version.gitVersion=v1.36.3"));
        assert!(kubernetes_flags("1").is_err());
    }
}

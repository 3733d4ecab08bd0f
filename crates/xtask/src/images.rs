//! Container images of the node: the one of Ray, made from Debian's Python and Ray's wheel, and the one that holds pods.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command::{output, run};
use crate::debian;

/// What Ray needs, and what the commands and probes need that KubeRay and Mobula give to Ray's containers.
const RAY_NEEDS: [&str; 10] =
    ["bash", "coreutils", "findutils", "grep", "libstdc++6", "procps", "python-is-python3", "python3", "sed", "wget"];
const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nray:x:1000:100:ray:/home/ray:/bin/bash\n";
const GROUP: &str = "root:x:0:\nusers:x:100:\n";
const RAY_RUNS: &str = r#"{"User":"1000:100","WorkingDir":"/home/ray","Env":["HOME=/home/ray","LANG=C.UTF-8","PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"]}"#;
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// An image like Ray's own: its Python is Debian's, Ray is in it for everybody, and its user is `ray`.
pub fn ray(version: &str, directory: &Path) -> Result<()> {
    let files = directory.join("files");
    for name in ["bin", "lib", "lib64", "sbin"] {
        fs::create_dir_all(files.join("usr").join(name))?;
        symlink(Path::new("usr").join(name), files.join(name))?;
    }
    debian::unpack(&RAY_NEEDS, &[], &files)?;
    // Jobs are started by it.
    symlink("bash", files.join("usr/bin/sh"))?;
    let packages = files.join("usr/lib/python3/dist-packages");
    let requirement = format!("ray[default]=={version}");
    // The interpreter is that of the image, not the one that runs pip.
    let interpreter = ["--python-version", "3.11", "--implementation", "cp", "--only-binary=:all:"];
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--target"]);
    run(pip.arg(&packages).args(interpreter).arg(&requirement))?;
    // Each container would compile it anew.
    run(&mut in_root(&files, &["python3", "-m", "compileall", "-q", "/usr/lib/python3/dist-packages"]))?;
    let script = "#!/usr/bin/python3\nimport sys\nfrom ray.scripts.scripts import main\nsys.exit(main())\n";
    executable(&files.join("usr/local/bin/ray"), script)?;
    user(&files)?;
    // Ray itself would need /dev to start.
    let ask = "import importlib.metadata as found; print(found.version('ray'))";
    let said = output(&mut in_root(&files, &["python3", "-c", ask]))?;
    ensure!(said.trim_end() == version, "asked for Ray {version}, got `{}`", said.trim_end());
    archive(&files, &format!("docker.io/rayproject/ray:{version}"), RAY_RUNS, directory)?;
    fs::remove_dir_all(&files).context("could not remove the image's files")
}

/// An image whose only program waits.
pub fn pause(binary: &Path, directory: &Path) -> Result<()> {
    let files = directory.join("files");
    fs::create_dir_all(&files)?;
    fs::rename(binary, files.join("pause"))?;
    archive(&files, "mobula.dev/pause:1", r#"{"Entrypoint":["/pause"]}"#, directory)?;
    fs::remove_dir_all(&files).context("could not remove the image's files")
}

/// Writes `image.tar`: an OCI layout with one layer, not compressed. `config` says how the image runs.
fn archive(files: &Path, reference: &str, config: &str, directory: &Path) -> Result<()> {
    const TYPE: &str = "application/vnd.oci.image";
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let layout = directory.join("layout");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let unnamed = directory.join("blob.tmp");
    run(Command::new("tar").arg("--numeric-owner").arg("-cf").arg(&unnamed).arg("-C").arg(files).arg("."))?;
    let layer = blob(&unnamed, &blobs)?;
    let platform = format!(r#""architecture":"{architecture}","os":"linux""#);
    let root = format!(r#"{{"type":"layers","diff_ids":["{}"]}}"#, layer.digest);
    fs::write(&unnamed, format!(r#"{{{platform},"config":{config},"rootfs":{root}}}"#))?;
    let config = blob(&unnamed, &blobs)?.descriptor(&format!("{TYPE}.config.v1+json"), "");
    let layer = layer.descriptor(&format!("{TYPE}.layer.v1.tar"), "");
    fs::write(&unnamed, format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#))?;
    let named = format!(r#","annotations":{{"io.containerd.image.name":"{reference}"}},"platform":{{{platform}}}"#);
    let manifest = blob(&unnamed, &blobs)?.descriptor(&format!("{TYPE}.manifest.v1+json"), &named);
    fs::write(layout.join("index.json"), format!(r#"{{"schemaVersion":2,"manifests":[{manifest}]}}"#))?;
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    run(Command::new("tar").arg("-cf").arg(directory.join("image.tar")).arg("-C").arg(&layout).arg("."))?;
    fs::remove_dir_all(&layout).context("could not remove the image's layout")
}

/// Something that is named by the digest of its bytes.
struct Blob {
    digest: String,
    bytes: u64,
}

impl Blob {
    fn descriptor(&self, media_type: &str, more: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":{}{more}}}"#, self.digest, self.bytes)
    }
}

fn blob(unnamed: &Path, blobs: &Path) -> Result<Blob> {
    let sum = output(Command::new("sha256sum").arg(unnamed))?;
    let hex = sum.split_whitespace().next().context("sha256sum said nothing")?;
    let bytes = fs::metadata(unnamed)?.len();
    fs::rename(unnamed, blobs.join(hex))?;
    Ok(Blob { digest: format!("sha256:{hex}"), bytes })
}

fn in_root(files: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("chroot");
    command.arg(files).args(words).env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin");
    command
}

fn user(files: &Path) -> Result<()> {
    for (name, text) in [("passwd", PASSWD), ("group", GROUP), ("nsswitch.conf", NSSWITCH)] {
        fs::write(files.join("etc").join(name), text)?;
    }
    for (path, mode) in [("home/ray", 0o755), ("root", 0o700), ("tmp", 0o1777), ("run", 0o755), ("proc", 0o555)] {
        let path = files.join(path);
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    std::os::unix::fs::chown(files.join("home/ray"), Some(1000), Some(100)).context("only root can make this image")
}

fn executable(path: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

//! Builds an image around a real binary (this crate's own), unpacks it, and runs commands in it as an engine would.
//!
//! Real parts: bash-static and ca-certificates from Debian, namespaces of the kernel.

// Tests wait in real time; what goes wrong in them should panic.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mobula_image::{contents, oci, surroundings, unpacked};
use tempfile::TempDir;

fn ingredients() -> contents::Ingredients {
    contents::Ingredients {
        binary: env!("CARGO_BIN_EXE_mobula-image").into(),
        bash: None,
        ca_bundle: None,
        cache: surroundings::cache().unwrap(),
        name: "mobula".to_owned(),
        tag: "test".to_owned(),
    }
}

/// The debug binary of this test is larger than an image may be; its symbols are stripped into a copy.
fn stripped(binary: &Path, directory: &Path) -> PathBuf {
    let copy = directory.join("mobula");
    let status = Command::new("strip").arg("-o").arg(&copy).arg(binary).status().expect("strip of binutils runs");
    assert!(status.success());
    copy
}

fn layout() -> &'static Path {
    static LAYOUT: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    &LAYOUT
        .get_or_init(|| {
            let scratch = tempfile::tempdir().unwrap();
            let mut ingredients = ingredients();
            ingredients.binary = stripped(&ingredients.binary, scratch.path());
            let layout = scratch.path().join("oci");
            oci::write(&contents::collect(&ingredients).unwrap(), &layout).unwrap();
            (scratch, layout)
        })
        .1
}

fn container() -> (TempDir, unpacked::Unpacked) {
    let scratch = tempfile::tempdir().unwrap();
    // The image's user must be able to walk to its root.
    let root = scratch.path().join("root");
    let container = unpacked::unpack(layout(), &root).unwrap();
    (scratch, container)
}

fn bash(container: &unpacked::Unpacked, script: &str, env: &[(&str, &str)]) -> Output {
    container.command(&["/bin/bash", "-c", "--", script], env).output().unwrap()
}

fn stdout(output: &Output) -> String {
    let words = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(output.status.success(), "{}: {words} {}", output.status, String::from_utf8_lossy(&output.stderr));
    words
}

#[test]
fn image_is_small_and_names_its_user() {
    let image = oci::verify(layout()).unwrap();
    assert!(image.unpacked_bytes <= contents::MAX_IMAGE_BYTES, "{} bytes", image.unpacked_bytes);
    assert_eq!(image.run.user, "1000:100");
    assert_eq!(image.architecture, if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" });
}

#[test]
fn operator_style_command_starts_ray() {
    let (_scratch, container) = container();
    let output = bash(&container, "ray --help", &[]);
    assert!(stdout(&output).contains("container image"), "{output:?}");
}

#[test]
fn bash_hands_its_process_to_ray_and_exit_codes_come_through() {
    let (_scratch, container) = container();
    let output = bash(&container, "ray no-such-command", &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(stdout(&bash(&container, "echo $$", &[])), "1");
}

#[test]
fn nothing_but_the_image_is_in_sight() {
    let (_scratch, container) = container();
    assert_eq!(stdout(&bash(&container, "cd / && echo *", &[])), "bin etc home lib lib64 manager proc tmp usr");
    let environment =
        stdout(&bash(&container, "for name in ${!A*} ${!H*} ${!R*}; do echo $name; done", &[("RAY_X", "1")]));
    let mut names: Vec<&str> = environment.lines().filter(|name| !name.starts_with("BASH")).collect();
    names.retain(|name| !["HOSTNAME", "HOSTTYPE", "RANDOM", "HISTCMD"].contains(name));
    assert_eq!(names, ["HOME", "RAY_X"]);
}

#[test]
fn user_may_write_to_tmp_and_home_and_nowhere_else() {
    let (_scratch, container) = container();
    let script = "echo $UID ${GROUPS[0]}; \
        for dir in /tmp ~ /etc /usr/local/bin /; do \
            (: > $dir/probe) 2>&- && echo writes $dir; \
        done; echo at $PWD";
    let words = stdout(&bash(&container, script, &[]));
    let expected = "1000 100\nwrites /tmp\nwrites /home/ray\nat /home/ray";
    assert_eq!(words, expected);
}

#[test]
fn certificates_are_there() {
    let (_scratch, container) = container();
    let script = "while read -r line; do case $line in *BEGIN*) n=$((n + 1));; esac; \
        done < /etc/ssl/certs/ca-certificates.crt; echo $n";
    let certificates: u32 = stdout(&bash(&container, script, &[])).parse().unwrap();
    assert!(certificates > 100, "{certificates} certificates");
}

#[test]
fn a_signal_to_process_1_ends_the_container() {
    let (_scratch, container) = container();
    let script = "trap 'echo asked to end; exit 7' TERM; echo ready; while :; do read -r -t 1 line; done";
    let mut command = container.command(&["/bin/bash", "-c", "--", script], &[]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let init = loop {
        // `unshare` runs a second `unshare` that becomes bash: wait for bash to say that its trap stands.
        if let Some(pid) = unpacked::init_pid(child.id()) {
            break pid;
        }
        assert!(Instant::now() < deadline, "process 1 did not start");
    };
    let mut line = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
    assert_eq!(&line, b"ready\n");
    assert!(Command::new("kill").args(["-TERM", &init.to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

//! A real Kubernetes cluster of one node, in namespaces of its own: etcd, kube-apiserver, kube-controller-manager,
//! kube-scheduler, containerd with runc and the bridge plugin, kubelet, kube-proxy, CoreDNS.
//!
//! [`isolation`] is about the namespaces, seen from outside; all else here runs inside them. [`apply`] does what `kubectl
//! apply` does.

pub mod apply;
mod config;
pub mod isolation;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use crate::certificates::{self, Authority};
use crate::parts;
use crate::process::Process;
use crate::wait;

/// How long a part may take to be there, on a machine that is busy with other things.
const START_LIMIT: Duration = Duration::from_secs(120);
/// The debugging ports of parts that have no flag to close them must at least not meet.
const LOCAL: &str = "--bind-address=127.0.0.1";

/// The running cluster. All its processes are killed when it is dropped, and with the namespaces anyway.
pub struct Node {
    /// May do anything.
    pub client: kube::Client,
    directory: PathBuf,
    kubeconfig: PathBuf,
    tools: PathBuf,
    /// Last in, first out.
    processes: Vec<Process>,
}

impl Drop for Node {
    fn drop(&mut self) {
        while self.processes.pop().is_some() {}
    }
}

impl Node {
    /// Starts etcd and the API server, in namespaces that [`isolation::furnish`] has made ready.
    pub async fn start(directory: &Path) -> Result<Node> {
        let authority = Authority::new("node")?;
        certificates::write(directory, "ca.crt", &authority.pem())?;
        let mut processes = vec![Process::start("etcd", &mut etcd(directory)?, directory)?];
        processes.push(Process::start("kube-apiserver", &mut kube_apiserver(directory, &authority)?, directory)?);
        let kubeconfig = certificates::write(directory, "kubeconfig", &kubeconfig(&authority)?)?;
        let config = Kubeconfig::read_from(&kubeconfig)?;
        let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
        let client = kube::Client::try_from(config)?;
        let tools = parts::directory("node-tools")?;
        let mut node = Node { client, directory: directory.to_owned(), kubeconfig, tools, processes };
        let client = node.client.clone();
        node.until("kube-apiserver ready", async || answer(&client, "/readyz").await, |text| text == "ok").await?;
        Ok(node)
    }

    /// Starts containerd and brings these images to it.
    pub async fn load_images(&mut self, archives: &[PathBuf]) -> Result<()> {
        let cni = self.directory.join("cni");
        std::fs::create_dir_all(&cni)?;
        certificates::write(&cni, "pods.conflist", &config::cni(&self.directory))?;
        let text = config::containerd(&self.directory, &self.tools);
        let file = certificates::write(&self.directory, "containerd.toml", &text)?;
        let mut containerd = self.tool("usr/bin/containerd")?;
        self.run("containerd", containerd.arg("--config").arg(file))?;
        let ctr = self.tool("usr/bin/ctr")?;
        let socket = self.directory.join("containerd.sock");
        let ctr = |words: &[&OsStr]| {
            let mut command = tokio::process::Command::new(ctr.get_program());
            command.envs(ctr.get_envs().filter_map(|(name, value)| Some((name, value?)))).kill_on_drop(true);
            command.arg("--address").arg(&socket).args(["--namespace", "k8s.io"]).args(words);
            command
        };
        let version = async || Ok(ctr(&["version".as_ref()]).output().await?.status.success());
        self.until("containerd answers", version, |answered| *answered).await?;
        for archive in archives {
            let words = ["images".as_ref(), "import".as_ref(), archive.as_os_str()];
            let output = ctr(&words).output().await.context("could not start ctr")?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                bail!("containerd did not take {}: {}", archive.display(), said.trim_end());
            }
        }
        Ok(())
    }

    /// Starts everything else, and waits until the node is ready.
    pub async fn join(&mut self) -> Result<()> {
        let key = self.directory.join("tokens.key");
        let mut manager = self.kubernetes("kube-controller-manager", &["--leader-elect=false", LOCAL])?;
        manager.arg(flag("service-account-private-key-file", &key));
        manager.arg(flag("root-ca-file", &self.directory.join("ca.crt")));
        self.run("kube-controller-manager", &mut manager)?;
        let mut scheduler = self.kubernetes("kube-scheduler", &["--leader-elect=false", LOCAL])?;
        self.run("kube-scheduler", &mut scheduler)?;
        certificates::write(&self.directory, "resolv.conf", "")?;
        let file = certificates::write(&self.directory, "kubelet.yaml", &config::kubelet(&self.directory))?;
        let mut kubelet = self.part("kubelet")?;
        kubelet.arg(flag("config", &file)).arg(flag("kubeconfig", &self.kubeconfig));
        kubelet.arg(flag("root-dir", &self.directory.join("kubelet")));
        kubelet.arg(flag("cert-dir", &self.directory.join("kubelet/pki")));
        kubelet.args([format!("--hostname-override={}", config::NODE), format!("--node-ip={}", config::NODE_IP)]);
        self.run("kubelet", &mut kubelet)?;
        let file = certificates::write(&self.directory, "kube-proxy.yaml", &config::kube_proxy(&self.kubeconfig))?;
        let mut proxy = self.part("kube-proxy")?;
        self.run("kube-proxy", proxy.arg(flag("config", &file)))?;
        let file = certificates::write(&self.directory, "Corefile", &config::coredns(&self.kubeconfig))?;
        let mut coredns = self.part("coredns")?;
        self.run("coredns", coredns.arg("-conf").arg(file))?;
        let client = self.client.clone();
        apply::apply(&client, &name_service()).await.context("the name server's Service")?;
        let path = format!("/api/v1/nodes/{}", config::NODE);
        let node = async || Ok(get(&client, &path).await.unwrap_or_default());
        self.until("the node is ready", node, |node| condition(node, "Ready")).await
    }

    /// Lets the node say that it has devices which it has not.
    pub async fn pretend(&self, devices: &[(&str, u32)]) -> Result<()> {
        let amounts: Value = devices.iter().map(|(name, n)| ((*name).to_owned(), json!(n.to_string()))).collect();
        let status = json!({"status": {"capacity": amounts, "allocatable": amounts}});
        let request = http::Request::patch(format!("/api/v1/nodes/{}/status", config::NODE))
            .header("content-type", "application/merge-patch+json")
            .body(serde_json::to_vec(&status)?)?;
        let _: Value = self.client.request(request).await.context("could not set the node's capacity")?;
        Ok(())
    }

    /// Fails if a part has ended.
    pub fn must_run(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Process::must_run)
    }

    async fn until<T: std::fmt::Debug>(
        &mut self,
        what: &str,
        mut look: impl AsyncFnMut() -> Result<T>,
        is_right: impl FnMut(&T) -> bool,
    ) -> Result<()> {
        let look = async || {
            self.must_run()?;
            look().await
        };
        wait::until(what, START_LIMIT, look, is_right).await.map(drop)
    }

    fn run(&mut self, name: &str, command: &mut Command) -> Result<()> {
        self.processes.push(Process::start(name, command, &self.directory)?);
        Ok(())
    }

    /// A part that acts for the cluster and says to the API server who it is.
    fn kubernetes(&self, name: &str, flags: &[&str]) -> Result<Command> {
        let mut command = self.part(name)?;
        for flag in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
            command.arg(format!("--{flag}={}", self.kubeconfig.display()));
        }
        command.args(flags);
        Ok(command)
    }

    fn part(&self, name: &str) -> Result<Command> {
        self.with_tools(Command::new(parts::program(name)?))
    }

    fn tool(&self, path: &str) -> Result<Command> {
        self.with_tools(Command::new(self.tools.join(path)))
    }

    /// With the tools of the node before those of the machine.
    fn with_tools(&self, mut command: Command) -> Result<Command> {
        let libraries = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        let libraries = self.tools.join(libraries);
        let own = ["usr/bin", "usr/sbin"].map(|place| self.tools.join(place));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path)))?;
        command.env("PATH", path).env("XTABLES_LIBDIR", libraries.join("xtables")).env("LD_LIBRARY_PATH", libraries);
        command.current_dir(&self.directory);
        Ok(command)
    }
}

/// What is at this path.
pub async fn get(client: &kube::Client, path: &str) -> Result<Value> {
    let request = http::Request::get(path).body(Vec::new())?;
    client.request(request).await.with_context(|| format!("could not get {path}"))
}

/// Whether a condition of the object's status is true.
pub fn condition(object: &Value, name: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    conditions.iter().any(|condition| condition["type"] == name && condition["status"] == "True")
}

/// What the server answers, be it that it does not.
async fn answer(client: &kube::Client, path: &str) -> Result<String> {
    let answer = client.request_text(http::Request::get(path).body(Vec::new())?).await;
    Ok(answer.unwrap_or_else(|error| error.to_string()))
}

fn flag(name: &str, value: &Path) -> String {
    format!("--{name}={}", value.display())
}

fn etcd(directory: &Path) -> Result<Command> {
    let mut etcd = Command::new(parts::etcd()?);
    etcd.args(["--unsafe-no-fsync", "--log-level=warn"]).arg(flag("data-dir", &directory.join("etcd")));
    Ok(etcd)
}

fn kube_apiserver(directory: &Path, authority: &Authority) -> Result<Command> {
    let mut names = ["localhost", "127.0.0.1", "10.96.0.1", config::NODE_IP].map(String::from).to_vec();
    for end in ["", ".default", ".default.svc", ".default.svc.cluster.local"] {
        names.push(format!("kubernetes{end}"));
    }
    let serving = authority.server("kube-apiserver", &names)?.write(directory, "apiserver")?;
    let kubelet = authority.client("admin", Some("system:masters"))?.write(directory, "admin")?;
    // Any key pair will do to sign tokens of service accounts.
    let signing = authority.client("tokens", None)?.write(directory, "tokens")?;
    let mut server = Command::new(parts::kube_apiserver()?);
    server
        .args(["--etcd-servers=http://127.0.0.1:2379", "--secure-port=6443", "--bind-address=0.0.0.0"])
        .args([format!("--advertise-address={}", config::NODE_IP), "--service-cluster-ip-range=10.96.0.0/16".into()])
        .args([flag("cert-dir", directory), flag("client-ca-file", &directory.join("ca.crt"))])
        .args([flag("tls-cert-file", &serving.certificate), flag("tls-private-key-file", &serving.key)])
        .args([flag("kubelet-client-certificate", &kubelet.certificate), flag("kubelet-client-key", &kubelet.key)])
        .arg("--kubelet-preferred-address-types=InternalIP")
        .arg(flag("service-account-key-file", &signing.certificate))
        .arg(flag("service-account-signing-key-file", &signing.key))
        .arg("--service-account-issuer=https://kubernetes.default.svc.cluster.local")
        .args(["--authorization-mode=RBAC", "--allow-privileged=true", "--profiling=false"]);
    Ok(server)
}

fn kubeconfig(authority: &Authority) -> Result<String> {
    let admin = authority.client("admin", Some("system:masters"))?;
    let server =
        json!({"server": "https://127.0.0.1:6443", "certificate-authority-data": BASE64.encode(authority.pem())});
    let user = json!({
        "client-certificate-data": BASE64.encode(&admin.certificate), "client-key-data": BASE64.encode(&admin.key),
    });
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "node",
        "clusters": [{"name": "node", "cluster": server}],
        "users": [{"name": "admin", "user": user}],
        "contexts": [{"name": "node", "context": {"cluster": "node", "user": "admin"}}],
    });
    Ok(config.to_string())
}

/// CoreDNS runs on the node, not in a pod: so its Service has no selector.
fn name_service() -> Vec<Value> {
    let metadata = json!({"name": "kube-dns", "namespace": "kube-system"});
    let ports = json!([
        {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"clusterIP": config::DNS_IP, "ports": ports},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "kube-dns", "namespace": "kube-system", "labels": {"kubernetes.io/service-name": "kube-dns"},
        },
        "addressType": "IPv4", "ports": ports,
        "endpoints": [{"addresses": [config::NODE_IP], "conditions": {"ready": true}}],
    });
    vec![service, slice]
}

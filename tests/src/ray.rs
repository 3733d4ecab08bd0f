//! A real Ray: a head and raylets, all on loopback addresses of their own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mobula_gcs::Client;

use crate::gcs::{self, Env};
use crate::parts::{OLD_RAY, RayPart};
use crate::process::{Process, free_port};

/// How long a head may take to start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(90);
/// Memory that each node declares: enough for any request, and nothing that is really taken.
const MEMORY_BYTES: &str = "2000000000";
/// The smallest object store that Ray allows is 75 MB.
const OBJECT_STORE_BYTES: &str = "80000000";

/// What a node declares.
#[derive(Clone, Debug, Default)]
pub struct NodeSpec {
    /// `RAY_CLOUD_INSTANCE_ID`: the pod.
    pub instance_id: String,
    /// `RAY_NODE_TYPE_NAME`: the group.
    pub group: String,
    /// CPU, GPU and custom resources. They are numbers only: nothing is looked for on the machine.
    pub resources: BTreeMap<String, f64>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A running head. Other nodes are separate [`Process`]es.
pub struct Ray {
    /// Which Ray.
    pub part: RayPart,
    /// Environment common to all its processes: tokens, TLS.
    pub env: Env,
    network: Network,
    port: u16,
    spec: NodeSpec,
    directory: PathBuf,
    head: Option<Process>,
    /// How often a head was started.
    starts: u32,
    /// The last address of the network that was given to a node.
    hosts: u8,
}

/// The loopback addresses of one Ray cluster: 127.A.B.1 is its head, the others its workers.
#[derive(Copy, Clone, Debug)]
struct Network {
    a: u8,
    b: u8,
}

impl Network {
    fn new() -> Network {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        // Two test programs at once should not take the same ones. 127.0.0.0/16 is left to everybody else.
        Network { a: (std::process::id() % 250) as u8 + 1, b: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    fn address(self, host: u8) -> String {
        format!("127.{}.{}.{host}", self.a, self.b)
    }
}

/// All addresses that a [`Ray`] started next may use, for certificates.
pub struct Reserved(Network);

impl Reserved {
    /// Takes a network of addresses.
    pub fn new() -> Reserved {
        Reserved(Network::new())
    }

    /// The names by which its head and first nodes are spoken to.
    pub fn names(&self) -> Vec<String> {
        let own = (1..=8).map(|host| self.0.address(host));
        ["localhost".to_owned(), "127.0.0.1".to_owned()].into_iter().chain(own).collect()
    }
}

impl Default for Reserved {
    fn default() -> Self {
        Reserved::new()
    }
}

impl Ray {
    /// Starts a head that speaks autoscaler v2, unless the environment says otherwise.
    pub async fn start(part: RayPart, spec: NodeSpec, env: Env, directory: &Path) -> Result<Ray> {
        Ray::start_on(Reserved::new(), part, spec, env, directory).await
    }

    /// Starts a head at addresses reserved before.
    pub async fn start_on(network: Reserved, part: RayPart, spec: NodeSpec, env: Env, directory: &Path) -> Result<Ray> {
        let (port, directory) = (free_port()?, directory.to_path_buf());
        let mut ray = Ray { part, env, network: network.0, port, spec, directory, head: None, starts: 0, hosts: 1 };
        ray.start_head().await?;
        Ok(ray)
    }

    async fn start_head(&mut self) -> Result<()> {
        let start = Instant::now();
        self.starts += 1;
        // A head does not start where it finds the remains of one at the same address.
        let mut command = self.ray_start(&self.spec, 1, &format!("h{}", self.starts));
        command
            .args(["--head", "--no-monitor", "--include-dashboard=false"])
            .arg(format!("--port={}", self.port))
            .arg(format!("--ray-client-server-port={}", free_port()?))
            // Registered nodes have no raylet to answer health checks. Real ones are killed together with their pod.
            .env("RAY_health_check_initial_delay_ms", "3600000");
        let name = format!("ray-head-{}", self.starts);
        let head = self.head.insert(Process::start(&name, &mut command, &self.directory)?);
        started(head).await?;
        eprintln!("real part: head of Ray {} ready after {:.1} s", self.part.version, start.elapsed().as_secs_f64());
        Ok(())
    }

    /// Kills the head: GCS, raylet and all.
    pub fn kill_head(&mut self) {
        self.head = None;
    }

    /// Starts the head again at the same address, with nothing remembered.
    pub async fn restart_head(&mut self) -> Result<()> {
        self.kill_head();
        self.start_head().await
    }

    /// Starts a further node; it joins some seconds after this returns.
    pub async fn start_node(&mut self, spec: &NodeSpec) -> Result<Process> {
        self.hosts = self.hosts.checked_add(1).context("more than 254 raylets were started in one case")?;
        let mut command = self.ray_start(spec, self.hosts, &format!("n{}", self.hosts));
        command.arg(format!("--address={}", self.gcs_address()));
        let mut node = Process::start(&format!("ray-{}", spec.instance_id), &mut command, &self.directory)?;
        if self.part.version == OLD_RAY {
            // Its nodes share the head's session directory whatever they are told, and race for names there.
            started(&mut node).await?;
        }
        Ok(node)
    }

    /// `ray start` with what heads and workers have in common.
    fn ray_start(&self, spec: &NodeSpec, host: u8, session: &str) -> Command {
        let amount = |name: &str| spec.resources.get(name).copied().unwrap_or_default();
        let custom: BTreeMap<_, _> =
            spec.resources.iter().filter(|(name, _)| *name != "CPU" && *name != "GPU").collect();
        let mut command = self.command("ray");
        command
            .args(["start", "--block", "--disable-usage-stats", "--log-color=false", "--include-log-monitor=false"])
            .arg(format!("--node-ip-address={}", self.network.address(host)))
            .args([format!("--num-cpus={}", amount("CPU")), format!("--num-gpus={}", amount("GPU"))])
            .args([format!("--memory={MEMORY_BYTES}"), format!("--object-store-memory={OBJECT_STORE_BYTES}")])
            .arg(format!("--resources={}", serde_json::json!(custom)))
            // Several nodes share the machine: ports by chance, and a session directory each (in a common one they race
            // for the names of their sockets). Short, because the path of a socket may have 107 characters.
            .args(["--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0"])
            .arg(format!("--temp-dir={}", self.directory.join(session).display()))
            .env("RAY_CLOUD_INSTANCE_ID", &spec.instance_id)
            .env("RAY_NODE_TYPE_NAME", &spec.group);
        if !spec.labels.is_empty() {
            let labels: Vec<String> = spec.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            command.arg(format!("--labels={}", labels.join(",")));
        }
        command
    }

    /// A program of this Ray (`ray`, `python`), in the environment of this cluster.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.part.bin.join(program));
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{}:{path}", self.part.bin.display()))
            .env("RAY_enable_autoscaler_v2", "1")
            .env("RAY_USAGE_STATS_ENABLED", "0")
            // Without it a token that lies about on the machine would turn authentication on.
            .env("RAY_AUTH_MODE", "disabled")
            .envs(self.env.iter().cloned())
            .current_dir(&self.directory);
        command
    }

    /// Address of the GCS.
    pub fn gcs_address(&self) -> String {
        format!("{}:{}", self.head_ip(), self.port)
    }

    /// Port of the GCS.
    pub fn gcs_port(&self) -> u16 {
        self.port
    }

    /// IP address of the head.
    pub fn head_ip(&self) -> String {
        self.network.address(1)
    }

    /// A client of the GCS.
    pub fn client(&self) -> Result<Client> {
        gcs::client(&self.gcs_address(), &self.env)
    }

    /// What `ray status` prints.
    pub async fn status(&self, flags: &[&str]) -> Result<String> {
        let mut command = self.command("ray");
        command.args(["status", "--address", &self.gcs_address()]).args(flags);
        let output = tokio::process::Command::from(command).output().await.context("could not start ray")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "ray status failed: {text}{}", String::from_utf8_lossy(&output.stderr));
        Ok(text)
    }
}

/// Waits until `ray start` says that it has done its part.
async fn started(node: &mut Process) -> Result<()> {
    let start = Instant::now();
    while !node.log().contains("Ray runtime started") {
        node.must_run()?;
        ensure!(start.elapsed() < START_LIMIT, "Ray has not started; the end of its log:\n{}", node.tail(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

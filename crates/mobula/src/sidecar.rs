//! `mobula sidecar`: reads the environment, makes the clients, and runs the loop until it is told to stop.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, anyhow};
use clap::{ArgAction, builder::BoolishValueParser};
use mobula_api::{DEFAULT_GCS_PORT, RayCluster};
use mobula_autoscaler::{
    clock::Clock,
    kube_access::KubeAccess,
    pace::{Backoffs, Pace},
    recorder::RecorderConfig,
    sidecar::{Sidecar, SidecarConfig},
    snapshot::SnapshotOptions,
};
use mobula_planner::PolicyOptions;
use tokio::signal::unix::{SignalKind, signal};

use crate::{cli::EXIT_BAD_INPUT, input, policy};

/// Where Kubernetes puts what a pod needs to speak to its API server.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Arguments of `mobula sidecar`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the RayCluster
    #[arg(long, env = "RAY_CLUSTER_NAME")]
    cluster_name: String,
    /// Its namespace
    #[arg(long, env = "RAY_CLUSTER_NAMESPACE")]
    cluster_namespace: String,
    /// Address of the GCS [default: this host's, at the port of the head's rayStartParams]
    #[arg(long, value_name = "HOST:PORT")]
    gcs_address: Option<String>,
    /// How to decide
    #[arg(long, env = "MOBULA_POLICY", default_value = "mobula", value_name = "NAME")]
    policy: String,
    /// Spend the work of about so many ms in each tick on making the plan cheaper
    #[arg(long, env = "MOBULA_IMPROVE", value_name = "MS", default_value_t = 0)]
    improve: u64,
    /// Never put requests without GPU on GPU nodes, not even if nothing else can take them
    #[arg(long, env = "MOBULA_KEEP_GPU_CLEAN", value_parser = BoolishValueParser::new())]
    keep_gpu_clean: bool,
    /// Name nodes that could be drained because others have room for all that they run (in `mobula explain`, for instance); nobody
    /// drains them
    #[arg(long, env = "MOBULA_DEFRAGMENT", value_parser = BoolishValueParser::new())]
    defragment: bool,
    /// What a pod of each group costs an hour: see `mobula plan --help`. Read again when it changes; while it can't be used,
    /// the older prices stay
    #[arg(long, env = "MOBULA_PRICES", value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Which labels say how near nodes are to each other: see `mobula plan --help`
    #[arg(long, env = "MOBULA_TOPOLOGY", value_name = "NAME|FILE", default_value = "auto")]
    topology: String,

    /// Shortest time between two polls of the GCS, in ms [default: 200, or AUTOSCALER_UPDATE_INTERVAL_S]
    #[arg(long, value_name = "MS")]
    min_poll_interval_ms: Option<u64>,
    /// A poll waits at least so many times as long as the GCS took for its last answer
    #[arg(long, default_value_t = 50.0, value_name = "FACTOR")]
    poll_cost_factor: f64,
    /// Most pods on their way at once [default: no limit; Ray's own is 10]
    #[arg(long, env = "AUTOSCALER_MAX_CONCURRENT_LAUNCHES", value_name = "PODS")]
    max_in_flight: Option<u32>,
    /// Whether requests without GPU are kept off GPU nodes where another node will do
    #[arg(
        long,
        env = "AUTOSCALER_CONSERVE_GPU_NODES",
        default_value = "1",
        value_parser = parse_switch,
        action = ArgAction::Set,
        value_name = "0|1"
    )]
    conserve_gpu: bool,
    /// Keep nodes that Ray calls idle but that still hold objects, or don't say whether they do
    #[arg(long)]
    keep_object_holders: bool,
    /// Give a pod up that has not become a Ray node after this time
    #[arg(long, env = "RAY_AUTOSCALER_RECONCILE_ALLOCATE_STATUS_TIMEOUT_S", default_value_t = 3600, value_name = "S")]
    allocation_timeout_s: u32,
    /// A group that failed counts as fully available again after this time
    #[arg(long, env = "RAY_AUTOSCALER_AVAILABILITY_RECOVERY_S", default_value_t = 600, value_name = "S")]
    availability_recovery_s: u32,
    /// Give a pending pod up that nothing has needed for this time; negative: never
    #[arg(
        long,
        env = "RAY_AUTOSCALER_PENDING_NODE_IDLE_TIMEOUT_S",
        default_value_t = -1,
        allow_negative_numbers = true,
        value_name = "S"
    )]
    pending_idle_timeout_s: i64,
    /// After a restart of the head, delete nothing before running pods have registered or this time has passed
    #[arg(long, default_value_t = 120, value_name = "S")]
    view_grace_s: u64,

    /// Port of /metrics, /healthz, /readyz and /explain; 0: none
    #[arg(long, env = "AUTOSCALER_METRIC_PORT", default_value_t = 44217, value_name = "PORT")]
    metrics_port: u16,
    /// Directory of the flight recorder [default: in memory, to be read from /recording]
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Most MiB that the flight recorder keeps; 0: nothing
    #[arg(long, default_value_t = 4, value_name = "MIB")]
    record_limit_mib: u64,
    /// Whether Ray's event file is written, for drivers to print
    #[arg(
        long,
        env = "RAY_SCHEDULER_EVENTS",
        default_value = "1",
        value_parser = parse_switch,
        action = ArgAction::Set,
        value_name = "0|1"
    )]
    ray_events: bool,
    /// Form of the log
    #[arg(long, default_value = "text", value_name = "text|json")]
    log_format: LogFormat,
    /// What is logged, in tracing's directives
    #[arg(long, env = "MOBULA_LOG", default_value = "info", value_name = "FILTER")]
    log: String,

    /// Version of RayCluster that is spoken
    #[arg(long, env = "KUBERAY_CRD_VER", default_value = "v1", value_name = "VERSION")]
    crd_version: String,
    /// Limit of every request to the API server
    #[arg(long, env = "KUBERAY_REQUEST_TIMEOUT_S", default_value_t = 60, value_name = "S")]
    kube_timeout_s: u64,
    /// Use this kubeconfig instead of the pod's service account
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

#[derive(Copy, Clone, Debug, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn parse_switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err("must be 0 or 1".to_owned()),
    }
}

/// The operating system's clock.
struct SystemClock;

impl Clock for SystemClock {
    fn now_unix_ms(&self) -> i64 {
        // Before 1970: as good as any other wrong time.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }
}

/// Runs it.
pub fn run(args: &Args) -> ExitCode {
    if let Err(error) = start_log(args) {
        eprintln!("mobula: {error:#}");
        return ExitCode::from(EXIT_BAD_INPUT);
    }
    let config = match sidecar_config(args) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("mobula: {error:#}");
            return ExitCode::from(EXIT_BAD_INPUT);
        }
    };
    // Fails only if somebody has installed one before: then that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ended = runtime.context("no async runtime").and_then(|runtime| runtime.block_on(run_sidecar(args, config)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_log(args: &Args) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&args.log).with_context(|| format!("--log {}", args.log))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match args.log_format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

fn sidecar_config(args: &Args) -> anyhow::Result<SidecarConfig> {
    let policy_options = PolicyOptions {
        improve_work: policy::improve_work(args.improve),
        keep_gpu_clean: args.keep_gpu_clean,
        defragment: args.defragment,
    };
    let policy = policy::named(&args.policy, &policy_options)?;
    let topology = input::topology(&args.topology)?;
    let seconds_to_ms = |seconds: u32| i64::from(seconds) * 1000;
    let own_ip = own_ip();
    let is_local = args.gcs_address.as_deref().is_some_and(is_loopback);
    let host = if is_local { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { own_ip };
    let bind = match host {
        _ if is_local => host,
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    Ok(SidecarConfig {
        crd_version: args.crd_version.clone(),
        kube_timeout: Duration::from_secs(args.kube_timeout_s.max(1)),
        policy,
        policy_options,
        snapshot: SnapshotOptions {
            max_in_flight: args.max_in_flight,
            conserve_gpu_nodes: args.conserve_gpu,
            pending_idle_timeout_ms: (args.pending_idle_timeout_s >= 0)
                .then(|| args.pending_idle_timeout_s.saturating_mul(1000)),
            allocation_timeout_ms: seconds_to_ms(args.allocation_timeout_s),
            availability_recovery_ms: seconds_to_ms(args.availability_recovery_s),
            topology: topology.levels,
            ..SnapshotOptions::default()
        },
        hypernodes: topology.hypernodes,
        prices: args.prices.clone(),
        pace: pace(args)?,
        view_grace: Duration::from_secs(args.view_grace_s),
        keep_object_holders: args.keep_object_holders,
        listen: (args.metrics_port != 0).then(|| SocketAddr::new(bind, args.metrics_port)),
        advertised_host: url_host(host),
        recorder: RecorderConfig {
            directory: args.record.clone(),
            limit_bytes: args.record_limit_mib.saturating_mul(1 << 20),
            ..RecorderConfig::default()
        },
        ray_events: args.ray_events,
        hostname: std::env::var("HOSTNAME").unwrap_or_default(),
        process_id: std::process::id(),
        ..SidecarConfig::new(&args.cluster_namespace, &args.cluster_name)
    })
}

fn pace(args: &Args) -> anyhow::Result<Pace> {
    let min_interval = match (args.min_poll_interval_ms, std::env::var("AUTOSCALER_UPDATE_INTERVAL_S")) {
        (Some(ms), _) => Duration::from_millis(ms),
        (None, Ok(seconds)) => {
            let seconds: f64 = seconds.parse().with_context(|| format!("AUTOSCALER_UPDATE_INTERVAL_S={seconds}"))?;
            Duration::try_from_secs_f64(seconds).with_context(|| format!("AUTOSCALER_UPDATE_INTERVAL_S={seconds}"))?
        }
        (None, Err(_)) => Pace::default().min_interval,
    };
    if !(args.poll_cost_factor.is_finite() && args.poll_cost_factor >= 0.0) {
        return Err(anyhow!("--poll-cost-factor {}: must be 0 or more", args.poll_cost_factor));
    }
    Ok(Pace { min_interval, cost_factor: args.poll_cost_factor, ..Pace::default() })
}

fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// An address as it stands before `:<port>`.
fn url_host(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// The address by which others reach this host: the one from which it would speak to the outside. Nothing is sent.
fn own_ip() -> IpAddr {
    let towards = |any: IpAddr, outside: IpAddr| -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((outside, 53))?;
        Ok(socket.local_addr()?.ip())
    };
    let v4 = || towards(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(8, 8, 8, 8).into());
    let v6 = || towards(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888).into());
    v4().or_else(|_| v6()).unwrap_or(Ipv4Addr::LOCALHOST.into())
}

async fn run_sidecar(args: &Args, config: SidecarConfig) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("can't wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't wait for SIGINT")?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::pin!(stop);
    let find = async {
        let kube = kube_client(args).await?;
        let endpoints = gcs_endpoints(args, &config, &kube).await;
        anyhow::Ok((kube, endpoints))
    };
    let (kube, endpoints) = tokio::select! {
        found = find => found?,
        () = &mut stop => return Ok(()),
    };
    tracing::info!(gcs = endpoints.join(", "), cluster = config.cluster, namespace = config.namespace, "starting");
    let gcs_config = mobula_gcs::Config::from_env(endpoints, &|name| std::env::var(name).ok())?;
    let gcs = mobula_gcs::Client::new(gcs_config)?;
    Box::pin(Sidecar::new(config, kube, gcs, Arc::new(SystemClock))?.run(stop)).await?;
    Ok(())
}

/// Where the GCS may be, in the order in which it is tried.
async fn gcs_endpoints(args: &Args, config: &SidecarConfig, kube: &kube::Client) -> Vec<String> {
    if let Some(address) = &args.gcs_address {
        return vec![address.clone()];
    }
    let (port, service) = match read_cluster(config, kube).await {
        Some(cluster) => (cluster.gcs_port(), Some(cluster.gcs_endpoint())),
        None => (DEFAULT_GCS_PORT, None),
    };
    let own = SocketAddr::new(own_ip(), port).to_string();
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
    [own, local].into_iter().chain(service).collect()
}

/// Reads the RayCluster, however long it takes; `None` if it can't be understood.
async fn read_cluster(config: &SidecarConfig, kube: &kube::Client) -> Option<RayCluster> {
    let access =
        KubeAccess::new(kube.clone(), &config.namespace, &config.cluster, &config.crd_version, config.kube_timeout);
    let mut backoffs = Backoffs::new();
    loop {
        match access.get_cluster().await {
            Ok(value) => {
                return RayCluster::from_value(value)
                    .inspect_err(|error| tracing::warn!(%error, "RayCluster: assuming GCS port {DEFAULT_GCS_PORT}"))
                    .ok();
            }
            Err(error) => {
                let wait = backoffs.fail(error.kind, error.kind.backoff(), error.retry_after);
                tracing::warn!(%error, wait_s = wait.as_secs_f64(), "waiting for the RayCluster");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

async fn kube_client(args: &Args) -> anyhow::Result<kube::Client> {
    let mut config = match &args.kubeconfig {
        Some(path) => {
            let file = kube::config::Kubeconfig::read_from(path)?;
            kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await?
        }
        None => pod_config()?,
    };
    // The loop has back-offs of its own, by cause; a silent second layer would hide what happens.
    config.default_retry = false;
    Ok(kube::Client::try_from(config)?)
}

/// What Ray's autoscaler reads: the environment of the pod and the files of its service account.
pub fn pod_config() -> anyhow::Result<kube::Config> {
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let host = env("KUBERNETES_SERVICE_HOST").unwrap_or_else(|| "kubernetes.default".into());
    let port = env("KUBERNETES_SERVICE_PORT_HTTPS").unwrap_or_else(|| "443".into());
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
    let url = format!("https://{host}:{port}");
    let uri = url.parse().with_context(|| format!("KUBERNETES_SERVICE_HOST and _PORT_HTTPS make no URL: {url}"))?;
    let mut config = kube::Config::new(uri);
    let ca = env("RAY_KUBERAY_CA_CERT_PATH").unwrap_or_else(|| format!("{SERVICE_ACCOUNT}/ca.crt"));
    if !Path::new(&ca).exists() {
        return Err(anyhow!("{ca}: no CA certificate of the API server there; not in a pod? Then give --kubeconfig"));
    }
    config.root_cert_file = Some(PathBuf::from(ca));
    let token = format!("{SERVICE_ACCOUNT}/token");
    if Path::new(&token).exists() {
        config.auth_info.token_file = Some(token);
    }
    match (env("RAY_KUBERAY_CLIENT_CERT_PATH"), env("RAY_KUBERAY_CLIENT_KEY_PATH")) {
        (Some(certificate), Some(key)) => {
            config.auth_info.client_certificate = Some(certificate);
            config.auth_info.client_key = Some(key);
        }
        (None, None) => {}
        _ => {
            return Err(anyhow!(
                "RAY_KUBERAY_CLIENT_CERT_PATH and RAY_KUBERAY_CLIENT_KEY_PATH must be set both or not at all"
            ));
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_addresses_are_recognised() {
        for address in ["127.0.0.1:6379", "localhost:6379", "[::1]:6379"] {
            assert!(is_loopback(address), "{address}");
        }
        assert!(!is_loopback("10.0.0.1:6379"));
    }

    #[test]
    fn an_ipv6_address_stands_in_brackets_before_a_port() {
        assert_eq!(url_host("10.0.0.7".parse().unwrap()), "10.0.0.7");
        assert_eq!(url_host("fd00::7".parse().unwrap()), "[fd00::7]");
    }

    #[test]
    fn switches_take_a_value_on_the_command_line() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            args: Args,
        }
        let words = ["sidecar", "--cluster-name=a", "--cluster-namespace=n", "--conserve-gpu", "0", "--ray-events=0"];
        let args = <Cli as clap::Parser>::parse_from(words).args;
        assert!(!args.conserve_gpu && !args.ray_events);
    }

    #[test]
    fn switches_are_what_ray_takes() {
        assert_eq!(parse_switch("1"), Ok(true));
        assert_eq!(parse_switch("False"), Ok(false));
        assert!(parse_switch("maybe").is_err());
    }
}

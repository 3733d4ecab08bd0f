//! `mobula operator`: takes KubeRay's flags and environment, makes the client, and runs the operator until it is told to stop.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use clap::{ArgAction, builder::BoolishValueParser};
use mobula_api::Gate;
use mobula_operator::{
    config::{BatchScheduler, Config},
    frame::http,
    operator::{Beside, Ended, Operator, Surroundings},
    webhook::{self, CertificateFiles},
};
use tokio::{
    net::TcpListener,
    runtime::{Handle, Runtime},
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
};

use crate::{cli::EXIT_BAD_INPUT, operator_flags::OperatorFlags, sidecar};

/// Where a pod finds the name of its namespace.
const OWN_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Arguments of `mobula operator`. The names are KubeRay's.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
KubeRay's environment variables are read, too: ENABLE_INIT_CONTAINER_INJECTION, ENABLE_PROBES_INJECTION, CLUSTER_DOMAIN, ENABLE_RANDOM_POD_DELETE, \
ENABLE_GCS_FT_REDIS_CLEANUP, ENABLE_DETERMINISTIC_HEAD_POD_NAME, ENABLE_RAY_HEAD_CLUSTER_IP_SERVICE, ENABLE_LOGIN_SHELL, ENABLE_WEBHOOKS, \
USE_INGRESS_ON_OPENSHIFT.
Exit status: 0 when told to stop; 1 when the leadership is lost or something fails; 2 if an argument can't be used.")]
pub struct Args {
    #[command(flatten)]
    flags: OperatorFlags,
    /// Where /metrics is served, as HOST:PORT or :PORT; 0: nowhere [default: :8080]
    #[arg(long, value_name = "ADDRESS")]
    metrics_addr: Option<String>,
    /// Where /healthz and /readyz are served; 0: nowhere [default: :8082]
    #[arg(long, value_name = "ADDRESS")]
    health_probe_bind_address: Option<String>,
    /// Where the validating webhook is served, over HTTPS, if ENABLE_WEBHOOKS is true
    #[arg(long, value_name = "ADDRESS", default_value = ":9443")]
    webhook_bind_address: String,
    /// Directory of the webhook's tls.crt and tls.key, which are read again when they change
    #[arg(long, value_name = "DIRECTORY", default_value = "/tmp/k8s-webhook-server/serving-certs")]
    webhook_cert_dir: PathBuf,
    /// Act only while holding the Lease ray-operator-leader, KubeRay's own [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    enable_leader_election: Option<bool>,
    /// Namespace of the Lease [default: the operator's own]
    #[arg(long, value_name = "NAMESPACE")]
    leader_election_namespace: Option<String>,
    /// Objects of a kind that are worked on at once; at least 32, for none waits for another
    #[arg(long, value_name = "COUNT")]
    reconcile_concurrency: Option<u32>,
    /// Namespaces that are looked at, with commas between [default: all]
    #[arg(long, value_name = "NAMESPACES", value_delimiter = ',')]
    watch_namespace: Vec<String>,
    /// Serve metrics of the RayClusters, too [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    enable_metrics: Option<bool>,
    /// Requests a second to the API server; 0: no limit of our own [default: 0; KubeRay's is 100]
    #[arg(long, value_name = "COUNT")]
    qps: Option<f64>,
    /// Requests that may come at once, where --qps limits them [default: 200]
    #[arg(long, value_name = "COUNT")]
    burst: Option<u32>,
    /// Use this kubeconfig instead of the pod's service account
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Form of the log: json or console
    #[arg(long, value_name = "FORM", default_value = "json")]
    log_stdout_encoder: Encoder,
    /// What is logged, in tracing's directives
    #[arg(long, env = "MOBULA_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    /// Use Volcano; KubeRay's older form of --batch-scheduler=volcano
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    enable_batch_scheduler: bool,
    #[command(flatten)]
    without_effect: WithoutEffect,
}

/// Flags of KubeRay's that are taken so that its manifests go on working, and change nothing.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Taken for KubeRay's sake, without effect")]
struct WithoutEffect {
    /// Has no effect in KubeRay, too
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    forced_cluster_upgrade: Option<String>,
    /// The log goes to standard error only
    #[arg(long)]
    log_file_path: Option<String>,
    /// See --log-file-path
    #[arg(long)]
    log_file_encoder: Option<String>,
    /// Is for RayJob and RayService
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    use_kubernetes_proxy: Option<String>,
    /// See --log
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    zap_devel: Option<String>,
    /// See --log-stdout-encoder
    #[arg(long)]
    zap_encoder: Option<String>,
    /// See --log
    #[arg(long)]
    zap_log_level: Option<String>,
    /// See --log
    #[arg(long)]
    zap_stacktrace_level: Option<String>,
    /// Times are RFC 3339
    #[arg(long)]
    zap_time_encoding: Option<String>,
}

#[derive(Copy, Clone, Debug, clap::ValueEnum)]
enum Encoder {
    Json,
    Console,
}

impl WithoutEffect {
    fn given(&self) -> Vec<&'static str> {
        let flags = [
            ("--forced-cluster-upgrade", &self.forced_cluster_upgrade),
            ("--log-file-path", &self.log_file_path),
            ("--log-file-encoder", &self.log_file_encoder),
            ("--use-kubernetes-proxy", &self.use_kubernetes_proxy),
            ("--zap-devel", &self.zap_devel),
            ("--zap-encoder", &self.zap_encoder),
            ("--zap-log-level", &self.zap_log_level),
            ("--zap-stacktrace-level", &self.zap_stacktrace_level),
            ("--zap-time-encoding", &self.zap_time_encoding),
        ];
        flags.into_iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name).collect()
    }
}

/// Runs it.
pub fn run(args: &Args) -> ExitCode {
    let prepared = start_log(args).and_then(|()| {
        let config = args.flags.config(env).map_err(anyhow::Error::from)?;
        with_flags(config, args)
    });
    let config = match prepared {
        Ok(config) => config,
        Err(error) => {
            eprintln!("mobula: {error:#}");
            return ExitCode::from(EXIT_BAD_INPUT);
        }
    };
    for name in args.without_effect.given().into_iter().chain(without_effect(&config, env)) {
        tracing::warn!("{name} has no effect here");
    }
    // Fails only if somebody has installed one before: then that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ended = runtime().and_then(|runtime| {
        // Not dropped where something else is awaited: that would panic.
        let work = Arc::new(self::runtime()?);
        runtime.block_on(run_operator(args, config, &work))
    });
    match ended {
        Ok(Ended::Stopped) => ExitCode::SUCCESS,
        Ok(Ended::LeadershipLost) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What the configuration file and the environment say that changes nothing.
fn without_effect(config: &Config, env: impl Fn(&str) -> Option<String>) -> Vec<&'static str> {
    // What has to be looked at again has a time of its own; nothing is looked at for no reason.
    let requeue = "RAYCLUSTER_DEFAULT_REQUEUE_SECONDS_ENV";
    // States, suspension and what users wait for are told by conditions: there is no operator without.
    let no_conditions = !config.gates.has(Gate::RayClusterStatusConditions);
    let said = [
        ("--feature-gates RayClusterStatusConditions=false", no_conditions),
        (requeue, env(requeue).is_some_and(|text| !text.is_empty())),
        ("useKubernetesProxy in the configuration file", config.process.kubernetes_proxy),
        ("logFile in the configuration file", !config.process.log_file.is_empty()),
    ];
    said.into_iter().filter(|(_, is_said)| *is_said).map(|(name, _)| name).collect()
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn start_log(args: &Args) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&args.log).with_context(|| format!("--log {}", args.log))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match args.log_stdout_encoder {
        Encoder::Console => log.with_ansi(false).init(),
        Encoder::Json => log.json().init(),
    }
    Ok(())
}

/// The process' own flags over what file and environment say.
fn with_flags(mut config: Config, args: &Args) -> anyhow::Result<Config> {
    config.process.qps = args.qps.unwrap_or(config.process.qps);
    if args.enable_batch_scheduler {
        match config.batch_scheduler.get_or_insert(BatchScheduler::Volcano) {
            BatchScheduler::Volcano => {}
            other => anyhow::bail!(
                "--enable-batch-scheduler means volcano, and --batch-scheduler names {other:?}: leave the first one out"
            ),
        }
    }
    if !args.watch_namespace.is_empty() {
        let namespaces = args.watch_namespace.iter().map(|name| name.trim().to_owned());
        config.watch_namespaces = namespaces.filter(|name| !name.is_empty()).collect();
    }
    config.watch_namespaces.sort();
    config.watch_namespaces.dedup();
    let process = &mut config.process;
    process.burst = args.burst.unwrap_or(process.burst);
    process.metrics = args.enable_metrics.unwrap_or(process.metrics);
    process.concurrency = args.reconcile_concurrency.unwrap_or(process.concurrency);
    process.leader_election = args.enable_leader_election.unwrap_or(process.leader_election);
    let overrides = [
        (&args.metrics_addr, &mut process.metrics_address),
        (&args.health_probe_bind_address, &mut process.probe_address),
        (&args.leader_election_namespace, &mut process.leader_election_namespace),
    ];
    for (flag, place) in overrides {
        if let Some(flag) = flag {
            place.clone_from(flag);
        }
    }
    address("--metrics-addr", &process.metrics_address)?;
    address("--health-probe-bind-address", &process.probe_address)?;
    if process.leader_election && process.leader_election_namespace.is_empty() {
        process.leader_election_namespace = std::fs::read_to_string(OWN_NAMESPACE).context(
            "no namespace for the Lease: outside of a pod, give --leader-election-namespace or --enable-leader-election=false",
        )?;
    }
    Ok(config)
}

/// An address as Go writes it; `None`: nowhere.
fn address(flag: &str, text: &str) -> anyhow::Result<Option<SocketAddr>> {
    if text == "0" || text.is_empty() {
        return Ok(None);
    }
    let whole = if text.starts_with(':') { format!("[::]{text}") } else { text.replace("localhost:", "127.0.0.1:") };
    let parsed =
        whole.parse().with_context(|| format!("{flag}: {text}: must be HOST:PORT, :PORT, or 0 for nowhere"))?;
    Ok(Some(parsed))
}

/// Listens at an address. That of all interfaces is one of IPv4 and IPv6, as Go has it; where there is no IPv6, of IPv4 alone.
async fn listen(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = match TcpListener::bind(address).await {
        Err(_) if address.ip() == Ipv6Addr::UNSPECIFIED => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    };
    bound.with_context(|| format!("{flag}: {address}"))
}

/// A runtime on one thread: requests and watches are so small that handing them over between threads costs more than it saves.
fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("no async runtime")
}

/// Reconciles on a thread of its own, on which `work` runs. The Lease, probes, metrics and the webhook stay on this one, and
/// wait for no pass.
async fn run_operator(args: &Args, mut config: Config, work: &Arc<Runtime>) -> anyhow::Result<Ended> {
    let mut terminate = signal(SignalKind::terminate()).context("can't wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't wait for SIGINT")?;
    let (stop, stopped) = watch::channel(false);
    let (alive, is_alive) = watch::channel(true);
    let access = kube_config(args).await?;
    let client = kube_client(access.clone(), work.handle())?;
    let lease = Beside { client: kube_client(access, &Handle::current())?, runtime: Handle::current() };
    let groups = lease.client.list_api_groups().await.context("can't ask the API server what it serves")?;
    config.found_groups(groups.groups.iter().map(|group| group.name.as_str()));
    let hostname = env("HOSTNAME").unwrap_or_default();
    let token = random();
    let suffix: String = token.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let surroundings = Surroundings {
        client,
        lease: Some(lease),
        clock: Arc::new(now_unix_ms),
        random: Arc::new(random),
        identity: format!("{}_{suffix}", if hostname.is_empty() { "mobula" } else { &hostname }),
        lease_namespace: config.process.leader_election_namespace.trim().to_owned(),
        instance: hostname,
    };
    let (metrics_address, probe_address) =
        (config.process.metrics_address.clone(), config.process.probe_address.clone());
    let with_resources = config.process.metrics;
    if env("ENABLE_WEBHOOKS").as_deref() == Some("true") {
        serve_webhook(args, &config, stopped.clone()).await?;
    }
    tracing::info!(version = config.version(), namespaces = config.watch_namespaces.join(","), "starting");
    let operator = Operator::new(config, surroundings);
    let board =
        http::Board { metrics: operator.metrics.clone(), world: operator.world.clone(), with_resources, is_alive };
    let addresses = [("--metrics-addr", metrics_address), ("--health-probe-bind-address", probe_address)];
    for (flag, text) in addresses {
        if let Some(address) = address(flag, &text)? {
            let listener = listen(flag, address).await?;
            let mut stopped = stopped.clone();
            let until = async move {
                let _ = stopped.wait_for(|stopped| *stopped).await;
            };
            tokio::spawn(http::serve(listener, board.clone(), until));
        }
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop");
        let _ = alive.send(false);
        let _ = stop.send(true);
    });
    let (tell, ended) = oneshot::channel();
    let work = Arc::clone(work);
    let reconcile = move || {
        // Nobody listens any more: the process ends.
        let _ = tell.send(work.block_on(operator.run(stopped)));
    };
    thread::Builder::new().name("reconcile".to_owned()).spawn(reconcile).context("no thread to reconcile on")?;
    ended.await.context("the thread that reconciles has ended")
}

/// Serves the webhook, also while another operator leads. What can't be served at the start is an error.
async fn serve_webhook(args: &Args, config: &Config, mut stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
    let flag = "--webhook-bind-address";
    let Some(address) = address(flag, &args.webhook_bind_address)? else { return Ok(()) };
    let certificate = CertificateFiles::in_directory(&args.webhook_cert_dir);
    certificate.check().await.context("--webhook-cert-dir")?;
    let listener = listen(flag, address).await?;
    let rules = config.rules();
    tokio::spawn(async move {
        let until = async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        if let Err(error) = webhook::serve(listener, certificate, rules, until).await {
            tracing::error!("{error}");
        }
    });
    Ok(())
}

fn now_unix_ms() -> i64 {
    // Before 1970: as good as any other wrong time.
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    // Fails on no system that Mobula runs on; a token of zeros must not come of it.
    if rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes).is_err() {
        tracing::error!("the system has no random numbers");
        std::process::exit(1);
    }
    bytes
}

async fn kube_config(args: &Args) -> anyhow::Result<kube::Config> {
    let mut config = match &args.kubeconfig {
        Some(path) => {
            let file = kube::config::Kubeconfig::read_from(path)?;
            kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await?
        }
        None => sidecar::pod_config()?,
    };
    // The executor has back-offs of its own, by cause; a silent second layer would hide what happens.
    config.default_retry = false;
    Ok(config)
}

/// A client that works on `runtime`.
fn kube_client(config: kube::Config, runtime: &Handle) -> kube::Result<kube::Client> {
    let _guard = runtime.enter();
    kube::Client::try_from(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(words: &[&str]) -> Args {
        <Cli as clap::Parser>::parse_from(std::iter::once("operator").chain(words.iter().copied())).args
    }

    #[test]
    fn the_arguments_of_kuberays_chart_are_taken() {
        let args = args(&[
            "--watch-namespace",
            "b,a, a",
            "--enable-leader-election=false",
            "--log-file-encoder=json",
            "--feature-gates=RayClusterStatusConditions=true,RayJobDeletionPolicy=true",
            "--batch-scheduler=volcano",
            "--enable-metrics",
            "--reconcile-concurrency=4",
            "--qps=100",
            "--burst=200",
            "--zap-devel",
        ]);
        assert_eq!(args.without_effect.given(), ["--log-file-encoder", "--zap-devel"]);
        let config = with_flags(args.flags.config(|_| None).unwrap(), &args).unwrap();
        assert_eq!(config.watch_namespaces, ["a", "b"]);
        assert!(config.process.metrics && !config.process.leader_election);
        assert_eq!((config.process.qps, config.process.burst, config.process.concurrency), (100.0, 200, 4));
    }

    #[test]
    fn what_a_file_says_counts_where_no_flag_does_and_what_changes_nothing_is_told() {
        let mut file = Config::default();
        assert!(without_effect(&file, |_| None).is_empty());
        file.read_file("qps: 50\nuseKubernetesProxy: true\nlogFile: x").unwrap();
        let of_file = |words: &[&str]| {
            let words: Vec<&str> = words.iter().copied().chain(["--enable-leader-election=false"]).collect();
            with_flags(file.clone(), &args(&words)).unwrap().process.qps
        };
        assert_eq!((of_file(&[]), of_file(&["--qps=7"])), (50.0, 7.0));
        assert_eq!(without_effect(&file, |_| Some("60".to_owned())).len(), 3);
        file.gates.set(Gate::RayClusterStatusConditions, false);
        assert_eq!(without_effect(&file, |_| None)[0], "--feature-gates RayClusterStatusConditions=false");
    }

    #[test]
    fn two_batch_schedulers_are_one_too_many() {
        let scheduler = |words: &[&str]| {
            let words: Vec<&str> = words.iter().copied().chain(["--enable-leader-election=false"]).collect();
            let args = args(&words);
            with_flags(args.flags.config(|_| None).unwrap(), &args).map(|config| config.batch_scheduler)
        };
        let volcano = Some(BatchScheduler::Volcano);
        assert_eq!(scheduler(&["--enable-batch-scheduler"]).unwrap(), volcano);
        assert_eq!(scheduler(&["--enable-batch-scheduler", "--batch-scheduler=volcano"]).unwrap(), volcano);
        let refused = scheduler(&["--enable-batch-scheduler", "--batch-scheduler=yunikorn"]).unwrap_err();
        assert!(refused.to_string().contains("YuniKorn"), "{refused}");
    }

    #[test]
    fn addresses_are_gos() {
        assert_eq!(address("f", ":8080").unwrap(), Some("[::]:8080".parse().unwrap()));
        assert_eq!(address("f", "localhost:1").unwrap(), Some("127.0.0.1:1".parse().unwrap()));
        assert_eq!(address("f", "0").unwrap(), None);
        assert!(address("f", "nonsense").is_err());
    }

    #[tokio::test]
    async fn all_interfaces_are_those_of_ipv4_too() {
        let listener = listen("f", "[::]:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok());
    }
}

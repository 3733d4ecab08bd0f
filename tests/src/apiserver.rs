//! A real etcd and a real kube-apiserver with KubeRay's RayCluster definition, RBAC on and every request in an audit log.
//!
//! No controller runs beside them, unless [`crate::control_plane`] starts some: nothing is garbage-collected, no default
//! account appears, quotas count only what is created after their status was set by hand ([`Namespace::set_pod_quota`]).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::certificates::{self, Authority, Certificate, Files};
use crate::process::{self, Process, free_port};
use crate::{parts, wait};

/// How long the server may take to be ready and to serve RayClusters, on a machine that is busy with other things.
const START_LIMIT: Duration = Duration::from_secs(120);

/// Every request, but for those of the stand-ins.
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\n\
                            rules: [{level: None, users: [stand-in]}, {level: Request, users: [recorded], verbs: [create]}, \
                             {level: Metadata}]\n";

/// The running server.
pub struct ApiServer {
    port: u16,
    authority: Authority,
    admin: Certificate,
    audit_log: PathBuf,
    ca_file: PathBuf,
    processes: Mutex<Vec<Process>>,
    directory: PathBuf,
}

/// A namespace with an account that has exactly the stock Role of KubeRay's autoscaler.
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// The account's name, which is also that of the RayCluster.
    pub account: String,
    /// May do anything.
    pub admin: kube::Client,
    /// What the account says who it is.
    pub credentials: Credentials,
    audit_log: PathBuf,
}

/// What a process needs to speak to the server as one account.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Address of the server.
    pub host: String,
    /// Port of the server.
    pub port: u16,
    /// The authority that signed the server's certificate.
    pub ca_file: PathBuf,
    /// The account's own certificate.
    pub client: Files,
}

impl Credentials {
    /// The environment by which `mobula` finds them.
    pub fn env(&self) -> [(&'static str, OsString); 5] {
        [
            ("KUBERNETES_SERVICE_HOST", self.host.clone().into()),
            ("KUBERNETES_SERVICE_PORT_HTTPS", self.port.to_string().into()),
            ("RAY_KUBERAY_CA_CERT_PATH", self.ca_file.clone().into()),
            ("RAY_KUBERAY_CLIENT_CERT_PATH", self.client.certificate.clone().into()),
            ("RAY_KUBERAY_CLIENT_KEY_PATH", self.client.key.clone().into()),
        ]
    }
}

/// A request as the audit log has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Audited {
    /// get, list, watch, patch, …
    pub verb: String,
    /// Resource, with the subresource after a slash.
    pub resource: String,
    /// HTTP status of the answer.
    pub code: i64,
}

impl ApiServer {
    /// The one server of this test program, started when it is first asked for.
    pub async fn shared() -> Result<&'static ApiServer> {
        ApiServer::shared_with(&parts::raycluster_crd()?).await
    }

    /// The same, with another definition of RayCluster: that of whoever asks first.
    pub async fn shared_with(definition: &Path) -> Result<&'static ApiServer> {
        static SHARED: OnceCell<ApiServer> = OnceCell::const_new();
        let server = SHARED.get_or_try_init(async || ApiServer::start(&[definition]).await).await?;
        for process in server.processes.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).iter_mut() {
            process.must_run()?;
        }
        Ok(server)
    }

    /// One of its own, with these definitions and no controllers.
    pub async fn start(definitions: &[&Path]) -> Result<ApiServer> {
        // No default account appears, and pods would be refused for want of one.
        ApiServer::start_with(definitions, &["--disable-admission-plugins=ServiceAccount"]).await
    }

    /// One of its own, with these definitions and further flags.
    pub async fn start_with(definitions: &[&Path], flags: &[&str]) -> Result<ApiServer> {
        // The shared one is never dropped: the directory goes when this program ends.
        let directory =
            tempfile::Builder::new().prefix("mobula-api-").tempdir().context("no temporary directory")?.keep();
        process::remove_at_exit(&directory)?;
        let at = directory.as_path();
        let authority = Authority::new("test-ca")?;
        let ca_file = certificates::write(at, "ca.crt", &authority.pem())?;
        let admin = authority.client("admin", Some("system:masters"))?;
        let [port, etcd_port, peer_port] = [free_port()?, free_port()?, free_port()?];
        let etcd = Process::start("etcd", &mut etcd(at, etcd_port, peer_port)?, at)?;
        let api = Process::start("kube-apiserver", kube_apiserver(at, port, etcd_port, &authority)?.args(flags), at)?;
        let server = ApiServer {
            port,
            authority,
            admin,
            audit_log: at.join("audit.log"),
            ca_file,
            processes: Mutex::new(vec![api, etcd]),
            directory: directory.clone(),
        };
        let took = server.wait_until_ready(definitions).await?;
        let (version, etcd) = (parts::version_of("kube-apiserver")?, parts::version_of("etcd")?);
        eprintln!("real part: kube-apiserver {version} on etcd {etcd}, ready after {:.1} s", took.as_secs_f64());
        Ok(server)
    }

    async fn wait_until_ready(&self, definitions: &[&Path]) -> Result<Duration> {
        let start = std::time::Instant::now();
        let client = self.admin_client().await?;
        let readyz = async || self.text_or_error(&client, "/readyz").await;
        wait::until("kube-apiserver ready", START_LIMIT, readyz, |text| text == "ok").await?;
        for definition in definitions {
            let crd = fs::read(definition).with_context(|| format!("could not read {}", definition.display()))?;
            let create = http::Request::post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
                .header("content-type", "application/yaml")
                .body(crd)?;
            let _: Value = client.request(create).await.with_context(|| format!("{}", definition.display()))?;
        }
        let list = async || self.text_or_error(&client, "/apis/ray.io/v1/rayclusters").await;
        wait::until("RayClusters served", START_LIMIT, list, |text| text.contains("\"items\"")).await?;
        Ok(start.elapsed())
    }

    /// What the server answers, be it that it does not; an error only if its process has ended.
    async fn text_or_error(&self, client: &kube::Client, path: &str) -> Result<String> {
        for process in self.processes.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).iter_mut() {
            process.must_run()?;
        }
        let answer = client.request_text(http::Request::get(path).body(Vec::new())?).await;
        Ok(answer.unwrap_or_else(|error| error.to_string()))
    }

    /// A client that may do anything.
    pub async fn admin_client(&self) -> Result<kube::Client> {
        self.client(&self.admin).await
    }

    /// A client that may do anything, and whose requests the audit log leaves out.
    pub async fn stand_in_client(&self) -> Result<kube::Client> {
        self.user_client("stand-in").await
    }

    /// A client of a user of this name, who may do anything.
    pub async fn user_client(&self, user: &str) -> Result<kube::Client> {
        self.client(&self.authority.client(user, Some("system:masters"))?).await
    }

    /// The file of the authority that signed the server's certificate.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// The file of the key that signs tokens of accounts.
    pub fn token_key(&self) -> PathBuf {
        self.directory.join("tokens.key")
    }

    /// The file of a kubeconfig for a user of this name, who may do anything.
    pub fn kubeconfig(&self, user: &str) -> Result<PathBuf> {
        let certificate = self.authority.client(user, Some("system:masters"))?;
        certificates::write(&self.directory, &format!("{user}.kubeconfig"), &self.config(&certificate).to_string())
    }

    /// Every request that a user of this name has made, and how often.
    pub fn audit(&self, user: &str) -> Result<BTreeMap<Audited, usize>> {
        audit(&self.audit_log, user)
    }

    /// The bodies of all creating requests of the user `recorded` that were granted, in their order.
    pub fn created(&self) -> Result<Vec<Value>> {
        let log = fs::read_to_string(&self.audit_log).context("could not read the audit log")?;
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let is_granted = |event: &Value| {
            event["user"]["username"] == "recorded"
                && event["stage"] == "ResponseComplete"
                && event["responseStatus"]["code"].as_u64().is_some_and(|code| code < 300)
        };
        Ok(events.filter(is_granted).map(|mut event| event["requestObject"].take()).filter(Value::is_object).collect())
    }

    async fn client(&self, certificate: &Certificate) -> Result<kube::Client> {
        let kubeconfig = Kubeconfig::from_yaml(&self.config(certificate).to_string())?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }

    fn config(&self, certificate: &Certificate) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Config",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port),
                "certificate-authority-data": BASE64.encode(self.authority.pem()),
            }}],
            "users": [{"name": "test", "user": {
                "client-certificate-data": BASE64.encode(&certificate.certificate),
                "client-key-data": BASE64.encode(&certificate.key),
            }}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        })
    }

    /// Makes a namespace, and in it an account with the stock Role, for the RayCluster of this name.
    pub async fn namespace(&self, name: &str, cluster: &str) -> Result<Namespace> {
        let namespace = self.account(name, cluster).await?;
        let admin = &namespace.admin;
        post(admin, "/api/v1/namespaces", &json!({"metadata": {"name": name}})).await?;
        post(admin, &format!("/api/v1/namespaces/{name}/serviceaccounts"), &json!({"metadata": {"name": cluster}}))
            .await?;
        let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{name}");
        post(admin, &format!("{rbac}/roles"), &stock_role(cluster)).await?;
        post(admin, &format!("{rbac}/rolebindings"), &role_binding(cluster, name, cluster)).await?;
        Ok(namespace)
    }

    /// What is needed to speak as an account of a namespace. Makes neither of them.
    pub async fn account(&self, name: &str, account: &str) -> Result<Namespace> {
        let admin = self.admin_client().await?;
        let certificate = self.authority.client(&user(name, account), Some("system:serviceaccounts"))?;
        let credentials = Credentials {
            host: "127.0.0.1".into(),
            port: self.port,
            ca_file: self.ca_file.clone(),
            client: certificate.write(&self.directory, &format!("{name}-{account}"))?,
        };
        Ok(Namespace {
            name: name.into(),
            account: account.into(),
            admin,
            credentials,
            audit_log: self.audit_log.clone(),
        })
    }
}

impl Namespace {
    /// Gives the account a further Role with these rules.
    pub async fn grant(&self, name: &str, rules: &Value) -> Result<()> {
        let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}", self.name);
        post(&self.admin, &format!("{rbac}/roles"), &json!({"metadata": {"name": name}, "rules": rules})).await?;
        post(&self.admin, &format!("{rbac}/rolebindings"), &role_binding(name, &self.name, &self.account)).await
    }

    /// From now on the server refuses pods beyond this number: there is no controller that would count, so we say what is used.
    pub async fn set_pod_quota(&self, pods: usize, used: usize) -> Result<()> {
        let path = format!("/api/v1/namespaces/{}/resourcequotas", self.name);
        let hard = json!({"pods": pods.to_string()});
        post(&self.admin, &path, &json!({"metadata": {"name": "pods"}, "spec": {"hard": hard}})).await?;
        let status = json!({"status": {"hard": hard, "used": {"pods": used.to_string()}}});
        let patch = http::Request::patch(format!("{path}/pods/status"))
            .header("content-type", "application/merge-patch+json")
            .body(serde_json::to_vec(&status)?)?;
        let _: Value = self.admin.request(patch).await.context("could not set the quota's status")?;
        // The admission plugin reads quotas through a cache of its own.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(())
    }

    /// Takes the quota away again.
    pub async fn remove_pod_quota(&self) -> Result<()> {
        let path = format!("/api/v1/namespaces/{}/resourcequotas/pods", self.name);
        let _: Value = self.admin.request(http::Request::delete(path).body(Vec::new())?).await?;
        Ok(())
    }

    /// Every request that the account has made, and how often.
    pub fn audit(&self) -> Result<BTreeMap<Audited, usize>> {
        audit(&self.audit_log, &user(&self.name, &self.account))
    }

    /// Fails if the account was refused the same thing twice.
    pub fn must_not_be_refused_twice(&self) -> Result<()> {
        let requests = self.audit()?;
        ensure!(!requests.is_empty(), "the audit log has no request of {}", self.account);
        let refused: Vec<_> = requests.iter().filter(|(request, times)| request.code == 403 && **times > 1).collect();
        ensure!(refused.is_empty(), "refused more than once: {refused:?}");
        Ok(())
    }
}

fn audit(log: &Path, user: &str) -> Result<BTreeMap<Audited, usize>> {
    let log = fs::read_to_string(log).context("could not read the audit log")?;
    let mut requests = BTreeMap::new();
    // The last line may be half written.
    for event in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let request = audited(&event);
        // A watch that was accepted is told when it starts and once more, much later, when it ends.
        let is_open_watch = request.verb == "watch" && request.code < 400;
        let stage = if is_open_watch { "ResponseStarted" } else { "ResponseComplete" };
        if event["user"]["username"] == user && event["stage"] == stage {
            *requests.entry(request).or_default() += 1;
        }
    }
    Ok(requests)
}

fn audited(event: &Value) -> Audited {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let resource = match text("/objectRef/subresource") {
        "" => text("/objectRef/resource").to_owned(),
        subresource => format!("{}/{subresource}", text("/objectRef/resource")),
    };
    let code = event.pointer("/responseStatus/code").and_then(Value::as_i64).unwrap_or_default();
    Audited { verb: text("/verb").into(), resource, code }
}

/// Creates an object.
pub async fn post(client: &kube::Client, path: &str, object: &Value) -> Result<()> {
    let request =
        http::Request::post(path).header("content-type", "application/json").body(serde_json::to_vec(object)?)?;
    let _: Value = client.request(request).await.with_context(|| format!("could not create at {path}"))?;
    Ok(())
}

fn user(namespace: &str, account: &str) -> String {
    format!("system:serviceaccount:{namespace}:{account}")
}

/// What KubeRay 1.6 allows the autoscaler of a cluster, and no more.
fn stock_role(cluster: &str) -> Value {
    json!({"metadata": {"name": cluster}, "rules": [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "patch"]},
        {"apiGroups": [""], "resources": ["pods/resize"], "verbs": ["patch"]},
        {"apiGroups": ["ray.io"], "resources": ["rayclusters"], "verbs": ["get", "patch"]},
    ]})
}

fn role_binding(role: &str, namespace: &str, account: &str) -> Value {
    json!({
        "metadata": {"name": role},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    })
}

fn etcd(directory: &Path, port: u16, peer_port: u16) -> Result<Command> {
    let client = format!("http://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{peer_port}");
    let mut etcd = Command::new(parts::etcd()?);
    etcd.args(["--name", "test", "--unsafe-no-fsync", "--log-level", "warn", "--data-dir"])
        .arg(directory.join("etcd"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("test={peer}")]);
    Ok(etcd)
}

fn kube_apiserver(directory: &Path, port: u16, etcd_port: u16, authority: &Authority) -> Result<Command> {
    let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1", "10.96.0.1"];
    let serving = authority.server("kube-apiserver", &names.map(String::from))?.write(directory, "apiserver")?;
    // Any key pair will do to sign tokens of service accounts.
    let signing = authority.client("tokens", None)?.write(directory, "tokens")?;
    let policy = certificates::write(directory, "audit-policy.yaml", AUDIT_POLICY)?;
    let flag = |name: &str, value: &Path| format!("--{name}={}", value.display());
    let mut server = Command::new(parts::kube_apiserver()?);
    server
        .args([format!("--secure-port={port}"), format!("--etcd-servers=http://127.0.0.1:{etcd_port}")])
        .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"])
        .args([flag("cert-dir", directory), flag("client-ca-file", &directory.join("ca.crt"))])
        .args([flag("tls-cert-file", &serving.certificate), flag("tls-private-key-file", &serving.key)])
        .args([
            flag("service-account-key-file", &signing.certificate),
            flag("service-account-signing-key-file", &signing.key),
        ])
        .args(["--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.96.0.0/16"])
        .args(["--authorization-mode=RBAC", "--allow-privileged=true", "--profiling=false"])
        // As on OpenShift: who makes a child must be allowed to hold up the deletion of its owner.
        .arg("--enable-admission-plugins=OwnerReferencesPermissionEnforcement")
        .args([flag("audit-policy-file", &policy), flag("audit-log-path", &directory.join("audit.log"))]);
    Ok(server)
}

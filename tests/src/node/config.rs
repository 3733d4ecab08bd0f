//! Configuration of the node's parts. Each value that differs from a node of one's own is there because the node shares its
//! machine: it must not change the machine, nor need rights that a container has not.

use std::path::Path;

/// Address of the node, and of the API server as pods see it.
pub const NODE_IP: &str = "10.244.0.1";
/// Address of the cluster's name server.
pub const DNS_IP: &str = "10.96.0.10";
/// Name of the node.
pub const NODE: &str = "node";
/// What holds the namespaces of pods.
const PAUSE: &str = "mobula.dev/pause:1";

pub fn cni(directory: &Path) -> String {
    format!(
        r#"{{"cniVersion": "0.4.0", "name": "pods", "plugins": [{{
  "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipMasq": false,
  "ipam": {{
    "type": "host-local", "dataDir": "{}/addresses",
    "ranges": [[{{"subnet": "10.244.0.0/24", "rangeStart": "10.244.0.10"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]
  }}
}}]}}
"#,
        directory.display()
    )
}

pub fn containerd(directory: &Path, tools: &Path) -> String {
    let (here, tools) = (directory.display(), tools.display());
    format!(
        r#"version = 2
root = "{here}/containerd/root"
state = "{here}/containerd/state"
disabled_plugins = [
  "io.containerd.internal.v1.tracing", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "{here}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{tools}/usr/lib/cni"
    conf_dir = "{here}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{tools}/usr/sbin/runc"
      SystemdCgroup = false
"#
    )
}

pub fn kubelet(directory: &Path) -> String {
    let here = directory.display();
    format!(
        r#"kind: KubeletConfiguration
apiVersion: kubelet.config.k8s.io/v1beta1
containerRuntimeEndpoint: unix://{here}/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {here}/ca.crt}}}}
authorization: {{mode: AlwaysAllow}}
clusterDNS: [{DNS_IP}]
clusterDomain: cluster.local
resolvConf: {here}/resolv.conf
podLogsDir: {here}/pod-logs
volumePluginDir: {here}/volume-plugins
makeIPTablesUtilChains: false
localStorageCapacityIsolation: false
oomScoreAdj: 0
evictionHard: {{memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}}
"#
    )
}

pub fn kube_proxy(kubeconfig: &Path) -> String {
    format!(
        r#"kind: KubeProxyConfiguration
apiVersion: kubeproxy.config.k8s.io/v1alpha1
mode: iptables
hostnameOverride: {NODE}
clientConnection: {{kubeconfig: {}}}
clusterCIDR: 10.244.0.0/16
oomScoreAdj: 0
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
"#,
        kubeconfig.display()
    )
}

pub fn coredns(kubeconfig: &Path) -> String {
    format!(
        ".:53 {{\n  bind {NODE_IP}\n  errors\n  ready 127.0.0.1:8181\n  kubernetes cluster.local in-addr.arpa {{\n    \
         kubeconfig {}\n  }}\n  cache 5\n}}\n",
        kubeconfig.display()
    )
}

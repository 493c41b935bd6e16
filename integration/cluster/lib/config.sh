# shellcheck shell=bash
# The node's root directory, and the configuration of everything that runs on it.

# Directories of the node's own; what else it has is this machine's, read-only (node/enter).
make_root() {
  mkdir -p "$root"/{dev,etc,home,mnt,opt,proc,root,run,srv,sys,tmp,usr} \
    "$root"/node "$root"/etc/{alternatives,cni/net.d,containerd/conf.d} "$root$etc" \
    "$root"/var/{lib,log,tmp}
  chmod 1777 "$root/tmp" "$root/var/tmp"
  ln -sfn /run "$root/var/run"
  local file
  for file in group ld.so.cache nsswitch.conf passwd protocols services; do
    [ ! -e "/etc/$file" ] || cp "/etc/$file" "$root/etc/"
  done
  ln -sfn ../usr/lib/os-release "$root/etc/os-release"
  echo "$node" >"$root/etc/hostname"
  printf '127.0.0.1 localhost\n%s %s\n' "$own_ip" "$node" >"$root/etc/hosts"
  # Nothing outside is resolved. Not empty, because pods that want the node's resolver get this file.
  printf 'nameserver %s\n' "$node_ip" >"$root/etc/resolv.conf"
  [ -e "$root/etc/machine-id" ] || printf '%s' "$home" | md5sum | cut -c1-32 >"$root/etc/machine-id"
  install -m 755 "$here/node/init" "$here/node/service" "$root/node/"
  # The node keeps what it was made of, whatever is built anew meanwhile.
  local programs
  for programs in kubernetes containerd; do
    rm -rf "$root/node/$programs"
    cp -rl "${!programs}" "$root/node/$programs" 2>/dev/null || cp -rT "${!programs}" "$root/node/$programs"
  done
}

write_config() {
  write_containerd
  write_network
  write_kubelet
  if [ "$role" = control ]; then
    write_registry
    write_control_plane
    write_addons
  fi
  cat >"$root/node/settings" <<SETTINGS
ROLE=$role
NODE=$node
NODE_IP=$own_ip
DNS_NODE=$node_ip
POD_CIDR=$POD_CIDR
SERVICE_CIDR=$SERVICE_CIDR
REGISTRY_PORT=$REGISTRY_PORT
SETTINGS
}

write_containerd() {
  local registry=$node_ip:$REGISTRY_PORT capabilities restrict=false
  # Without CAP_SYS_RESOURCE nobody may shield a process from the OOM killer, which Kubernetes wants for some.
  capabilities=$(awk '$1 == "CapEff:" { print $2 }' /proc/self/status)
  (((16#$capabilities >> 24) & 1)) || restrict=true
  cat >"$root/etc/containerd/config.toml" <<CONFIG
version = 3
imports = ["/etc/containerd/conf.d/*.toml"]

# containerd's default way of pulling does not unpack images for wasi/wasm (docs/images.md).
[plugins."io.containerd.cri.v1.images"]
use_local_image_pull = true

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "$registry/pause:1"

[plugins."io.containerd.cri.v1.images".registry]
config_path = "/etc/containerd/certs.d"

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = $restrict

[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "runc"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "/etc/cni/net.d"
CONFIG
  mkdir -p "$root/etc/containerd/certs.d/$registry"
  cat >"$root/etc/containerd/certs.d/$registry/hosts.toml" <<HOSTS
server = "http://$registry"
[host."http://$registry"]
capabilities = ["pull", "resolve"]
HOSTS
}

write_registry() {
  cat >"$root$etc/registry.yaml" <<REGISTRY
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: /var/lib/registry}}
http: {addr: "0.0.0.0:$REGISTRY_PORT"}
REGISTRY
}

# Every pod has a link to the node, without a bridge: what two pods exchange by a Service's address passes the node's
# rules both ways.
write_network() {
  cat >"$root/etc/cni/net.d/10-pods.conflist" <<NETWORK
{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [
    {
      "type": "ptp",
      "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "$pod_range"}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}
  ]
}
NETWORK
  cat >"$root$etc/kube-proxy.yaml" <<PROXY
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: $POD_CIDR
hostnameOverride: $node
clientConnection: {kubeconfig: $etc/kube-proxy.kubeconfig}
# The connection table's limits are the whole machine's.
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
PROXY
}

write_kubelet() {
  # For settings beside these.
  mkdir -p "$root$etc/kubelet.conf.d"
  cat >"$root$etc/kubelet.yaml" <<KUBELET
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $etc/pki/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: $etc/pki/kubelet-server.crt
tlsPrivateKeyFile: $etc/pki/kubelet-server.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
clusterDNS: [$DNS_IP]
clusterDomain: cluster.local
resolvConf: /etc/resolv.conf
volumePluginDir: /var/lib/kubelet/volume-plugins
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
maxPods: 300
podPidsLimit: 256
serializeImagePulls: false
# The first container of an image of megabytes waits for its compilation, on a machine that is busy with tests.
runtimeRequestTimeout: 10m
# A machine for tests is no server with room to spare.
evictionHard: {memory.available: 200Mi, nodefs.available: 2%, nodefs.inodesFree: 2%, imagefs.available: 2%, imagefs.inodesFree: 2%}
imageGCHighThresholdPercent: 100
imageMinimumGCAge: 1h
# What only a process with CAP_SYS_RESOURCE may ask for.
oomScoreAdj: 0
maxOpenFiles: 20000
KUBELET
  if [ "$role" = worker ]; then
    cat >>"$root$etc/kubelet.yaml" <<'KUBELET'
# For pods that say so.
registerWithTaints: [{key: tandem.dev/second, effect: NoSchedule}]
KUBELET
  fi
}

write_control_plane() {
  cat >"$root$etc/audit.yaml" <<AUDIT
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
# What Tandem asks for; the rest would fill many files.
rules: [{level: Metadata, userGroups: ["system:serviceaccounts:tandem-system"]}, {level: None}]
AUDIT
}

write_addons() {
  cat >"$root$etc/Corefile" <<COREFILE
.:53 {
  bind $node_ip
  errors
  health 127.0.0.1:8080
  ready 127.0.0.1:8181
  kubernetes cluster.local in-addr.arpa {
    kubeconfig $etc/coredns.kubeconfig
    pods insecure
  }
  cache 5
}
COREFILE
  local object
  mkdir -p "$root$etc/objects"
  for object in "$here"/objects/*.yaml; do
    sed -e "s|\${NODE_IP}|$node_ip|; s|\${DNS_IP}|$DNS_IP|; s|\${CA}|$(base64 -w0 "$authority/ca.crt")|" "$object" \
      >"$root$etc/objects/${object##*/}"
  done
}

# What users and tests need to know (one NAME=value a line), and the chart's values for this kind of cluster.
write_env() {
  cat >"$dir/values.yaml" <<VALUES
distribution: vanilla
containerd:
  program: /node/containerd/containerd
  restartCommand: /node/service restart containerd
VALUES
  cat >"$dir/env" <<ENV
KUBECONFIG=$kubeconfig
TANDEM_NODE=$node
TANDEM_SECOND_NODE=$second
TANDEM_REGISTRY=$node_ip:$REGISTRY_PORT
TANDEM_REGISTRY_IN_CLUSTER=$node_ip:$REGISTRY_PORT
TANDEM_HELM_VALUES=$dir/values.yaml
TANDEM_KUBELET_SETTINGS=$etc/kubelet.conf.d
TANDEM_AUDIT_LOG=/var/log/kubernetes-audit.log
ENV
}

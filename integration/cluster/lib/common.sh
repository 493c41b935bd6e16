# shellcheck shell=bash disable=SC2034
# Names and places of the cluster; they all derive from its directory.

dir=$(realpath -m "${TANDEM_CLUSTER_DIR:-${TMPDIR:-/tmp}/tandem-cluster}")
id=$(printf %s "$dir" | sha256sum | cut -c1-6)
# The node with the control plane: its name, its cgroup in every hierarchy, and this machine's end of its link (15
# characters at most).
node=tandem-$id
group=tandem-cluster-$id
link=tandem-$id
second=$node-second
# Where its process id and its output are, its root directory and, in it, where its configuration is.
home=$dir
root=$home/root
etc=/etc/kubernetes
role=control
pod_range=10.244.0.0/17
kubeconfig=$dir/kubeconfig
# A directory with this file is a cluster's and may be removed.
MARK=.tandem-cluster

cache=${TANDEM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tandem}
kubernetes=$cache/kubernetes/bin
containerd=${TANDEM_CONTAINERD_V2:-$cache/containerd-2/bin}

# Where Debian has tools for root, which is not in everybody's path.
PATH=$PATH:/usr/sbin:/sbin

# Inside the node, so that they clash with nobody's.
POD_CIDR=10.244.0.0/16
SECOND_POD_RANGE=10.244.128.0/17
# The nodes' addresses for each other, of a range for documentation (RFC 5737).
FIRST_IP=192.0.2.1
SECOND_IP=192.0.2.2
SERVICE_CIDR=10.96.0.0/16
API_IP=10.96.0.1
DNS_IP=10.96.0.10
REGISTRY_PORT=5000

# as_second COMMAND...: a function of these for the second node, which only runs pods.
as_second() (
  node=$second group=$group-second home=$dir/second role=worker
  root=$home/root pod_range=$SECOND_POD_RANGE own_ip=$SECOND_IP
  "$@"
)

say() { printf 'cluster: %s\n' "$*" >&2; }
die() {
  printf 'cluster: %s\n' "$*" >&2
  exit 1
}

require_root() {
  [ "$(id -u)" = 0 ] || die "root is needed to make namespaces, mounts and cgroups: sudo -E $0 ..."
}

require_programs() {
  local program
  for program in "$kubernetes"/{kubelet,kubectl,etcd,coredns,policies,metrics-server} "$containerd"/{containerd,containerd-shim-runc-v2}; do
    [ -x "$program" ] || die "$program is missing: integration/setup containerd containerd-2 kubernetes"
  done
  for program in docker-registry ip ipset iptables nft nsenter openssl runc unshare; do
    command -v "$program" >/dev/null || die "$program is missing: integration/setup containerd kubernetes"
  done
}

# Makes the cluster's directory; nobody else's is taken.
take_directory() {
  if [ -d "$dir" ] && [ ! -e "$dir/$MARK" ] && [ -n "$(ls -A "$dir")" ]; then
    die "$dir is not empty and no cluster's: let TANDEM_CLUSTER_DIR name another directory"
  fi
  mkdir -p "$dir"
  touch "$dir/$MARK"
}

# until_true SECONDS WHAT COMMAND...: waits until the command succeeds.
until_true() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || die "gave up waiting for $what; logs are in $root/var/log"
    sleep 0.1
  done
}

kubectl() { "$kubernetes/kubectl" --kubeconfig "$kubeconfig" "$@"; }

# shellcheck shell=bash disable=SC2034,SC2154
# What clusters whose nodes are Docker's containers have in common: names, and the node's own life.

dir=$(realpath -m "${TANDEM_CLUSTER_DIR:-${TMPDIR:-/tmp}/tandem-cluster-$kind}")
id=$(printf %s "$dir" | sha256sum | cut -c1-6)
name=tandem-$id
kubeconfig=$dir/kubeconfig
# A directory with this file is a cluster's and may be removed.
MARK=.tandem-cluster

say() { printf '%s: %s\n' "$kind" "$*" >&2; }
die() {
  say "$*"
  exit 1
}

require() {
  local program
  for program; do
    command -v "$program" >/dev/null || die "$program is missing: see docs/testing.md"
  done
  docker info >/dev/null 2>&1 || die "the Docker daemon does not answer: start it, or join the group docker"
}

# Makes the cluster's directory; nobody else's is taken.
take_directory() {
  if [ -d "$dir" ] && [ ! -e "$dir/$MARK" ] && [ -n "$(ls -A "$dir")" ]; then
    die "$dir is not empty and no cluster's: let TANDEM_CLUSTER_DIR name another directory"
  fi
  mkdir -p "$dir"
  touch "$dir/$MARK"
}

drop_directory() {
  if [ -e "$dir/$MARK" ]; then
    rm -rf "$dir"
  fi
}

# Where on this machine a container's port is, as HOST:PORT.
published() {
  docker port "$1" "$2" | head -n 1
}

kubectl_here() { kubectl --kubeconfig "$kubeconfig" "$@"; }

# until_true SECONDS WHAT COMMAND...: waits until the command succeeds.
until_true() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt "$deadline" ] || die "gave up waiting for $what"
    sleep 0.5
  done
}

# beats: the time of the node's last sign of life, which the kubelet renews every ten seconds.
beats() {
  kubectl_here --namespace kube-node-lease get lease "$node" --output 'jsonpath={.spec.renewTime}'
}

is_after() {
  local now
  # An API server that is not there yet says nothing.
  now=$(beats) && [ -n "$now" ] && [ "$now" != "$1" ]
}

# Waits for the node, after a restart for a sign of life that is newer than the one before it.
wait_for_node() {
  if [ -n "${1-}" ]; then
    until_true 180 "a sign of life of $node" is_after "$1"
  fi
  until_true 180 "the node $node" kubectl_here wait --for=condition=Ready "node/$node" --timeout=5s
}

# after_beat COMMAND...: does something to the node, and waits until it is there again.
after_beat() {
  local last
  last=$(beats)
  "$@" >/dev/null
  wait_for_node "$last"
}

# as_second COMMAND...: a function of these for the second node.
as_second() (
  node=$second
  "$@"
)

# A power cut: nothing on the node gets to end in order.
power_cut() {
  docker kill --signal KILL "$node" >/dev/null
  docker start "$node" >/dev/null
}

# write_env REGISTRY REGISTRY_IN_CLUSTER
write_env() {
  cat >"$dir/env" <<ENV
KUBECONFIG=$kubeconfig
TANDEM_NODE=$node
TANDEM_SECOND_NODE=$second
TANDEM_REGISTRY=$1
TANDEM_REGISTRY_IN_CLUSTER=$2
TANDEM_HELM_VALUES=$dir/values.yaml
ENV
}

# run_verb VERB ARG...: what the executables of this directory understand.
run_verb() {
  case ${1-} in
    up | down) [ $# = 1 ] || usage && "$1" ;;
    restart) [ $# = 2 ] || usage && restart "$2" ;;
    node | second)
      [ $# -gt 1 ] || usage
      local to=$node
      [ "$1" = node ] || to=$second
      shift
      docker exec --interactive "$to" "$@"
      ;;
    *) usage ;;
  esac
}

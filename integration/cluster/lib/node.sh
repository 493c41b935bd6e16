# shellcheck shell=bash
# The node's life.

# A network of two addresses, this machine's and the node's, out of the range for benchmarks of networks
# (RFC 2544), which nobody routes.
choose_subnet() {
  if [ -e "$dir/subnet" ]; then
    load_subnet
    return
  fi
  local number tries=0
  for ((number = 16#$id % 32768; tries < 32768; tries++, number = (number + 1) % 32768)); do
    echo "198.$((18 + number / 16384)).$((number / 64 % 256)).$((number % 64 * 4))" >"$dir/subnet"
    load_subnet
    [ -n "$(ip -4 -o address show to "$host_ip/30")" ] || return 0
  done
  die "every network of 198.18.0.0/15 is taken on this machine"
}

load_subnet() {
  local base
  base=$(cat "$dir/subnet") || die "$dir/subnet is missing: $0 down, then up"
  host_ip=${base%.*}.$((${base##*.} + 1))
  node_ip=${base%.*}.$((${base##*.} + 2))
}

# The node's first process, by its id on this machine.
node_pid() { cat "$dir/pid" 2>/dev/null; }

# Whether it runs: the id may have become another process's, but that is in no cgroup of the node.
node_runs() {
  local pid
  pid=$(node_pid) && grep -Eqs ":/$group(/node)?\$" "/proc/$pid/cgroup" && load_subnet
}

node_start() {
  cgroups_make
  rm -f "$dir/pid"
  # The lock and the terminal stay here.
  setsid unshare --pid --mount --net --ipc --uts --fork --propagation private \
    bash "$here/node/enter" "$dir" "$group" </dev/null >"$dir/node.log" 2>&1 &
  until_true 20 "the node's first process (its output is in $dir/node.log)" test -s "$dir/pid"
  ip link add "$link" type veth peer name eth0 netns "$(node_pid)"
  ip address add "$host_ip/30" dev "$link"
  ip link set "$link" up
}

# Ends the node as a power cut does, and waits until nothing of it is left but its directory.
node_stop() {
  until_true 60 "the end of the node's processes" cgroups_kill
  # The link goes with the node's network, but not at once.
  ! ip link show "$link" >/dev/null 2>&1 || ip link delete "$link" 2>/dev/null || true
  until_true 60 "the end of the node's cgroups" cgroups_remove
  rm -f "$dir/pid"
}

# Runs a command in all the node's namespaces and in its cgroups.
on_node() (
  cgroups_join
  exec nsenter --target "$(node_pid)" --all --root --wd \
    env -i HOME=/root TERM="${TERM:-dumb}" PATH=/node/containerd:/node/kubernetes:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    "$@"
)

# wait_for_cluster [SINCE]: until pods can be made. SINCE (of `now`) is when the node was started: the API server
# tells of it what it was told last, which may be of before.
wait_for_cluster() {
  until_true 120 "the API server" kubectl get --raw /readyz
  until_true 60 "containerd" on_node ctr version
  until_true 60 "the kubelet" on_node sh -c 'kubectl --kubeconfig=/etc/kubernetes/admin.kubeconfig --server=http://127.0.0.1:10248 get --raw /healthz'
  until_true 120 "the node to be ready" node_is_ready "${1:-}"
  until_true 60 "the controller manager" kubectl get serviceaccount default
}

# Namespaces cannot be deleted while an API is announced that nobody answers for.
wait_for_metrics() {
  until_true 90 "metrics-server" kubectl get --raw /apis/metrics.k8s.io/v1beta1
}

# In the API's form, whose order is that of text. The second that has begun belongs to what was before.
now() { date -u -d '+1 second' +%FT%TZ; }

node_is_ready() {
  local condition='{range .status.conditions[?(@.type=="Ready")]}{.status} {.lastHeartbeatTime}{end}' ready told
  read -r ready told < <(kubectl get node "$node" -o "jsonpath=$condition")
  [ "$ready" = True ] && [[ ! $told < $1 ]]
}

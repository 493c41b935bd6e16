# shellcheck shell=bash
# A node's life: of the one with the control plane, or (as_second) of the other.

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
  [ "$role" != control ] || own_ip=$node_ip
}

# The node's first process, by its id on this machine.
node_pid() { cat "$home/pid" 2>/dev/null; }

# Whether it runs: the id may have become another process's, but that is in no cgroup of the node.
node_runs() {
  local pid
  pid=$(node_pid) && grep -Eqs ":/$group(/node)?\$" "/proc/$pid/cgroup" && load_subnet
}

node_start() {
  cgroups_make
  rm -f "$home/pid"
  # The lock and the terminal stay here.
  setsid unshare --pid --mount --net --ipc --uts --fork --propagation private \
    bash "$here/node/enter" "$home" "$group" </dev/null >"$home/node.log" 2>&1 &
  until_true 20 "the first process of $node (its output is in $home/node.log)" test -s "$home/pid"
}

# Ends the node as a power cut does, and waits until nothing of it is left but its directory.
node_stop() {
  until_true 60 "the end of the processes and cgroups of $node" cgroups_clear
  # This machine's link goes with the node's network, but not at once.
  if [ "$role" = control ] && ip link show "$link" >/dev/null 2>&1; then
    ip link delete "$link" 2>/dev/null || true
  fi
  rm -f "$home/pid"
}

# connect DEVICE ADDRESS [ROUTE...]: in the node's network, with routes as `ip route add` takes them.
connect() {
  local device=$1 address=$2 route
  shift 2
  {
    echo "address add $address dev $device"
    echo "link set $device up"
    for route; do echo "route add $route"; done
  } | nsenter --net --target "$(node_pid)" ip -batch -
}

# This machine's link to the first node.
link_machine() {
  ip link add "$link" type veth peer name eth0 netns "$(node_pid)"
  ip address add "$host_ip/30" dev "$link"
  ip link set "$link" up
  connect eth0 "$node_ip/30" "default via $host_ip"
}

# The nodes' link to each other, and their ways to each other's pods; it is the second one's to all others too.
link_nodes() {
  local first other
  first=$(node_pid) other=$(as_second node_pid)
  # Where only one of them is new, half of the old link may be left.
  nsenter --net --target "$first" ip link delete eth1 2>/dev/null || true
  nsenter --net --target "$other" ip link delete eth0 2>/dev/null || true
  ip link add eth1 netns "$first" type veth peer name eth0 netns "$other"
  connect eth1 "$FIRST_IP/30" "$SECOND_POD_RANGE via $SECOND_IP"
  as_second connect eth0 "$SECOND_IP/30" "default via $FIRST_IP"
}

# Runs a command in all the node's namespaces and in its cgroups.
on_node() (
  cgroups_join
  exec nsenter --target "$(node_pid)" --all --root --wd \
    env -i HOME=/root TERM="${TERM:-dumb}" PATH=/node/containerd:/node/kubernetes:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    "$@"
)

# wait_for_node [SINCE]: until it runs pods. SINCE (of `now`) is when the node was started: the API server tells of it
# what it was told last, which may be of before.
wait_for_node() {
  until_true 120 "the API server" kubectl get --raw /readyz
  until_true 60 "containerd of $node" on_node ctr version
  until_true 60 "the kubelet of $node" on_node sh -c 'kubectl --kubeconfig=/etc/kubernetes/kubelet.kubeconfig --server=http://127.0.0.1:10248 get --raw /healthz'
  until_true 120 "$node to be ready" node_is_ready "${1:-}"
}

# They tell whether they are well to everybody on their node.
wait_for_controllers() {
  local port
  for port in 10257 10259; do
    until_true 60 "the controllers" on_node kubectl --kubeconfig=$etc/kubelet.kubeconfig --server="https://127.0.0.1:$port" \
      --certificate-authority= --insecure-skip-tls-verify get --raw /healthz
  done
  until_true 60 "the controller manager's work" kubectl get serviceaccount default
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

# shellcheck shell=bash
# The node's cgroup, one in every hierarchy of this machine (cgroup v1, hybrid or v2). The node sees them as its roots.

# Prints type and mount point of every hierarchy.
hierarchies() {
  awk '$5 ~ "^/sys/fs/cgroup" { for (i = 7; i < NF; i++) if ($i == "-") { if ($(i + 1) ~ /^cgroup2?$/) print $(i + 1), $5; break } }' \
    /proc/self/mountinfo | sort -u
}

cgroups_make() {
  local type point controller
  while read -r type point; do
    mkdir -p "$point/$group"
    if [ "$type $point" = "cgroup2 /sys/fs/cgroup" ]; then
      read -ra controllers <"$point/cgroup.controllers"
      for controller in "${controllers[@]}"; do
        # What cannot be enabled was not on this machine before either; the kubelet names what it misses.
        echo "+$controller" >"$point/cgroup.subtree_control" 2>/dev/null || true
      done
    fi
    # A v1 cpuset has no processors until it is given some, and takes no process before that.
    if [ -e "$point/$group/cpuset.mems" ] && [ "$type" = cgroup ]; then
      cat "$point/cpuset.cpus" >"$point/$group/cpuset.cpus"
      cat "$point/cpuset.mems" >"$point/$group/cpuset.mems"
    fi
  done < <(hierarchies)
}

# Moves this shell inside; on v2 into a group below, where there is one, because groups with others below take none.
cgroups_join() {
  local _type point
  while read -r _type point; do
    if [ -d "$point/$group/node" ]; then
      echo "$BASHPID" >"$point/$group/node/cgroup.procs"
    else
      echo "$BASHPID" >"$point/$group/cgroup.procs"
    fi
  done < <(hierarchies)
}

# Prints the processes inside.
cgroups_processes() {
  local _type point
  while read -r _type point; do
    [ ! -d "$point/$group" ] || find "$point/$group" -name cgroup.procs -exec cat {} + 2>/dev/null || true
  done < <(hierarchies) | sort -u
}

cgroups_are_empty() { [ -z "$(cgroups_processes)" ]; }

# Kills what is inside, and what is born meanwhile.
cgroups_kill() {
  local processes
  mapfile -t processes < <(cgroups_processes)
  [ ${#processes[@]} = 0 ] || kill -KILL "${processes[@]}" 2>/dev/null || true
  cgroups_are_empty
}

# Kills what is inside and removes the groups; what joins meanwhile is for the next call.
cgroups_clear() { cgroups_kill && cgroups_remove; }

cgroups_remove() {
  local _type point
  while read -r _type point; do
    [ ! -d "$point/$group" ] || find "$point/$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
    [ ! -d "$point/$group" ] || return 1
  done < <(hierarchies)
}

//! The help text.

/// What `help` prints.
pub const HELP: &str = "\
tandem-node-installer COMMAND [OPTION...]

Commands
  detect       show what this host is and how it would be set up
  plan         show what install would change, judged by the host's containerd; changes nothing
  install      install or upgrade, verify by a Wasm container, go back where anything fails
  verify       run the verification again
  status       show what is installed
  rollback     let new pods start with the version of the shim before the current one
  uninstall    restore what was before
  agent        install, label the node, keep watch; what the DaemonSet runs
  ready        succeed if the agent's node is ready, by its --ready-file
  retire       delete the agents' DaemonSet and wait until every node is restored
  help         this text

Options
  --host-root DIR          where the host's root is mounted (/)
  --shim FILE              the shim to install (/usr/local/bin/containerd-shim-tandem-v1)
  --handler NAME           name of the CRI handler (tandem)
  --install-dir DIR        where the shim goes on the host (/opt/tandem)
  --state-dir DIR          records and compiled code on the host (/var/lib/tandem)
  --run-dir DIR            the shim's volatile state on the host (/run/tandem)
  --distribution NAME      the preset, instead of looking for it
  --containerd FILE        containerd's program, instead of the preset's
  --config FILE            containerd's root configuration, instead of the preset's
  --socket FILE            containerd's socket, instead of the preset's
  --restart-command TEXT   shell command that restarts containerd, instead of the preset's way
  --dry-run                install, rollback, uninstall, retire: print what would be done, and change nothing
  --offline                change files only, for images of nodes; containerd is neither restarted nor asked
  --force                  install: also a version that was rolled back from; uninstall: although pods run
  --drain                  uninstall, agent: evict pods of this runtime first
  --node NAME              this node's name in Kubernetes; needs a service account or KUBECONFIG
  --namespace NAME         agent, retire: namespace of the DaemonSet
  --daemon-set NAME        agent, retire: name of the DaemonSet
  --ready-file FILE        agent: exists while the node is ready
  --runtime-class NAME     retire: the RuntimeClass whose pods must be gone (tandem)

A value may also come from the environment: --host-root from TANDEM_HOST_ROOT, and so on; --drain from TANDEM_DRAIN=true.
--drain=false and the like take a switch back.
";

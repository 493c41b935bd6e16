//! `-info` and `-v`: what this runtime is, for containerd (which asks every handler at its start) and for a person.

use std::io::Write;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use serde_json::json;

use crate::fault::{Fault, Result};

/// The runtime's name in containerd's configuration.
pub const RUNTIME: &str = "io.containerd.tandem.v1";
/// How containerd names the OCI features document (JSON in an `Any`). Source: containerd `pkg/shim` and typeurl.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";
/// The kernel's mount options that libcontainer understands. Source: its `src/rootfs/utils.rs`.
const MOUNT_OPTIONS: &[&str] = &[
    "acl",
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noacl",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "relatime",
    "remount",
    "rexec",
    "rnoatime",
    "rnodev",
    "rnoexec",
    "rnosuid",
    "ro",
    "rprivate",
    "rro",
    "rshared",
    "rslave",
    "rw",
    "shared",
    "slave",
    "strictatime",
    "suid",
    "sync",
];

/// Prints a `RuntimeInfo` message.
pub fn run() -> Result<()> {
    let info = RuntimeInfo {
        name: RUNTIME.into(),
        version: MessageField::some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        }),
        features: MessageField::some(Any {
            type_url: FEATURES.into(),
            value: features().to_string().into_bytes(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let bytes = info
        .write_to_bytes()
        .map_err(|error| Fault::internal(format!("cannot encode the runtime's features: {error}")))?;
    std::io::stdout()
        .write_all(&bytes)
        .map_err(|error| Fault::internal(format!("cannot print the runtime's features: {error}")))
}

/// Prints the version for a person.
pub fn version() {
    println!(
        "{RUNTIME} {} (wasmtime 48, OCI runtime spec 1.x)",
        env!("CARGO_PKG_VERSION")
    );
}

/// The OCI features document. Source: runtime-spec features.md. It promises only what is tested; user
/// namespaces are not announced until pods with them are.
fn features() -> serde_json::Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.1",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": MOUNT_OPTIONS,
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "uts"],
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": false, "rdma": false },
            "seccomp": { "enabled": true },
            "apparmor": { "enabled": false },
            "selinux": { "enabled": false },
        },
        "annotations": { "dev.tandem.wasmtime": "48" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_features_are_a_document_containerd_can_read() {
        let features = features();
        assert_eq!(features["ociVersionMin"], "1.0.0");
        assert!(features["linux"]["seccomp"]["enabled"].as_bool().unwrap());
        assert!(MOUNT_OPTIONS.is_sorted());
    }
}

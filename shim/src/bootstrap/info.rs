//! `-info` and `-v`: what this runtime is, for containerd (which asks every handler at its start) and for a person.

use std::io::Write;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use serde_json::json;
use tandem_confine::mounts::options;

use crate::fault::{Fault, Result};

/// The runtime's name in containerd's configuration.
pub const RUNTIME: &str = "io.containerd.tandem.v1";
/// How containerd names the OCI features document (JSON in an `Any`). Source: containerd `pkg/shim` and typeurl.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";
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

/// The OCI features document. Source: runtime-spec features.md and features-linux.md. As runc's, it says what the
/// runtime is made for, not what this node's kernel has: a label without its module is refused when it is asked for.
fn features() -> serde_json::Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.1",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": options::known(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": false, "rdma": false },
            "seccomp": { "enabled": true },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "mountExtensions": { "idmap": { "enabled": true } },
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
        let options = features["mountOptions"].as_array().unwrap();
        for needed in ["rro", "idmap", "rshared", "bind", "nosymfollow", "tmpcopyup"] {
            assert!(options.iter().any(|option| option == needed), "{needed}");
        }
    }
}

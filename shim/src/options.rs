//! Runtime options: what the node's admin set for this runtime in containerd's configuration. They arrive
//! with Create as a protobuf `Any` whose type depends on containerd and on the client.

use containerd_shim_protos::protobuf::{CodedInputStream, Message, well_known_types::any::Any};
use containerd_shim_protos::shim::oci;
use serde::Deserialize;
use tandem_engine::http::HttpLimits;

use crate::fault::{Fault, Result};

/// Options of containerd's own runc runtime, which CRI sends to runtimes without a type of their own.
const RUNC_OPTIONS: &str = "containerd.runc.v1.Options";
/// Generic options: a TOML body or the path of a TOML file (containerd >= 1.7; the second name is CRI's older one).
const GENERIC_OPTIONS: [&str; 2] = ["runtimeoptions.v1.Options", "cri.runtimeoptions.v1.Options"];
/// An options file is a handful of lines; more is a mistake.
const MAX_OPTIONS_BYTES: u64 = 64 * 1024;

/// The options of one container, after defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Ask systemd for the container's cgroup instead of writing to the cgroup file system.
    #[serde(rename = "SystemdCgroup")]
    pub systemd_cgroup: bool,
    /// Cgroup for the shim itself; empty for containerd's.
    #[serde(rename = "ShimCgroup")]
    pub shim_cgroup: String,
    /// Limits of HTTP servers, instead of those of the node's configuration.
    pub http: Option<HttpLimits>,
}

impl Options {
    /// Decodes what came with Create; absent or empty options are the defaults.
    pub fn decode(any: Option<&Any>) -> Result<Self> {
        let Some(any) = any.filter(|any| !any.type_url.is_empty()) else {
            return Ok(Self::default());
        };
        let name = any.type_url.rsplit('/').next().unwrap_or_default();
        if name == RUNC_OPTIONS {
            let options = oci::Options::parse_from_bytes(&any.value).map_err(|error| {
                Fault::invalid(format!("runtime options of type {RUNC_OPTIONS} do not decode: {error}"))
            })?;
            return Ok(Self {
                systemd_cgroup: options.systemd_cgroup,
                shim_cgroup: options.shim_cgroup,
                http: None,
            });
        }
        if GENERIC_OPTIONS.contains(&name) {
            return Generic::decode(&any.value)?.options();
        }
        Err(Fault::invalid(format!(
            "runtime options of type \"{}\" are not known: use {RUNC_OPTIONS} or {} with a TOML body",
            any.type_url.escape_debug(),
            GENERIC_OPTIONS[0],
        )))
    }

    fn from_toml(text: &str, origin: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| {
            Fault::invalid(format!(
                "runtime options in {origin} are not valid: {}; known options: SystemdCgroup, ShimCgroup, http",
                error.to_string().trim().replace('\n', " ")
            ))
        })
    }
}

/// `runtimeoptions.v1.Options` (containerd `api/types/runtimeoptions/v1/api.proto`): three fields, decoded
/// here because the protocol crate does not carry the message.
#[derive(Default)]
struct Generic {
    config_path: String,
    config_body: Vec<u8>,
}

impl Generic {
    fn decode(bytes: &[u8]) -> Result<Self> {
        let fault = |error| Fault::invalid(format!("runtime options do not decode: {error}"));
        let mut options = Self::default();
        let mut input = CodedInputStream::from_bytes(bytes);
        while let Some(tag) = input.read_raw_tag_or_eof().map_err(fault)? {
            // A tag is the field's number and its wire type; 2 is "length-delimited".
            match tag {
                0x12 => options.config_path = input.read_string().map_err(fault)?,
                0x1a => options.config_body = input.read_bytes().map_err(fault)?,
                _ => containerd_shim_protos::protobuf::rt::skip_field_for_tag(tag, &mut input).map_err(fault)?,
            }
        }
        Ok(options)
    }

    fn options(&self) -> Result<Options> {
        if !self.config_body.is_empty() {
            let text = std::str::from_utf8(&self.config_body)
                .map_err(|_| Fault::invalid("runtime options' config_body is not UTF-8"))?;
            return Options::from_toml(text, "config_body");
        }
        if self.config_path.is_empty() {
            return Ok(Options::default());
        }
        let origin = format!("\"{}\"", self.config_path.escape_debug());
        let text = read_small(&self.config_path).map_err(|error| {
            Fault::invalid(format!(
                "runtime options file {origin} cannot be read: {error}; correct ConfigPath in containerd's configuration"
            ))
        })?;
        Options::from_toml(&text, &origin)
    }
}

fn read_small(path: &str) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(MAX_OPTIONS_BYTES)
        .read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(type_url: &str, value: Vec<u8>) -> Any {
        Any {
            type_url: type_url.into(),
            value,
            ..Default::default()
        }
    }

    fn body(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut output = containerd_shim_protos::protobuf::CodedOutputStream::vec(&mut bytes);
        output.write_string(3, text).unwrap();
        output.flush().unwrap();
        drop(output);
        bytes
    }

    #[test]
    fn no_options_are_the_defaults() {
        assert_eq!(Options::decode(None).unwrap(), Options::default());
        assert_eq!(Options::decode(Some(&Any::default())).unwrap(), Options::default());
    }

    #[test]
    fn systemd_cgroup_is_read_from_either_type() {
        let runc = oci::Options {
            systemd_cgroup: true,
            ..Default::default()
        };
        let any_runc = any("containerd.runc.v1.Options", runc.write_to_bytes().unwrap());
        assert!(Options::decode(Some(&any_runc)).unwrap().systemd_cgroup);
        let any_toml = any("runtimeoptions.v1.Options", body("SystemdCgroup = true"));
        assert!(Options::decode(Some(&any_toml)).unwrap().systemd_cgroup);
    }

    #[test]
    fn limits_of_http_servers_may_be_those_of_a_handler() {
        let options = any("runtimeoptions.v1.Options", body("[http]\nmax_connections = 7"));
        let limits = Options::decode(Some(&options)).unwrap().http.unwrap();
        assert_eq!(limits.max_connections.get(), 7);
        let options = any("runtimeoptions.v1.Options", body("[http]\nmax_connections = 0"));
        let fault = Options::decode(Some(&options)).unwrap_err();
        assert!(fault.message.contains("max_connections"), "{fault}");
    }

    proptest::proptest! {
        #[test]
        fn any_body_is_read_or_refused_in_one_line(text in "(?s).{0,60}") {
            let decoded = Options::decode(Some(&any("runtimeoptions.v1.Options", body(&text))));
            if let Err(fault) = decoded {
                assert!(!fault.message.contains('\n') && fault.message.contains("SystemdCgroup"), "{fault}");
            }
        }

        #[test]
        fn systemd_cgroup_survives_its_encoding(systemd_cgroup: bool, root in ".{0,9}") {
            let options = oci::Options { systemd_cgroup, root, ..Default::default() };
            let any = any("containerd.runc.v1.Options", options.write_to_bytes().unwrap());
            assert_eq!(Options::decode(Some(&any)).unwrap(), Options { systemd_cgroup, ..Default::default() });
        }
    }

    #[test]
    fn an_unknown_option_is_named_with_the_known_ones() {
        let fault = Options::decode(Some(&any("runtimeoptions.v1.Options", body("Frob = 1")))).unwrap_err();
        assert!(
            fault.message.contains("Frob") && fault.message.contains("SystemdCgroup"),
            "{fault}"
        );
    }

    #[test]
    fn an_unknown_type_and_garbage_are_refused() {
        assert!(
            Options::decode(Some(&any("x.y.Z", vec![])))
                .unwrap_err()
                .message
                .contains("x.y.Z")
        );
        assert!(Options::decode(Some(&any("runtimeoptions.v1.Options", vec![0xff; 9]))).is_err());
        assert!(Options::decode(Some(&any("containerd.runc.v1.Options", vec![0xff; 9]))).is_err());
    }
}

//! Where a new shim runs, as containerd's own shim does it: in the cgroup that the node's admin chose for shims
//! (`ShimCgroup`), and a little more willing to be killed than containerd when the node is out of memory, so that
//! the daemon outlives it. The zygote and, unless their specs say otherwise, containers inherit both.

use containerd_shim_protos::bootstrap_api::BootstrapParams;
use containerd_shim_protos::protobuf::{Message, MessageField, well_known_types::any::Any};
use libcgroups::common::{CgroupConfig, CgroupManager, create_cgroup_manager};
use nix::unistd::{getpid, getppid};

use crate::fault::{Fault, Result};
use crate::options::Options;

/// The kernel's highest score: killed first. Source: proc(5), `oom_score_adj`.
const MAX_SCORE: i32 = 1000;

/// What is known about the place before the shim is forked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Placement {
    cgroup: String,
    score: Option<i32>,
}

impl Placement {
    /// Reads what the parent, containerd, has and says: runtime options come on standard input, alone or among the
    /// parameters.
    pub fn of_parent(input: &[u8], params: Option<&BootstrapParams>) -> Self {
        let score = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", getppid())).ok();
        Self {
            cgroup: cgroup_of(input, params),
            score: score.and_then(|score| score.trim().parse().ok()),
        }
    }

    /// Moves the current process, which must be single-threaded.
    pub fn take(&self) -> Result<()> {
        if let Some(score) = self.score {
            let score = score.saturating_add(1).min(MAX_SCORE);
            // Raising is always allowed; anything else is not worth the container.
            if let Err(error) = std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
                tracing::warn!(score, %error, "cannot set the shim's OOM score");
            }
        }
        if self.cgroup.is_empty() {
            return Ok(());
        }
        let fault = |why: String| {
            Fault::invalid(format!(
                "cannot put the shim into cgroup \"{}\": {why}; correct ShimCgroup in containerd's runtime options",
                self.cgroup.escape_debug()
            ))
        };
        let config = CgroupConfig {
            cgroup_path: self.cgroup.clone().into(),
            systemd_cgroup: false,
            container_name: "shim".to_owned(),
        };
        let pid = libcgroups::Pid::from_raw(getpid().as_raw());
        create_cgroup_manager(config)
            .map_err(|error| fault(error.to_string()))?
            .add_task(pid)
            .map_err(|error| fault(error.to_string()))
    }
}

/// Empty where none is asked for. Options that are wrong are refused by Create, where the user sees it.
fn cgroup_of(input: &[u8], params: Option<&BootstrapParams>) -> String {
    let all: Vec<Any> = match params {
        Some(params) => {
            let values = params.extensions.iter().map(|extension| extension.value.clone());
            values.filter_map(MessageField::into_option).collect()
        }
        None => Any::parse_from_bytes(input).into_iter().collect(),
    };
    let options = all.iter().filter_map(|any| Options::decode(Some(any)).ok());
    let mut cgroups = options.map(|options| options.shim_cgroup);
    cgroups.find(|cgroup| !cgroup.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use containerd_shim_protos::bootstrap_api::Extension;
    use containerd_shim_protos::shim::oci;

    fn options() -> Any {
        let options = oci::Options {
            shim_cgroup: "/shims".into(),
            ..Default::default()
        };
        Any {
            type_url: "containerd.runc.v1.Options".into(),
            value: options.write_to_bytes().unwrap(),
            ..Default::default()
        }
    }

    #[test]
    fn the_shims_cgroup_is_found_in_either_form_of_input() {
        assert_eq!(cgroup_of(&options().write_to_bytes().unwrap(), None), "/shims");
        let params = BootstrapParams {
            extensions: vec![
                Extension::default(),
                Extension {
                    value: MessageField::some(options()),
                    ..Default::default()
                },
            ],
            ..Default::default()
        };
        assert_eq!(cgroup_of(&[], Some(&params)), "/shims");
        assert_eq!(cgroup_of(&[], None), "");
    }
}

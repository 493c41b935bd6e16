//! What a container's specification gives to a guest.

use std::path::PathBuf;

use crate::http::HttpLimits;
use crate::limits::MemoryBudget;

/// Everything a guest is given when it runs.
#[derive(Clone, Debug)]
pub struct GuestSpec {
    /// Command line; the first element is the program's name.
    pub args: Vec<String>,
    /// Environment, in the order of the container's specification.
    pub env: Vec<(String, String)>,
    /// Working directory inside the guest, absolute. WASI has no such notion of its own: components are told by
    /// `initial-cwd`, and every guest finds it in `PWD`.
    pub cwd: String,
    /// What the guest sees as `/`: the root of the process that calls [`crate::Guest::run`], but in tests. What is
    /// read-only there is so by the kernel, for the guest as for any process.
    pub root: PathBuf,
    /// What all linear memories of the guest may hold together.
    pub memory: MemoryBudget,
    /// Where a server listens, on all addresses, if the environment does not say.
    pub http_port: u16,
    /// What clients of a server may cost it.
    pub http_limits: HttpLimits,
}

impl Default for GuestSpec {
    fn default() -> Self {
        Self {
            args: Vec::new(),
            env: Vec::new(),
            cwd: String::from("/"),
            root: PathBuf::from("/"),
            memory: MemoryBudget::unlimited(),
            http_port: crate::http::DEFAULT_PORT,
            http_limits: HttpLimits::default(),
        }
    }
}

impl GuestSpec {
    /// The guest's environment: that of the specification, and `PWD` where it would not be the default.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let mut env = self.env.clone();
        if self.cwd != "/" && !self.cwd.is_empty() && !env.iter().any(|(name, _)| name == "PWD") {
            env.push((String::from("PWD"), self.cwd.clone()));
        }
        env
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_cwd(cwd: &str, env: &[(&str, &str)]) -> Vec<(String, String)> {
        let env = env.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        GuestSpec {
            cwd: cwd.into(),
            env: env.collect(),
            ..GuestSpec::default()
        }
        .environment()
    }

    #[test]
    fn pwd_is_added_for_a_working_directory_other_than_the_root() {
        assert_eq!(with_cwd("/app", &[]), [("PWD".to_string(), "/app".to_string())]);
        assert!(with_cwd("/", &[]).is_empty());
        assert!(with_cwd("", &[]).is_empty());
    }

    #[test]
    fn a_pwd_of_the_specification_is_kept() {
        assert_eq!(
            with_cwd("/app", &[("PWD", "/other")]),
            [("PWD".to_string(), "/other".to_string())]
        );
    }
}

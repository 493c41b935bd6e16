//! Environment and arguments.

use crate::harness::{Subject, of_each};

of_each! {
    fn the_environment_comes_from_config_maps_secrets_and_the_pod_itself(ns) {
        ns.apply("environment")?;
        let phase = ns.ended("environment")?;
        let log = ns.logs(&["environment"])?;
        assert_eq!(phase, "Succeeded", "{log}");
        let node = format!("NODE={}", ns.cluster.node_name());
        // WASI has no working directory: a guest finds it in a variable.
        let directory = if ns.subject == Subject::Wasm { "PWD=/tmp" } else { "/tmp" };
        for line in [
            "blue as it is $(PLAIN) $(NOBODY)",
            "COLOR=blue",
            "SHAPE=blue",
            "SECRET_WORD=open sesame",
            "PLAIN=as it is",
            "COMPOSED=as it is, and more",
            "TEAM=green",
            "CPU=250",
            "HOSTNAME=chosen",
            "KUBERNETES_SERVICE_PORT=443",
            node.as_str(),
            directory,
        ] {
            assert!(log.lines().any(|found| found == line), "no line {line:?} in {log}");
        }
        Ok(())
    }
}

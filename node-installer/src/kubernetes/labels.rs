//! The labels of a node that are Tandem's. The chart's admission policy has the same list: the agent's account can
//! change no others.

use serde_json::{Value, json};

/// A Wasm container has run on the node. The RuntimeClass selects nodes by this label. Kubernetes lets no kubelet set
/// a label of this prefix (admission plugin `NodeRestriction`), so a node cannot draw Wasm pods to itself.
pub const READY: &str = "tandem.dev.node-restriction.kubernetes.io/ready";
/// The earlier name of [`READY`], for node selectors that people wrote themselves. Version 0.1 sets it beside the new
/// one; the next version only removes it.
pub const READY_ALIAS: &str = "tandem.dev/ready";
/// The installed version.
pub const VERSION: &str = "tandem.dev/version";

/// Opens a node to pods of this version.
pub(super) fn published(version: &str) -> Value {
    json!({ READY: "true", READY_ALIAS: "true", VERSION: label_value(version) })
}

/// Closes a node to further pods; what is installed can still be seen.
pub(super) fn withdrawn() -> Value {
    json!({ READY: null, READY_ALIAS: null })
}

/// Says that nothing is installed.
pub(super) fn forgotten() -> Value {
    json!({ READY: null, READY_ALIAS: null, VERSION: null })
}

/// A version as a label may have it.
fn label_value(version: &str) -> String {
    let allowed = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
            c
        } else {
            '_'
        }
    };
    let text: String = version.chars().take(63).map(allowed).collect();
    text.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs, path::Path};

    const ALL: [&str; 3] = [READY, READY_ALIAS, VERSION];

    /// A file of the repository.
    fn source(path: &str) -> String {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
    }

    fn keys(labels: &Value) -> BTreeSet<&str> {
        labels.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn a_version_becomes_a_valid_label() {
        assert_eq!(label_value("0.1.0-abcdef"), "0.1.0-abcdef");
        assert_eq!(label_value("1.0.0+build.7-"), "1.0.0_build.7");
        assert!(label_value(&"x".repeat(99)).len() == 63);
    }

    #[test]
    fn whatever_opens_a_node_is_removed_to_close_it() {
        let open = published("1.0.0");
        assert_eq!(keys(&open), BTreeSet::from(ALL));
        assert_eq!((&open[READY], &open[READY_ALIAS]), (&json!("true"), &json!("true")));
        assert_eq!(keys(&withdrawn()), BTreeSet::from([READY, READY_ALIAS]));
        assert_eq!(keys(&forgotten()), keys(&open));
        let removed = |labels: Value| labels.as_object().unwrap().values().all(Value::is_null);
        assert!(removed(withdrawn()) && removed(forgotten()));
    }

    #[test]
    fn nodes_are_selected_by_a_label_that_no_kubelet_may_set() {
        // As Kubernetes' NodeRestriction decides.
        let (prefix, _) = READY.split_once('/').unwrap();
        assert!(prefix.ends_with(".node-restriction.kubernetes.io"));
        for file in [
            "runtimeclass/tandem.yaml",
            "deploy/helm/tandem/templates/runtimeclass.yaml",
            "deploy/kustomize/base/tandem.yaml",
        ] {
            let text = source(file);
            let scheduling = text.split("\nscheduling:\n").nth(1).unwrap();
            let selector = scheduling.split("  nodeSelector:\n").nth(1).unwrap();
            let first = selector.lines().next().unwrap().trim();
            assert_eq!(first, format!("{READY}: \"true\""), "{file}");
        }
    }

    #[test]
    fn the_admission_policy_knows_the_same_labels() {
        let list = format!("['{}']", ALL.join("', '"));
        for file in [
            "deploy/helm/tandem/templates/admissionpolicy.yaml",
            "deploy/kustomize/base/tandem.yaml",
        ] {
            assert!(source(file).contains(&list), "{file} has not {list}");
        }
    }
}

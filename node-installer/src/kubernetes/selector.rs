//! Whether a pod template selects a node: node selector and required node affinity, as the scheduler reads them
//! (k8s.io/component-helpers `scheduling/corev1/nodeaffinity`). Taints are left out on purpose: a new taint does not
//! mean that Tandem is to leave.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

/// Whether pods of this spec belong on the node.
pub(super) fn selects(pod: &PodSpec, node: &Node) -> bool {
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    let wanted = pod.node_selector.iter().flatten();
    if !wanted.into_iter().all(|(key, value)| labels.get(key) == Some(value)) {
        return false;
    }
    let affinity = pod
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    let Some(required) = required else { return true };
    required.node_selector_terms.iter().any(|term| fits(term, labels, node))
}

fn fits(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    // A term without any requirement selects nothing.
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let field = |requirement: &NodeSelectorRequirement| {
        // The only field that the API server takes.
        requirement.key == "metadata.name" && holds(requirement, node.metadata.name.as_deref())
    };
    let label =
        |requirement: &NodeSelectorRequirement| holds(requirement, labels.get(&requirement.key).map(String::as_str));
    expressions.iter().all(label) && fields.iter().all(field)
}

fn holds(requirement: &NodeSelectorRequirement, found: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = || found.is_some_and(|found| values.iter().any(|value| value == found));
    let compare = || {
        let found: i64 = found?.parse().ok()?;
        let limit: i64 = values.first()?.parse().ok()?;
        Some(found.cmp(&limit))
    };
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => compare().is_some_and(std::cmp::Ordering::is_gt),
        "Lt" => compare().is_some_and(std::cmp::Ordering::is_lt),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node() -> Node {
        let labels = json!({ "pool": "wasm", "cores": "8", "kubernetes.io/os": "linux" });
        serde_json::from_value(json!({ "metadata": { "name": "n1", "labels": labels } })).unwrap()
    }

    fn selected(spec: Value) -> bool {
        let mut spec = spec;
        spec["containers"] = json!([]);
        selects(&serde_json::from_value(spec).unwrap(), &node())
    }

    fn affinity(requirement: Value) -> Value {
        let terms = json!([{ "matchExpressions": [requirement] }]);
        let required = json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } });
        json!({ "affinity": { "nodeAffinity": required } })
    }

    #[test]
    fn a_node_selector_must_hold_whole() {
        assert!(selected(json!({})));
        assert!(selected(json!({ "nodeSelector": { "pool": "wasm" } })));
        assert!(!selected(json!({ "nodeSelector": { "pool": "wasm", "zone": "a" } })));
    }

    #[test]
    fn every_operator_of_an_affinity_is_known() {
        for (key, operator, values, fits) in [
            ("pool", "In", json!(["x", "wasm"]), true),
            ("pool", "NotIn", json!(["wasm"]), false),
            ("zone", "NotIn", json!(["a"]), true),
            ("pool", "Exists", json!([]), true),
            ("zone", "DoesNotExist", json!([]), true),
            ("cores", "Gt", json!(["4"]), true),
            ("cores", "Lt", json!(["4"]), false),
            ("pool", "Gt", json!(["4"]), false),
        ] {
            let requirement = json!({ "key": key, "operator": operator, "values": values });
            assert_eq!(selected(affinity(requirement)), fits, "{key} {operator}");
        }
    }

    #[test]
    fn an_empty_term_selects_nothing_and_a_name_its_node() {
        let terms = |terms: Value| {
            let required = json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } });
            json!({ "affinity": { "nodeAffinity": required } })
        };
        assert!(!selected(terms(json!([{}]))));
        let name = |name| json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [name] }] }]);
        assert!(selected(terms(name("n1"))));
        assert!(!selected(terms(name("n2"))));
    }
}

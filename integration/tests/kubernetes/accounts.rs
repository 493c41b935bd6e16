//! What the agents' account may change, whatever else it is granted: the chart's admission policies. And that no kubelet
//! can claim to be ready for Wasm pods.
//!
//! All requests are dry runs: the API server judges them as any other.

use serde_json::{Value, json};

use crate::harness::{Answer, Cluster, Error, LONG, Namespace, Result, Subject, run, until};
use crate::installation::{HOME, READY, READY_ALIAS, json as parse};

/// The extra of a service account's token that names the node of its pod.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// Somebody else than the admin, for `kubectl`.
struct Account<'a> {
    cluster: &'a Cluster,
    /// Holds the kubeconfig.
    dir: tempfile::TempDir,
}

impl<'a> Account<'a> {
    /// Impersonates; the audit log has these requests as the admin's.
    fn new(cluster: &'a Cluster, user: &Value) -> Result<Self> {
        let dir = tempfile::tempdir().map_err(Error::system("cannot make", "a directory"))?;
        let view = ["config", "view", "--raw", "--flatten", "--minify", "--output=json"];
        let mut config = parse(&cluster.ok(&view)?)?;
        for (key, value) in user.as_object().into_iter().flatten() {
            config["users"][0]["user"][key] = value.clone();
        }
        let file = dir.path().join("config");
        std::fs::write(&file, config.to_string()).map_err(Error::system("cannot write", &file))?;
        Ok(Self { cluster, dir })
    }

    /// The agent on a node; nowhere, if that is empty.
    fn agent(cluster: &'a Cluster, node: &str) -> Result<Self> {
        let mut user = json!({ "as": format!("system:serviceaccount:{HOME}:tandem") });
        if !node.is_empty() {
            user["as-user-extra"] = json!({ NODE_NAME: [node] });
        }
        Self::new(cluster, &user)
    }

    fn kubectl(&self, args: &[&str], input: Option<&Value>) -> Result<Answer> {
        let mut command = self.cluster.kubectl();
        command.env("KUBECONFIG", self.dir.path().join("config")).args(args);
        run(
            &mut command,
            input.map(ToString::to_string).as_deref().map(str::as_bytes),
        )
    }

    fn patch(&self, node: &str, patch: &Value, more: &[&str]) -> Result<Answer> {
        let patch = patch.to_string();
        let args = [
            "patch",
            "node",
            node,
            "--type=merge",
            "--dry-run=server",
            "--patch",
            &patch,
        ];
        self.kubectl(&[&args[..], more].concat(), None)
    }

    fn evict(&self, pod: &Value, uid: Option<&Value>) -> Result<Answer> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
        let mut eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": { "namespace": namespace, "name": name },
            "deleteOptions": { "dryRun": ["All"] },
        });
        if let Some(uid) = uid {
            eviction["deleteOptions"]["preconditions"] = json!({ "uid": uid });
        }
        let url = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction");
        self.kubectl(&["create", "--raw", &url, "--filename=-"], Some(&eviction))
    }
}

/// More rights than the chart gives the agents' account, as long as a test lasts.
struct Granted<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl<'a> Granted<'a> {
    fn new(cluster: &'a Cluster, test: &str, rights: &[(&str, &str)]) -> Result<Self> {
        let granted = Self {
            cluster,
            name: format!("{test}-{}", std::process::id()),
        };
        let rule =
            |(resource, verb): &(&str, &str)| json!({ "apiGroups": [""], "resources": [resource], "verbs": [verb] });
        let rules: Vec<Value> = rights.iter().map(rule).collect();
        let (api, metadata) = ("rbac.authorization.k8s.io", json!({ "name": granted.name }));
        let version = format!("{api}/v1");
        let role = json!({ "apiVersion": version, "kind": "ClusterRole", "metadata": metadata, "rules": rules });
        let binding = json!({
            "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": metadata,
            "roleRef": { "apiGroup": api, "kind": "ClusterRole", "name": granted.name },
            "subjects": [{ "kind": "ServiceAccount", "name": "tandem", "namespace": HOME }],
        });
        for object in [role, binding] {
            let apply = ["apply", "--filename=-"];
            run(cluster.kubectl().args(apply), Some(object.to_string().as_bytes()))?.success()?;
        }
        // RBAC sees a new binding a moment later.
        let account = format!("--as=system:serviceaccount:{HOME}:tandem");
        for (resource, verb) in rights {
            let (resource, part) = resource.split_once('/').unwrap_or((resource, ""));
            let part = format!("--subresource={part}");
            let can = ["auth", "can-i", verb, resource, &part, "--all-namespaces", &account];
            until(&format!("the right to {verb} {resource}"), LONG, || {
                Ok((run(cluster.kubectl().args(can), None)?.code == 0).then_some(()))
            })?;
        }
        Ok(granted)
    }
}

impl Drop for Granted<'_> {
    fn drop(&mut self) {
        for kind in ["clusterrolebinding", "clusterrole"] {
            if let Err(error) = self.cluster.ok(&["delete", kind, &self.name, "--ignore-not-found"]) {
                eprintln!("{error}");
            }
        }
    }
}

fn require_refused(answer: &Answer, words: &str) {
    assert!(answer.code != 0 && answer.stderr.contains(words), "{answer}");
}

#[test]
fn an_agent_changes_nothing_of_nodes_but_tandems_labels_of_its_own() -> Result<()> {
    let cluster = Cluster::get()?;
    let rights = [("nodes/status", "get"), ("nodes/status", "patch"), ("nodes", "delete")];
    let _granted = Granted::new(cluster, "agents-nodes", &rights)?;
    let (own, other) = (cluster.node_name(), cluster.second_name());
    let agent = Account::agent(cluster, own)?;
    let label = |key: &str, value: Value| json!({ "metadata": { "labels": { key: value } } });

    // What it is there for.
    for key in [READY, READY_ALIAS, "tandem.dev/version"] {
        for value in [json!("x"), Value::Null] {
            agent.patch(own, &label(key, value), &[])?.success()?;
        }
    }
    let only_labels = "may change the labels of Tandem only";
    for (key, value) in [
        ("pool", json!("x")),
        ("kubernetes.io/os", Value::Null),
        ("kubernetes.io/hostname", json!("another")),
        ("tandem.dev/pool", json!("x")),
        ("node-restriction.kubernetes.io/pool", json!("x")),
        ("tandem.dev.node-restriction.kubernetes.io/pool", json!("x")),
    ] {
        require_refused(&agent.patch(own, &label(key, value), &[])?, only_labels);
    }
    let owner = json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x" }]);
    for metadata in [
        json!({ "annotations": { "example.test/x": "y" } }),
        json!({ "annotations": null }),
        json!({ "finalizers": ["example.test/x"] }),
        json!({ "ownerReferences": owner }),
    ] {
        let patch = json!({ "metadata": metadata });
        require_refused(&agent.patch(own, &patch, &[])?, "may change labels only");
    }
    let taint = json!([{ "key": "example.test/x", "effect": "NoExecute" }]);
    for spec in [json!({ "unschedulable": true }), json!({ "taints": taint })] {
        require_refused(&agent.patch(own, &json!({ "spec": spec }), &[])?, "node's spec");
    }
    let status = json!({ "status": { "capacity": { "example.test/x": "1" } } });
    let refused = agent.patch(own, &status, &["--subresource=status"])?;
    require_refused(&refused, "may do nothing with nodes but change labels");
    let delete = agent.kubectl(&["delete", "node", own, "--dry-run=server", "--wait=false"], None)?;
    require_refused(&delete, "may do nothing with nodes but change labels");

    let ready = label(READY, json!("true"));
    require_refused(&agent.patch(other, &ready, &[])?, "its own node only");
    let nowhere = Account::agent(cluster, "")?;
    require_refused(&nowhere.patch(own, &ready, &[])?, "its own node only");
    Ok(())
}

/// A pod that sleeps on a node, as the API server has it.
fn sleeper(ns: &Namespace, name: &str, node: &str) -> Result<Value> {
    let image = format!("{}/busybox:1", ns.cluster.registry());
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 1,
            "tolerations": [{ "operator": "Exists" }],
            "containers": [{ "name": "main", "image": image, "command": ["sleep", "1000"] }],
        },
    });
    ns.input(&["apply", "--filename=-"], pod.to_string().as_bytes())?
        .success()?;
    ns.get(&format!("pod/{name}"))
}

#[test]
fn an_agent_ends_pods_of_its_own_node_only() -> Result<()> {
    fn test(ns: &Namespace) -> Result<()> {
        let cluster = ns.cluster;
        let rights = [("pods/eviction", "create"), ("pods", "delete"), ("pods", "get")];
        let _granted = Granted::new(cluster, "agents-pods", &rights)?;
        let agent = Account::agent(cluster, cluster.node_name())?;
        let nowhere = Account::agent(cluster, "")?;
        let here = sleeper(ns, "here", cluster.node_name())?;
        let there = sleeper(ns, "there", cluster.second_name())?;
        let uid = |pod: &Value| pod["metadata"]["uid"].clone();

        until("the eviction of a pod of the own node", LONG, || {
            // The API server's policy sees a new pod a moment later.
            Ok((agent.evict(&here, Some(&uid(&here)))?.code == 0).then_some(()))
        })?;
        let own_only = "may end pods of its own node only";
        require_refused(&agent.evict(&there, Some(&uid(&there)))?, own_only);
        require_refused(&agent.evict(&there, Some(&uid(&here)))?, own_only);
        require_refused(&agent.evict(&here, Some(&uid(&there)))?, own_only);
        require_refused(&agent.evict(&here, None)?, "must name the uid");
        require_refused(&nowhere.evict(&here, Some(&uid(&here)))?, own_only);

        let delete = |account: &Account<'_>, pod: &str| {
            let args = [
                "delete",
                "pod",
                pod,
                "--namespace",
                ns.name(),
                "--dry-run=server",
                "--wait=false",
            ];
            account.kubectl(&args, None)
        };
        delete(&agent, "here")?.success()?;
        require_refused(&delete(&agent, "there")?, own_only);
        require_refused(&delete(&nowhere, "here")?, own_only);
        Ok(())
    }
    Namespace::with("agents_pods", Subject::Runc, test)
}

#[test]
fn a_kubelet_cannot_claim_that_its_node_is_ready_for_wasm_pods() -> Result<()> {
    let cluster = Cluster::get()?;
    let node = cluster.node_name();
    let kubelet = json!({ "as": format!("system:node:{node}"), "as-groups": ["system:nodes", "system:authenticated"] });
    let kubelet = Account::new(cluster, &kubelet)?;
    let label = |key: &str| json!({ "metadata": { "labels": { key: "claimed" } } });
    require_refused(
        &kubelet.patch(node, &label(READY), &[])?,
        "is not allowed to modify labels",
    );
    // It may set labels in general, such as the earlier name of this one.
    kubelet.patch(node, &label(READY_ALIAS), &[])?.success()?;
    let class = parse(&cluster.ok(&["get", "runtimeclass", "tandem", "--output=json"])?)?;
    assert_eq!(class["scheduling"]["nodeSelector"], json!({ READY: "true" }));
    Ok(())
}

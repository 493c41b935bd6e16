//! A stand-in for the Kubernetes API server: one node, one DaemonSet, events, evictions; it grants what the chart grants
//! (deploy/helm/tandem/templates/rbac.yaml) and forbids all else. It proves what the agent asks and what it makes of the
//! answers; it does not prove that a real API server answers so.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// The node's labels that are Tandem's.
pub const READY: &str = "tandem.dev.node-restriction.kubernetes.io/ready";
pub const READY_ALIAS: &str = "tandem.dev/ready";
pub const VERSION: &str = "tandem.dev/version";
/// Namespace and name of the DaemonSet, name of the node.
pub const NAMESPACE: &str = "tandem-system";
pub const SET: &str = "tandem";
pub const NODE: &str = "n1";

#[derive(Debug, Default)]
pub struct State {
    pub labels: BTreeMap<String, String>,
    pub daemon_set: Option<Value>,
    /// Reasons and messages.
    pub events: Vec<(String, String)>,
    /// Namespace, name and uid of each.
    pub evicted: Vec<String>,
    /// RuntimeClasses of the cluster's pods.
    pub pods: Vec<String>,
    /// Verbs and resources that were asked for.
    pub used: BTreeSet<String>,
    /// Requests outside of what is granted.
    pub forbidden: Vec<String>,
    /// Whether the account is known; after `helm uninstall` without its hook it is not.
    pub unknown_account: bool,
}

pub struct Api {
    state: Arc<Mutex<State>>,
    port: u16,
    server: JoinHandle<()>,
}

impl Api {
    /// Serves a cluster whose DaemonSet selects the node.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State {
            labels: BTreeMap::from([("pool".into(), "wasm".into())]),
            daemon_set: Some(daemon_set(&json!({ "pool": "wasm" }))),
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                let service = service_fn(move |request| answer(Arc::clone(&state), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { state, port, server }
    }

    pub fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Writes a kubeconfig that leads here.
    pub fn kubeconfig(&self, dir: &Path) -> PathBuf {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": format!("http://127.0.0.1:{}", self.port) } }],
            "users": [{ "name": "c", "user": { "token": "t" } }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "c" } }],
        });
        let path = dir.join("kubeconfig");
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A DaemonSet of this node selector.
pub fn daemon_set(selector: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": { "name": SET, "namespace": NAMESPACE },
        "spec": {
            "selector": { "matchLabels": {} },
            "template": { "metadata": {}, "spec": { "containers": [], "nodeSelector": selector } },
        },
    })
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (status, value) = route(&mut state.lock().unwrap(), &head.method, head.uri.path(), &body);
    let response = Response::builder()
        .status(status)
        .header("content-type", "application/json");
    Ok(response.body(Full::from(value.to_string())).unwrap())
}

fn route(state: &mut State, method: &Method, path: &str, body: &Value) -> (StatusCode, Value) {
    if state.unknown_account {
        return failure(StatusCode::UNAUTHORIZED, "Unauthorized");
    }
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (method.as_str(), &parts[..]) {
        ("GET", ["api", "v1", "nodes", NODE]) => {
            state.used.insert("get nodes".into());
            (StatusCode::OK, node(state))
        }
        ("PATCH", ["api", "v1", "nodes", NODE]) => {
            state.used.insert("patch nodes".into());
            let only = |value: &Value, key: &str| value.as_object().unwrap().keys().all(|other| other == key);
            let allowed = only(body, "metadata") && only(&body["metadata"], "labels");
            assert!(allowed, "the agent may change labels only: {body}");
            for (key, value) in body["metadata"]["labels"].as_object().unwrap() {
                assert!([READY, READY_ALIAS, VERSION].contains(&key.as_str()), "{key}");
                match value.as_str() {
                    Some(value) => state.labels.insert(key.clone(), value.into()),
                    None => state.labels.remove(key),
                };
            }
            (StatusCode::OK, node(state))
        }
        ("GET", ["apis", "apps", "v1", "namespaces", NAMESPACE, "daemonsets", SET]) => {
            state.used.insert("get daemonsets".into());
            let found = state.daemon_set.clone();
            found.map_or_else(
                || failure(StatusCode::NOT_FOUND, "NotFound"),
                |set| (StatusCode::OK, set),
            )
        }
        ("POST", ["api", "v1", "namespaces", "default", "events"]) => {
            state.used.insert("create events".into());
            assert_eq!(body["involvedObject"]["name"], NODE);
            let text = |key: &str| body[key].as_str().unwrap().to_owned();
            state.events.push((text("reason"), text("message")));
            (StatusCode::CREATED, body.clone())
        }
        ("POST", ["api", "v1", "namespaces", namespace, "pods", pod, "eviction"]) => {
            state.used.insert("create pods/eviction".into());
            let uid = body["deleteOptions"]["preconditions"]["uid"].as_str().unwrap();
            state.evicted.push(format!("{namespace}/{pod} {uid}"));
            let status = json!({ "apiVersion": "v1", "kind": "Status", "status": "Success", "code": 201 });
            (StatusCode::CREATED, status)
        }
        ("GET", ["api", "v1", "pods"]) => {
            state.used.insert("list pods".into());
            let pod = |class: &String| json!({ "metadata": { "namespace": "shop", "name": "p" }, "spec": { "containers": [], "runtimeClassName": class } });
            let items: Vec<Value> = state.pods.iter().map(pod).collect();
            (
                StatusCode::OK,
                json!({ "apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items }),
            )
        }
        ("GET", ["api", "v1", "nodes"]) => {
            state.used.insert("list nodes".into());
            let labelled = state.labels.contains_key(VERSION);
            let items = if labelled { vec![node(state)] } else { vec![] };
            (
                StatusCode::OK,
                json!({ "apiVersion": "v1", "kind": "NodeList", "metadata": {}, "items": items }),
            )
        }
        ("DELETE", ["apis", "apps", "v1", "namespaces", NAMESPACE, "daemonsets", SET]) => {
            state.used.insert("delete daemonsets".into());
            assert_eq!(body["propagationPolicy"], "Foreground");
            // The agents' part is not played here: their pods are gone at once.
            let set = state.daemon_set.take();
            set.map_or_else(
                || failure(StatusCode::NOT_FOUND, "NotFound"),
                |set| (StatusCode::OK, set),
            )
        }
        _ => {
            state.forbidden.push(format!("{method} {path}"));
            failure(StatusCode::FORBIDDEN, "Forbidden")
        }
    }
}

fn node(state: &State) -> Value {
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE, "labels": state.labels } })
}

fn failure(code: StatusCode, reason: &str) -> (StatusCode, Value) {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "reason": reason, "message": reason, "code": code.as_u16(),
    });
    (code, status)
}

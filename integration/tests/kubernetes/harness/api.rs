//! The API server without a process for each call: `kubectl proxy` once, and what it answers. Tests look at objects hundreds
//! of times, and `kubectl` takes a tenth of a second of a processor.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio, id},
    sync::OnceLock,
    thread,
};

use serde_json::Value;
use tandem_integration::{Error, Result};

use super::{Cluster, LONG, SOON, until, wrong};

/// The address of one object, as `kind/name`, or of all of a kind in a namespace.
fn path(namespace: &str, object: &str) -> Result<String> {
    let (kind, name) = object.split_once('/').unwrap_or((object, ""));
    let (api, is_namespaced) = match kind {
        "pod" | "pods" => ("api/v1/pods", true),
        "serviceaccount" => ("api/v1/serviceaccounts", true),
        "persistentvolumeclaim" => ("api/v1/persistentvolumeclaims", true),
        "deployment" => ("apis/apps/v1/deployments", true),
        "job" => ("apis/batch/v1/jobs", true),
        "node" => ("api/v1/nodes", false),
        "persistentvolume" => ("api/v1/persistentvolumes", false),
        "runtimeclass" => ("apis/node.k8s.io/v1/runtimeclasses", false),
        _ => return wrong(format!("no address is known of a {kind}")),
    };
    let (group, plural) = api.rsplit_once('/').unwrap_or_default();
    let place = if is_namespaced {
        format!("/namespaces/{namespace}")
    } else {
        String::new()
    };
    Ok(format!("/{group}{place}/{plural}/{name}")
        .trim_end_matches('/')
        .to_owned())
}

/// The socket of a `kubectl proxy` that ends with this process.
fn socket(cluster: &'static Cluster) -> Result<&'static PathBuf> {
    static SOCKET: OnceLock<PathBuf> = OnceLock::new();
    let socket = SOCKET.get_or_init(|| {
        let socket = Cluster::dir().join(format!("proxy-{}", id()));
        let _ = fs::remove_file(&socket);
        let kubectl = cluster.kubectl();
        let mut proxy = Command::new("setpriv");
        proxy.args(["--pdeathsig", "KILL", "--"]).arg(kubectl.get_program());
        proxy.envs(kubectl.get_envs().filter_map(|(name, value)| Some((name, value?))));
        proxy.args(["proxy", "--unix-socket"]).arg(&socket);
        proxy.stdin(Stdio::null()).stdout(Stdio::null());
        // The kernel ends it when the thread that started it ends, which is that of no test.
        thread::spawn(move || eprintln!("kubectl proxy ended: {:?}", proxy.status()));
        socket
    });
    until("kubectl proxy", SOON, || Ok(socket.exists().then_some(socket)))
}

/// What the API server knows of an object (`pod/name`) or of those of a kind (`pods`) that have a label.
///
/// # Errors
/// Where it knows none, or cannot be asked.
pub fn look(cluster: &'static Cluster, namespace: &str, object: &str, label: &str) -> Result<Value> {
    let mut path = path(namespace, object)?;
    if !label.is_empty() {
        path = format!("{path}?labelSelector={}", label.replace('=', "%3D"));
    }
    request(cluster, "GET", &path, "")
}

/// Makes a namespace.
///
/// # Errors
/// Where it cannot be made.
pub fn create_namespace(cluster: &'static Cluster, name: &str) -> Result<()> {
    let namespace = format!(r#"{{"metadata": {{"name": "{name}"}}}}"#);
    request(cluster, "POST", "/api/v1/namespaces", &namespace).map(drop)
}

/// Deletes a namespace, its pods at once. What owns pods goes by the namespace's controller, which takes its time, and
/// makes no others from now on.
///
/// # Errors
/// Where that is refused.
pub fn delete_namespace(cluster: &'static Cluster, name: &str) -> Result<()> {
    request(cluster, "DELETE", &format!("/api/v1/namespaces/{name}"), "")?;
    request(cluster, "DELETE", &path(name, "pods")?, "").map(drop)
}

/// Asks until there is an answer, as `kubectl` does: an API server that is busy says so and wants to be asked again.
fn request(cluster: &'static Cluster, method: &str, path: &str, body: &str) -> Result<Value> {
    let socket = socket(cluster)?;
    let mut again = false;
    until(&format!("an answer to {method} {path}"), LONG, || {
        let answer = ask(socket, method, path, body);
        let is_again = std::mem::replace(&mut again, true);
        let (status, body) = match &answer {
            Ok(answer) => answer.split_once("\r\n\r\n").unwrap_or((answer, "")),
            Err(_) => ("", ""),
        };
        match status.split_whitespace().nth(1).unwrap_or_default() {
            "" | "429" => Ok(None),
            status if status.starts_with('5') => Ok(None),
            // What was asked for before was done, although no answer came.
            "409" if is_again && method == "POST" => Ok(Some(Value::Null)),
            status if status.starts_with('2') => serde_json::from_str(body)
                .map(Some)
                .map_err(|cause| Error::Setup(format!("{path}: {cause}"))),
            _ => wrong(format!("{method} {path}: {body}")),
        }
    })
}

/// One request; in HTTP/1.0 the end of the answer is that of the connection.
fn ask(socket: &Path, method: &str, path: &str, body: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    let head = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json");
    let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

//! Why this pod is being ended: because it is replaced (an update, a restart, a drain of the node), or because Tandem
//! is to leave the node. Only positive evidence of the latter counts. A wrong "leave" restarts containerd twice for
//! nothing; a wrong "stay" is put right by one more command.

use k8s_openapi::api::apps::v1::DaemonSet;
use kube::Api;

use super::{node::NodeClient, selector::selects};
use crate::error::{Error, Result};

/// What the cluster wants of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intent {
    /// The DaemonSet is there and selects the node.
    Stay,
    /// The reason to leave.
    Leave(&'static str),
}

/// Asks the API server about the DaemonSet that this pod is of.
///
/// # Errors
/// An API server that cannot be asked, or that does not know this pod's account any more: that is no evidence.
pub async fn intent(node: &NodeClient, namespace: &str, daemon_set: &str) -> Result<Intent> {
    let sets: Api<DaemonSet> = Api::namespaced(node.client(), namespace);
    let set = sets.get_opt(daemon_set).await;
    let set = set.map_err(Error::kubernetes(format!("get DaemonSet {namespace}/{daemon_set}")))?;
    let Some(set) = set else {
        return Ok(Intent::Leave("the DaemonSet was deleted"));
    };
    if set.metadata.deletion_timestamp.is_some() {
        return Ok(Intent::Leave("the DaemonSet is being deleted"));
    }
    let pod = set.spec.and_then(|spec| spec.template.spec).unwrap_or_default();
    if selects(&pod, &node.get().await?) {
        return Ok(Intent::Stay);
    }
    Ok(Intent::Leave("the DaemonSet does not select this node any more"))
}

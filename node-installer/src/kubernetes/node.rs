//! A node of a cluster: its labels, its events, its pods.

use k8s_openapi::{
    api::{
        core::v1::{Event, EventSource, Node, ObjectReference, Pod},
        policy::v1::Eviction,
    },
    apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Preconditions, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tracing::warn;

use super::labels;
use crate::error::{Error, Result};

/// Who the API server's audit log says it was.
const MANAGER: &str = "tandem-node-installer";
/// Events of objects without a namespace live here.
const EVENTS: &str = "default";
/// Longest message of an event that the API server takes.
const MAX_MESSAGE: usize = 1024;

/// A node of a cluster, as its API server has it.
#[derive(Clone)]
pub struct NodeClient {
    client: Client,
    name: String,
}

impl NodeClient {
    /// Connects as the pod's service account, or as `$KUBECONFIG` says.
    ///
    /// # Errors
    /// Where neither is there.
    pub async fn connect(name: &str) -> Result<Self> {
        let client = Client::try_default()
            .await
            .map_err(Error::kubernetes("connect to the API server"))?;
        Ok(Self {
            client,
            name: name.into(),
        })
    }

    /// With a client of one's own.
    pub fn new(client: Client, name: &str) -> Self {
        Self {
            client,
            name: name.into(),
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The node.
    ///
    /// # Errors
    /// The API server's.
    pub async fn get(&self) -> Result<Node> {
        let nodes: Api<Node> = Api::all(self.client());
        nodes
            .get(&self.name)
            .await
            .map_err(Error::kubernetes(format!("get node {}", self.name)))
    }

    /// Opens the node to pods of this version.
    ///
    /// # Errors
    /// The API server's.
    pub async fn publish(&self, version: &str) -> Result<()> {
        self.label(&labels::published(version)).await
    }

    /// Closes the node to further pods; what is installed stays to be seen. A label that is not there is fine.
    ///
    /// # Errors
    /// The API server's.
    pub async fn withdraw(&self) -> Result<()> {
        self.label(&labels::withdrawn()).await
    }

    /// Says that nothing is installed any more.
    ///
    /// # Errors
    /// The API server's.
    pub async fn forget(&self) -> Result<()> {
        self.label(&labels::forgotten()).await
    }

    async fn label(&self, labels: &Value) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.client());
        let patch = json!({ "metadata": { "labels": labels } });
        let params = PatchParams {
            field_manager: Some(MANAGER.into()),
            ..Default::default()
        };
        let patched = nodes.patch_metadata(&self.name, &params, &Patch::Merge(&patch)).await;
        patched.map_err(Error::kubernetes(format!("label node {}", self.name)))?;
        Ok(())
    }

    /// Tells people. An event that cannot be written is no reason to stop; it is in the log then.
    pub async fn tell(&self, warning: bool, reason: &str, message: &str) {
        let now = Timestamp::now();
        let event = Event {
            metadata: ObjectMeta {
                generate_name: Some("tandem-".into()),
                namespace: Some(EVENTS.into()),
                ..Default::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Node".into()),
                name: Some(self.name.clone()),
                // The kubelet's events of a node bear its name as uid, and `kubectl describe node` looks for that.
                uid: Some(self.name.clone()),
                ..Default::default()
            },
            type_: Some(if warning { "Warning" } else { "Normal" }.into()),
            reason: Some(reason.into()),
            message: Some(shorten(message)),
            source: Some(EventSource {
                component: Some(MANAGER.into()),
                host: Some(self.name.clone()),
            }),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            ..Default::default()
        };
        let events: Api<Event> = Api::namespaced(self.client(), EVENTS);
        if let Err(error) = events.create(&PostParams::default(), &event).await {
            warn!("the event {reason} could not be written: {error}");
        }
    }

    /// Asks for a pod's eviction; disruption budgets hold. A pod that is gone is fine, and so is another pod of its name:
    /// that one may run anywhere.
    ///
    /// # Errors
    /// The API server's refusal, such as a disruption budget.
    pub async fn evict(&self, namespace: &str, pod: &str, uid: &str) -> Result<()> {
        let eviction = Eviction {
            metadata: ObjectMeta {
                name: Some(pod.into()),
                namespace: Some(namespace.into()),
                ..Default::default()
            },
            delete_options: Some(DeleteOptions {
                preconditions: Some(Preconditions {
                    uid: Some(uid.into()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
        };
        let pods: Api<Pod> = Api::namespaced(self.client(), namespace);
        let params = PostParams::default();
        let evicted: Result<Value, kube::Error> = pods.create_subresource("eviction", pod, &params, &eviction).await;
        match evicted {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(Error::kubernetes(format!("evict pod {namespace}/{pod}"))(error)),
            Ok(_) => Ok(()),
        }
    }
}

/// Cuts a message at the last character that fits.
fn shorten(message: &str) -> String {
    let mut end = message.len().min(MAX_MESSAGE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let message = "ä".repeat(MAX_MESSAGE);
        assert_eq!(shorten(&message).len(), MAX_MESSAGE);
        assert_eq!(shorten(&format!("x{message}")).len(), MAX_MESSAGE - 1);
    }
}

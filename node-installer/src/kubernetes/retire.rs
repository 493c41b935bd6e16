//! The end of the whole installation: deletes the DaemonSet, waits until every agent has restored its node, and says
//! where one has not. `helm uninstall` runs it before it deletes anything else, because without their account the
//! agents could neither ask what is wanted of them nor take their labels away.

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Node, Pod},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams},
};
use tokio::time::{Instant, sleep};
use tracing::info;

use super::labels::VERSION;
use crate::error::{Error, Result};

/// Longest wait for the agents; helm itself gives up after its own `--timeout`.
const LIMIT: Duration = Duration::from_secs(900);
/// Time between two looks.
const POLL: Duration = Duration::from_secs(2);
/// Names shown in an error.
const SHOWN: usize = 10;

/// The installation that is to be taken away.
#[derive(Clone, Debug)]
pub struct RetireOptions {
    /// Namespace of the DaemonSet.
    pub namespace: String,
    /// Its name.
    pub daemon_set: String,
    /// The RuntimeClass whose pods would lose their runtime.
    pub runtime_class: String,
    /// Whether the agents evict such pods.
    pub drain: bool,
    /// Go on although such pods exist.
    pub force: bool,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
}

/// Takes the installation away from every node, or says what that would do.
///
/// # Errors
/// [`Error::InUse`] while pods of the RuntimeClass exist, before anything is changed; [`Error::Verify`] with the nodes
/// that were not restored.
pub async fn retire(options: &RetireOptions) -> Result<String> {
    let client = Client::try_default()
        .await
        .map_err(Error::kubernetes("connect to the API server"))?;
    if !options.drain && !options.force {
        require_unused(&client, &options.runtime_class).await?;
    }
    let (namespace, name) = (&options.namespace, &options.daemon_set);
    if options.dry_run {
        let nodes = installed(client).await?;
        return Ok(format!(
            "delete DaemonSet {namespace}/{name}\nwait until its agents have restored these nodes: {}",
            if nodes.is_empty() {
                "none".into()
            } else {
                nodes.join(", ")
            }
        ));
    }
    let sets: Api<DaemonSet> = Api::namespaced(client.clone(), namespace);
    // Foreground: the DaemonSet stays until its pods are gone, so that they can see why they are ended.
    match sets.delete(name, &DeleteParams::foreground()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => {
            return Err(Error::kubernetes(format!("delete DaemonSet {namespace}/{name}"))(error));
        }
        Ok(_) => info!("waiting for the agents to restore their nodes"),
    }
    let since = Instant::now();
    while sets
        .get_opt(name)
        .await
        .map_err(Error::kubernetes(format!("get DaemonSet {name}")))?
        .is_some()
    {
        if since.elapsed() > LIMIT {
            return Err(Error::Deadline {
                what: format!("the end of all pods of DaemonSet {name}"),
                after: LIMIT,
            });
        }
        sleep(POLL).await;
    }
    let left = installed(client).await?;
    if left.is_empty() {
        return Ok("every node was restored".into());
    }
    Err(Error::Verify {
        step: "uninstall",
        why: format!(
            "these nodes were not restored, their events say why: {}. Once the reason is gone, install again and \
             uninstall, or run `tandem-node-installer uninstall` on them",
            shown(left),
        ),
    })
}

/// Names of the nodes that say that something is installed.
async fn installed(client: Client) -> Result<Vec<String>> {
    let nodes: Api<Node> = Api::all(client);
    let found = nodes.list_metadata(&ListParams::default().labels(VERSION)).await;
    let found = found.map_err(Error::kubernetes("list nodes"))?.items;
    Ok(found.into_iter().filter_map(|node| node.metadata.name).collect())
}

async fn require_unused(client: &Client, class: &str) -> Result<()> {
    let pods: Api<Pod> = Api::all(client.clone());
    let running = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    let pods = pods.list(&running).await.map_err(Error::kubernetes("list pods"))?;
    let ours = pods
        .items
        .iter()
        .filter(|pod| pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.as_deref()) == Some(class));
    let name = |pod: &Pod| {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        format!("{namespace}/{}", pod.metadata.name.as_deref().unwrap_or_default())
    };
    let names: Vec<String> = ours.map(name).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(Error::InUse(format!(
        "{} pods of the RuntimeClass {class:?} exist and would lose their runtime: {}. Nothing was changed. Delete them, or \
         let them be evicted (chart: uninstall.drain=true)",
        names.len(),
        shown(names),
    )))
}

fn shown(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    let rest = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    names.join(", ") + &rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_of_names_is_cut() {
        let names = |count: usize| (0..count).map(|number| format!("n{number}")).collect();
        assert_eq!(shown(names(2)), "n0, n1");
        assert!(shown(names(12)).ends_with("n9 and 2 more"));
    }
}

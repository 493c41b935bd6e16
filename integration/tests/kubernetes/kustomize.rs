//! The other way in and out: an overlay of the kustomize base. `integration/cluster/test` runs it when the chart is gone.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::harness::{Cluster, Error, Namespace, Result, Subject, wrong};
use crate::installation::{self, HOME, agents_come_up, labels, no_object_is_left, trees};

/// Writes an overlay as users do: it names the image, and sets what the chart's values set on this cluster.
fn overlay(cluster: &Cluster) -> Result<PathBuf> {
    let chart = Cluster::sources().join("deploy/helm/tandem");
    // The image's name, which the chart wants, is not what is looked for here. Helm knows its own build's version of
    // Kubernetes.
    let chart = chart.to_string_lossy();
    let template = [
        "template",
        "tandem",
        &chart,
        "--kube-version=1.30.0",
        "--set=image.repository=tandem",
    ];
    let values = [
        "--show-only=templates/daemonset.yaml",
        "--values",
        cluster.value("TANDEM_HELM_VALUES"),
    ];
    let rendered = cluster.helm(&[&template[..], &values].concat())?.success()?;
    let file = Cluster::dir().join("daemonset.yaml");
    fs::write(&file, rendered).map_err(Error::system("cannot write", &file))?;
    let read = [
        "create",
        "--dry-run=client",
        "--output=json",
        "--filename",
        &file.to_string_lossy(),
    ];
    let daemon_set = installation::json(&cluster.ok(&read)?)?;
    let env = &daemon_set["spec"]["template"]["spec"]["containers"][0]["env"];
    if !env.is_array() {
        return wrong(format!("the chart's agent has no environment: {daemon_set}"));
    }
    let patch = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/env", "value": env}]);
    let dir = Cluster::dir().join("overlay");
    let kustomization = json!({
        "resources": [from(&dir, &Cluster::sources().join("deploy/kustomize/base"))],
        "images": [{"name": "tandem", "newName": format!("{}/tandem", cluster.registry())}],
        "patches": [{"target": {"kind": "DaemonSet", "name": "tandem"}, "patch": patch.to_string()}],
    });
    let file = dir.join("kustomization.yaml");
    fs::create_dir_all(&dir)
        .and_then(|()| fs::write(&file, kustomization.to_string()))
        .map_err(Error::system("cannot write", &file))?;
    Ok(dir)
}

/// The way from one directory to another, which is the only one that kustomize takes.
fn from(dir: &Path, to: &Path) -> String {
    let up = "../".repeat(dir.components().count() - 1);
    format!("{up}{}", to.to_string_lossy().trim_start_matches('/'))
}

#[test]
fn an_overlay_of_the_base_sets_up_nodes_and_its_deletion_restores_them() -> Result<()> {
    let cluster = Cluster::bare()?;
    assert_eq!(labels(&cluster)?, ["", ""], "Tandem is installed already");
    let before = trees(&cluster)?;
    let overlay = overlay(&cluster)?;
    let overlay = overlay.to_string_lossy();

    cluster.ok(&["apply", "--kustomize", &overlay])?;
    agents_come_up(&cluster)?;
    Namespace::with("kustomize", Subject::Wasm, |ns| {
        ns.apply("life")?;
        ["guest", "hybrid", "ordinary"].iter().try_for_each(|pod| ns.ready(pod))
    })?;

    // In the two steps of docs/install.md.
    let daemon_set = ["delete", "daemonset", "tandem", "--namespace", HOME];
    cluster.ok(&[&daemon_set[..], &["--cascade=foreground", "--timeout=400s"]].concat())?;
    assert_eq!(labels(&cluster)?, ["", ""]);
    assert_eq!(trees(&cluster)?, before, "the nodes' files are as before");
    // The DaemonSet, which is part of the overlay, is gone already.
    cluster.ok(&[
        "delete",
        "--kustomize",
        &overlay,
        "--ignore-not-found",
        "--timeout=400s",
    ])?;
    no_object_is_left(&cluster)
}

//! What `deploy/` and `runtimeclass/` offer, as a real API server sees it.

use crate::harness::{Cluster, Result};

fn accepted(files: &[&str]) -> Result<()> {
    let cluster = Cluster::get()?;
    for file in files {
        let path = Cluster::sources().join(file);
        let path = path.to_string_lossy();
        let how = if path.ends_with(".yaml") {
            "--filename"
        } else {
            "--kustomize"
        };
        // `default`, because objects of a namespace that does not exist are refused.
        let common = [
            "apply",
            "--server-side",
            "--dry-run=server",
            "--force-conflicts",
            "--field-manager=manifests",
        ];
        cluster.ok(&[&common[..], &[how, &path]].concat())?;
    }
    Ok(())
}

#[test]
fn the_api_server_accepts_the_examples() -> Result<()> {
    accepted(&[
        "deploy/examples/hybrid.yaml",
        "deploy/examples/plain.yaml",
        "deploy/examples/sidecar.yaml",
    ])
}

#[test]
fn the_api_server_accepts_the_runtime_class_and_the_kustomize_base() -> Result<()> {
    accepted(&["runtimeclass/tandem.yaml", "deploy/kustomize/base"])
}

//! The workloads of `deploy/examples` as they are, but for the names of their images.

use std::fs;

use crate::harness::{Cluster, Error, LONG, Namespace, Result, of_wasm, until};

/// The images that the examples name, and what stands in for them here.
const IMAGES: [(&str, &str); 3] = [
    ("registry.example/greetings-wasm:1", "greetings:1"),
    ("docker.io/library/redis:8", "redis:1"),
    ("docker.io/library/busybox:1.37", "busybox:1"),
];

fn apply(ns: &Namespace, example: &str) -> Result<()> {
    let file = Cluster::sources().join("deploy/examples").join(example);
    let text = fs::read_to_string(&file).map_err(Error::system("cannot read", &file))?;
    let registry = ns.cluster.registry();
    // Other tests are enough of a load.
    let text = text.replace("maxReplicas: 200", "maxReplicas: 3");
    let text = IMAGES.iter().fold(text, |text, (image, ours)| {
        text.replace(image, &format!("{registry}/{ours}"))
    });
    ns.input(&["apply", "--filename=-"], text.as_bytes())?
        .success()
        .map(drop)
}

/// Lets everybody write to a claim's volume. Volumes of test clusters are directories of the node, of which `fsGroup`
/// does not make the group the owner, as it does with the volumes of real ones.
fn open_volume(ns: &Namespace, claim: &str) -> Result<()> {
    let claim = format!("persistentvolumeclaim/{claim}");
    let volume = until("a volume for the claim", LONG, || {
        let name = ns
            .get(&claim)
            .map(|claim| claim["spec"]["volumeName"].as_str().map(str::to_owned));
        Ok(name.unwrap_or_default())
    })?;
    let path = ns.get(&format!("persistentvolume/{volume}"))?["spec"]["hostPath"]["path"].clone();
    match path.as_str() {
        Some(path) => ns.cluster.node(&["chmod", "0777", path]).map(drop),
        None => Ok(()),
    }
}

of_wasm! {
    fn an_api_in_wasm_keeps_its_counts_in_redis_in_a_container(ns) {
        apply(ns, "hybrid.yaml")?;
        open_volume(ns, "data-store-0")?;
        ns.ok(&["rollout", "status", "statefulset/store", "--timeout=400s"])?;
        ns.ok(&["rollout", "status", "deployment/greetings", "--timeout=400s"])?;
        let image = format!("{}/busybox:1", ns.cluster.registry());
        // The policies let a new pod in as soon as they know its address.
        let ask = "for i in 1 2 3 4 5 6; do until wget -q -O - http://greetings/greet/you; do sleep 0.3; done; done";
        ns.ok(&["run", "client", "--image", &image, "--restart=Never", "--", "sh", "-c", ask])?;
        assert_eq!(ns.ended("client")?, "Succeeded", "{}", ns.logs(&["client"])?);
        // Two pods answer; the count is one.
        assert!(ns.logs(&["client"])?.contains("hello you, greeted 6 times"), "{}", ns.logs(&["client"])?);
        let count = ns.exec("store-0", &["redis-cli", "get", "greetings:you"])?;
        assert_eq!(count.stdout.trim(), "6", "{count}");
        // It is on the volume, so it is there when the database is not any more.
        ns.ok(&["delete", "pod", "store-0"])?;
        until("the count in the new database", LONG, || {
            let count = ns.exec("store-0", &["redis-cli", "get", "greetings:you"])?;
            Ok((count.stdout.trim() == "6").then_some(()))
        })
    }

    fn a_wasm_container_and_its_linux_sidecar_share_network_and_volume(ns) {
        apply(ns, "sidecar.yaml")?;
        ns.ready("pair")?;
        until("an answer that the sidecar has kept", LONG, || {
            let answer = ns.kubectl(&["exec", "pair", "--container=watcher", "--", "cat", "/shared/last"])?;
            Ok(answer.stdout.contains("ok").then_some(()))
        })
    }
}

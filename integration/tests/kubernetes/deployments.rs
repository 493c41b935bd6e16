//! Deployments of servers: probes, Services, updates, scaling.

use std::{collections::BTreeSet, time::Instant};

use crate::harness::{Cluster, LONG, Namespace, Result, of_each, of_wasm, until};

/// Pods that are ready, by the Deployment's own count.
fn ready(ns: &Namespace) -> Result<i64> {
    Ok(ns.get("deployment/web")?["status"]["readyReplicas"]
        .as_i64()
        .unwrap_or_default())
}

fn rolled_out(ns: &Namespace) -> Result<()> {
    ns.ok(&["rollout", "status", "deployment/web", "--timeout=400s"])
        .map(drop)
}

fn all_ready(ns: &Namespace, count: i64) -> Result<()> {
    until(&format!("{count} ready pods"), LONG, || {
        Ok((ready(ns)? == count).then_some(()))
    })
}

fn gone(ns: &Namespace) -> Result<()> {
    until("the end of all pods", LONG, || {
        Ok(ns.list("pods", "app=web")?.is_empty().then_some(()))
    })
}

/// The client has asked often, and was always answered.
fn no_request_failed(ns: &Namespace) -> Result<()> {
    let log = until("fifty answers", LONG, || {
        let log = ns.logs(&["client"])?;
        Ok((log.lines().count() > 50).then_some(log))
    })?;
    assert!(!log.contains("FAILED"), "{log}");
    Ok(())
}

/// As many pods on each node as on the other, the second one included; on one node all, where the other is drained.
const SPREAD: &str = r#"{"spec": {"replicas": 4, "template": {"spec": {
    "tolerations": [{"key": "tandem.dev/second", "operator": "Exists"}],
    "topologySpreadConstraints": [{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
        "nodeTaintsPolicy": "Honor", "labelSelector": {"matchLabels": {"app": "web"}}, "matchLabelKeys": ["pod-template-hash"]
    }]
}}}}"#;

/// How many pods are on the second node.
fn on_second(ns: &Namespace) -> Result<usize> {
    let pods = ns.list("pods", "app=web")?;
    let second = pods
        .iter()
        .filter(|pod| pod["spec"]["nodeName"] == ns.cluster.second_name());
    Ok(second.count())
}

/// Takes pods off the second node until this value is dropped.
struct Drained(&'static Cluster);

impl Drained {
    fn now(cluster: &'static Cluster) -> Result<Self> {
        let drained = Self(cluster);
        let options = ["--ignore-daemonsets", "--delete-emptydir-data", "--timeout=400s"];
        cluster.ok(&[&["drain", cluster.second_name()][..], &options].concat())?;
        Ok(drained)
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if let Err(error) = self.0.ok(&["uncordon", self.0.second_name()]) {
            eprintln!("{error}");
        }
    }
}

/// The pods that the client has had answers from.
fn answering(log: &str) -> BTreeSet<&str> {
    let words = log.split_whitespace();
    words.filter_map(|word| word.strip_prefix("POD=")).collect()
}

of_wasm! {
    fn three_replicas_pass_their_probes_and_share_the_requests_of_their_service(ns) {
        ns.apply("web")?;
        rolled_out(ns)?;
        all_ready(ns, 3)?;
        ns.apply("client")?;
        let log = until("answers of all three pods", LONG, || {
            let log = ns.kubectl(&["logs", "client"])?.stdout;
            Ok((answering(&log).len() == 3).then_some(log))
        })?;
        let pods = ns.list("pods", "app=web")?;
        let names = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str());
        assert_eq!(answering(&log), names.collect());
        for pod in pods {
            assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
        }
        Ok(())
    }

    fn a_rolling_update_and_its_rollback_fail_no_request(ns) {
        ns.apply("web")?;
        rolled_out(ns)?;
        ns.apply("client")?;
        ns.logged(&["client"], "VERSION=1")?;
        ns.ok(&["set", "env", "deployment/web", "VERSION=2"])?;
        rolled_out(ns)?;
        // The last pod of the old version has ended by now or is about to.
        until("the end of the old pods", LONG, || Ok((ns.list("pods", "app=web")?.len() == 3).then_some(())))?;
        ns.logged(&["client", "--tail=5"], "VERSION=2")?;
        ns.ok(&["rollout", "undo", "deployment/web"])?;
        rolled_out(ns)?;
        until("the end of the new pods", LONG, || Ok((ns.list("pods", "app=web")?.len() == 3).then_some(())))?;
        until("answers of the old version again", LONG, || {
            let last = ns.logs(&["client", "--tail=3"])?;
            Ok((last.contains("VERSION=1") && !last.contains("VERSION=2")).then_some(()))
        })?;
        no_request_failed(ns)
    }

    fn guests_on_two_nodes_share_a_service_and_leave_a_drained_node_without_a_failed_request(ns) {
        ns.apply("web")?;
        ns.ok(&["patch", "deployment/web", "--patch", SPREAD])?;
        ns.ok(&["create", "poddisruptionbudget", "web", "--selector=app=web", "--min-available=3"])?;
        rolled_out(ns)?;
        assert_eq!(on_second(ns)?, 2);
        ns.apply("client")?;
        let mut pods = ns.list("pods", "app=web")?;
        // Those of before the patch are on their way out.
        pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        until("answers of all pods", LONG, || {
            let log = ns.kubectl(&["logs", "client"])?.stdout;
            let answering = answering(&log);
            let all = pods.iter().all(|pod| pod["metadata"]["name"].as_str().is_some_and(|name| answering.contains(name)));
            Ok(all.then_some(()))
        })?;
        let drained = Drained::now(ns.cluster)?;
        until("as many pods on the other node", LONG, || {
            Ok((on_second(ns)? == 0 && ready(ns)? == 4).then_some(()))
        })?;
        drop(drained);
        no_request_failed(ns)
    }

    fn a_deployment_scales_from_none_to_fifty_and_back(ns) {
        ns.apply("web")?;
        ns.ok(&["scale", "deployment/web", "--replicas=0"])?;
        gone(ns)?;
        let began = Instant::now();
        ns.ok(&["scale", "deployment/web", "--replicas=50"])?;
        rolled_out(ns)?;
        all_ready(ns, 50)?;
        println!("0 to 50 ready in {:.1} s", began.elapsed().as_secs_f32());
        ns.ok(&["scale", "deployment/web", "--replicas=0"])?;
        gone(ns)
    }

    fn an_autoscaler_adds_pods_where_requests_use_the_cpu(ns) {
        ns.apply("web")?;
        ns.ok(&["scale", "deployment/web", "--replicas=1"])?;
        // What is asked for here is used to the full by one request that never ends.
        ns.ok(&["set", "resources", "deployment/web", "--limits=cpu=100m", "--requests=cpu=50m"])?;
        rolled_out(ns)?;
        ns.apply("hpa")?;
        ns.ok(&["run", "load", "--image", &format!("{}/busybox:1", ns.cluster.registry()), "--restart=Never",
            "--", "sh", "-c", "while :; do wget -q -O - http://web/spin; sleep 1; done"])?;
        until("a pod that the autoscaler has added", LONG, || Ok((ready(ns)? > 1).then_some(())))?;
        until("numbers of the servers", LONG, || {
            let top = ns.kubectl(&["top", "pods", "--selector=app=web", "--no-headers"])?.stdout;
            let busy = |line: &str| line.split_whitespace().nth(1).is_some_and(|cpu| cpu != "0m");
            Ok(top.lines().any(busy).then_some(()))
        })?;
        // It ends for nobody's asking; the servers wait for it until their time is over.
        ns.ok(&["delete", "pod", "load", "--grace-period=1"])?;
        Ok(())
    }

    fn a_failing_probe_keeps_a_server_out_or_restarts_it_and_says_why(ns) {
        ns.apply("unready")?;
        let events = until("events of both probes", LONG, || {
            let events = ns.ok(&["describe", "pod", "unready"])?;
            let both = events.contains("Readiness probe failed: HTTP probe failed with statuscode: 500")
                && events.lines().any(|line| line.contains(":8082: connect: connection refused"));
            Ok(both.then_some(events))
        })?;
        assert!(events.contains("Unhealthy"), "{events}");
        until("a restart of the server that says that it is sick", LONG, || {
            Ok((ns.status("unready", "sick")?["restartCount"].as_i64() > Some(0)).then_some(()))
        })?;
        for container in ["traps", "elsewhere"] {
            let status = ns.status("unready", container)?;
            assert_eq!((&status["ready"], &status["restartCount"]), (&false.into(), &0.into()), "{status}");
        }
        Ok(())
    }
}

of_each! {
    fn commands_in_the_container_tell_whether_it_is_ready_and_alive(ns) {
        ns.apply("probes")?;
        until("a restart of the container that is not well", LONG, || {
            Ok((ns.status("probes", "dying")?["restartCount"].as_i64() > Some(0)).then_some(()))
        })?;
        until("the reason in what describe prints", LONG, || {
            let events = ns.ok(&["describe", "pod", "probes"])?;
            Ok((events.contains("Liveness probe failed") && events.contains("not well")).then_some(()))
        })?;
        let main = ns.status("probes", "main")?;
        assert_eq!((&main["ready"], &main["restartCount"]), (&false.into(), &0.into()), "{main}");
        let program = ns.subject.program();
        ns.ok(&["exec", "probes", "--container=main", "--", program, "write", "/state/ready", "yes"])?;
        until("a ready container", LONG, || Ok((ns.status("probes", "main")?["ready"] == true).then_some(())))
    }
}

//! Deployments of servers: probes, Services, updates, scaling.

use std::{collections::BTreeSet, time::Instant};

use crate::harness::{LONG, Namespace, Result, SOON, of_each, of_wasm, until};

/// Pods that are ready, by the Deployment's own count.
fn ready(ns: &Namespace) -> Result<i64> {
    Ok(ns.get("deployment/web")?["status"]["readyReplicas"]
        .as_i64()
        .unwrap_or_default())
}

fn rolled_out(ns: &Namespace) -> Result<()> {
    ns.ok(&["rollout", "status", "deployment/web", "--timeout=150s"])
        .map(drop)
}

fn gone(ns: &Namespace) -> Result<()> {
    until("the end of all pods", LONG, || {
        Ok(ns.list("pods", "app=web")?.is_empty().then_some(()))
    })
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
        assert_eq!(ready(ns)?, 3);
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
        until("the end of the old pods", SOON, || Ok((ns.list("pods", "app=web")?.len() == 3).then_some(())))?;
        let new = ns.logged(&["client", "--tail=5"], "VERSION=2")?;
        ns.ok(&["rollout", "undo", "deployment/web"])?;
        rolled_out(ns)?;
        until("the end of the new pods", SOON, || Ok((ns.list("pods", "app=web")?.len() == 3).then_some(())))?;
        until("answers of the old version again", SOON, || {
            Ok((!ns.logs(&["client", "--tail=3"])?.contains("VERSION=2")).then_some(()))
        })?;
        let log = ns.logs(&["client"])?;
        assert!(!log.contains("FAILED"), "{log}");
        assert!(log.lines().count() > 50 && !new.is_empty(), "{log}");
        Ok(())
    }

    fn a_deployment_scales_from_none_to_fifty_and_back(ns) {
        ns.apply("web")?;
        ns.ok(&["scale", "deployment/web", "--replicas=0"])?;
        gone(ns)?;
        let began = Instant::now();
        ns.ok(&["scale", "deployment/web", "--replicas=50"])?;
        rolled_out(ns)?;
        assert_eq!(ready(ns)?, 50);
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
            "--grace-period=1", "--", "wget", "-q", "-O", "-", "http://web/spin"])?;
        until("a pod that the autoscaler has added", LONG, || Ok((ready(ns)? > 1).then_some(())))?;
        let metrics = ns.ok(&["top", "pods", "--selector=app=web", "--no-headers"])?;
        assert!(metrics.lines().any(|line| line.split_whitespace().nth(1).is_some_and(|cpu| cpu != "0m")), "{metrics}");
        Ok(())
    }

    fn a_failing_probe_keeps_a_server_out_and_says_why(ns) {
        ns.apply("unready")?;
        let events = until("events of both probes", LONG, || {
            let events = ns.ok(&["describe", "pod", "unready"])?;
            let both = events.contains("statuscode: 500") && events.contains("connection refused");
            Ok(both.then_some(events))
        })?;
        assert!(events.contains("Readiness probe failed"), "{events}");
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
        let events = ns.ok(&["describe", "pod", "probes"])?;
        assert!(events.contains("Liveness probe failed") && events.contains("not well"), "{events}");
        let main = ns.status("probes", "main")?;
        assert_eq!((&main["ready"], &main["restartCount"]), (&false.into(), &0.into()), "{main}");
        let program = ns.subject.program();
        ns.ok(&["exec", "probes", "--container=main", "--", program, "write", "/state/ready", "yes"])?;
        until("a ready container", SOON, || Ok((ns.status("probes", "main")?["ready"] == true).then_some(())))
    }
}

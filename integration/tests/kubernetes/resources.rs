//! Requests, limits and what happens at them.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Error, LONG, Namespace, Result, Subject, of_each, of_wasm, until, wrong};

/// A file of the container's cgroup, as its process sees it: on cgroup v2, else on v1.
fn cgroup(ns: &Namespace, pod: &str, v2: &str, v1: &str) -> Result<String> {
    for file in [v2, v1] {
        if let Ok(text) = ns.of_process(pod, "main", &format!("root/sys/fs/cgroup/{file}")) {
            return Ok(text.trim().to_owned());
        }
    }
    wrong(format!("pod {pod} sees neither {v2} nor {v1} below /sys/fs/cgroup"))
}

fn memory_limit(ns: &Namespace, pod: &str) -> Result<String> {
    cgroup(ns, pod, "memory.max", "memory/memory.limit_in_bytes")
}

/// Microseconds of CPU in a tenth of a second.
fn cpu_limit(ns: &Namespace, pod: &str) -> Result<String> {
    let text = cgroup(ns, pod, "cpu.max", "cpu/cpu.cfs_quota_us")?;
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}

/// Files of a name in the cgroup of a pod, on the node.
fn of_the_pod(ns: &Namespace, pod: &str, v2: &str, v1: &str) -> Result<String> {
    let uid = ns.get(&format!("pod/{pod}"))?["metadata"]["uid"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    // The systemd driver writes the id with underscores.
    let script = format!(
        "find /sys/fs/cgroup -type d '(' -name '*pod{uid}*' -o -name '*pod{}*' ')' -prune | while read -r dir; do \
         cat \"$dir/{v2}\" 2>/dev/null || cat \"$dir/{v1}\" 2>/dev/null; done; true",
        uid.replace('-', "_"),
    );
    Ok(ns.cluster.node(&["sh", "-c", &script])?.trim().to_owned())
}

fn limited(ns: &Namespace, restart: &str, args: &str) -> Result<()> {
    ns.apply_with("limits", &[("RESTART", restart), ("ARGS", args)])
}

fn resize(ns: &Namespace, resources: &str) -> Result<()> {
    let patch = format!(r#"{{"spec": {{"containers": [{{"name": "main", "resources": {resources}}}]}}}}"#);
    ns.ok(&["patch", "pod", "resized", "--subresource=resize", "--patch", &patch])
        .map(drop)
}

of_each! {
    fn limits_are_those_of_the_pod_spec(ns) {
        limited(ns, "Never", "[sleep, '1000']")?;
        ns.ready("limited")?;
        assert_eq!(memory_limit(ns, "limited")?, (32 << 20).to_string());
        assert_eq!(cpu_limit(ns, "limited")?, "10000");
        Ok(())
    }

    fn too_much_memory_is_killed_and_restarted(ns) {
        let args = "[print, filling, +, fill, /memory/file, '64']";
        let end = until("a kill that is told as such", LONG, || {
            limited(ns, "Never", args)?;
            assert_eq!(ns.ended("limited")?, "Failed");
            let end = ns.status("limited", "main")?["state"]["terminated"].clone();
            ns.ok(&["delete", "pod", "limited"])?;
            // runc's shim may tell of the end before it has heard of the reason.
            Ok((end["reason"] == "OOMKilled" || ns.subject != Subject::Runc).then_some(end))
        })?;
        assert_eq!((&end["exitCode"], &end["reason"]), (&137.into(), &"OOMKilled".into()), "{end}");
        // What it wrote counts for the pod as long as that lives, so that its second start may not get that far.
        limited(ns, "Always", args)?;
        until("a restart", LONG, || {
            Ok((ns.status("limited", "main")?["restartCount"].as_i64() > Some(0)).then_some(()))
        })
    }

    fn a_cpu_limit_slows_a_program_down(ns) {
        limited(ns, "Never", "[spin]")?;
        ns.ready("limited")?;
        let throttled = || {
            let text = cgroup(ns, "limited", "cpu.stat", "cpu/cpu.stat")?;
            let count = text.lines().find_map(|line| line.strip_prefix("nr_throttled "));
            Ok::<_, Error>(count.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or_default())
        };
        let before = throttled()?;
        until("periods in which it was stopped", LONG, || Ok((throttled()? > before + 5).then_some(())))
    }

    fn requests_and_limits_make_the_class_of_the_pod(ns) {
        ns.apply("qos")?;
        for (pod, class) in [("guaranteed", "Guaranteed"), ("burstable", "Burstable"), ("besteffort", "BestEffort")] {
            ns.ready(pod)?;
            assert_eq!(ns.get(&format!("pod/{pod}"))?["status"]["qosClass"], class);
        }
        // Who has promised nothing is killed first where memory is short.
        let score = |pod: &str| {
            let text = ns.of_process(pod, "main", "oom_score_adj")?;
            text.trim().parse::<i32>().map_err(|cause| Error::Setup(format!("{text:?}: {cause}")))
        };
        assert_eq!(score("besteffort")?, 1000);
        let burstable = score("burstable")?;
        assert!((3..1000).contains(&burstable), "{burstable}");
        assert!(score("guaranteed")? <= burstable);
        Ok(())
    }

    fn limits_of_a_running_container_are_changed_in_place(ns) {
        ns.apply("resize")?;
        ns.ready("resized")?;
        let id = |status: &Value| status["containerID"].clone();
        let before = ns.status("resized", "main")?;
        resize(ns, r#"{"requests": {"cpu": "30m", "memory": "24Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}"#)?;
        until("the new limits", LONG, || {
            let now = memory_limit(ns, "resized").and_then(|memory| Ok((memory, cpu_limit(ns, "resized")?)));
            Ok(now.is_ok_and(|now| now == ((64 << 20).to_string(), "20000".to_owned())).then_some(()))
        })?;
        let status = until("a status with the new limits", LONG, || {
            let status = ns.status("resized", "main")?;
            Ok((status["resources"]["limits"]["memory"] == "64Mi").then_some(status))
        })?;
        assert_eq!((id(&status), &status["restartCount"]), (id(&before), &0.into()));
        Ok(())
    }

    fn a_pod_has_so_many_processes_and_no_more(ns) {
        ns.apply("forker")?;
        until("the pod's limit", LONG, || {
            let limit = of_the_pod(ns, "forker", "pids.max", "pids.max")?;
            // Until the kubelet has set it, there is none.
            Ok(limit.parse::<u32>().is_ok().then_some(()))
        })?;
        let log = ns.logged(&["forker", "--container=many"], "can't fork")?;
        assert!(log.contains("Resource temporarily unavailable"), "{log}");
        // Not the neighbour's fault, and not its end.
        until("the neighbour that runs on", LONG, || {
            Ok(ns.status("forker", "main")?["state"]["running"].is_object().then_some(()))
        })
    }

    fn the_cluster_measures_what_a_pod_uses(ns) {
        limited(ns, "Never", "[fill, /memory/file, '8', +, spin]")?;
        ns.ready("limited")?;
        until("numbers of the pod", LONG, || {
            let answer = ns.kubectl(&["top", "pod", "limited", "--no-headers"])?;
            let number = |text: Option<&str>, unit| text?.strip_suffix(unit)?.parse::<u32>().ok();
            let mut words = answer.stdout.split_whitespace().skip(1);
            let (cpu, memory) = (number(words.next(), "m"), number(words.next(), "Mi"));
            // A tenth of a processor at most, of which others leave it what they do not use, and the file it has made.
            Ok((cpu >= Some(5) && cpu <= Some(150) && memory >= Some(8) && memory <= Some(32)).then_some(()))
        })?;
        until("numbers of the node", LONG, || {
            let node = ns.kubectl(&["top", "node", ns.cluster.node_name(), "--no-headers"])?.stdout;
            Ok(node.split_whitespace().nth(1).is_some_and(|cpu| cpu.ends_with('m')).then_some(()))
        })
    }
}

of_wasm! {
    fn a_guest_is_refused_memory_before_it_is_killed_for_it(ns) {
        ns.apply("grower")?;
        assert_eq!(ns.ended("grower")?, "Failed");
        let end = ns.status("grower", "main")?["state"]["terminated"].clone();
        assert_eq!((&end["exitCode"], &end["reason"]), (&9.into(), &"Error".into()), "{end}");
        assert_eq!(ns.logs(&["grower"])?, "refused\n");
        Ok(())
    }

    fn the_shim_is_counted_in_the_pods_overhead(ns) {
        limited(ns, "Never", "[sleep, '1000']")?;
        ns.ready("limited")?;
        let class = ns.get("runtimeclass/tandem")?["overhead"]["podFixed"].clone();
        assert!(class["memory"].is_string(), "the RuntimeClass has an overhead: {class}");
        assert_eq!(ns.get("pod/limited")?["spec"]["overhead"], class);
        let mebibytes = class["memory"].as_str().and_then(|text| text.strip_suffix("Mi")?.parse::<u64>().ok());
        let Some(mebibytes) = mebibytes else { return wrong(format!("an overhead in MiB: {class}")) };
        // The limit of the whole pod is the container's and the overhead.
        let whole = of_the_pod(ns, "limited", "memory.max", "memory.limit_in_bytes")?;
        assert_eq!(whole, ((32 + mebibytes) << 20).to_string());
        Ok(())
    }

    fn a_guest_that_computes_lets_its_pod_be_looked_at(ns) {
        limited(ns, "Never", "[spin]")?;
        ns.ready("limited")?;
        assert_eq!(ns.exec("limited", &["/echo.wasm", "print", "here"])?.stdout, "here\n");
        assert!(ns.stays(Duration::from_secs(2), || Ok(ns.status("limited", "main")?["state"]["running"].is_object()))?);
        ns.ok(&["delete", "pod", "limited", "--timeout=400s"]).map(drop)
    }
}

//! Security contexts and Pod Security.

use std::time::Duration;

use crate::harness::{LONG, Namespace, Result, SOON, of_each, of_wasm, until};

/// Lets only pods of the standard "restricted" into the namespace.
fn restrict(ns: &Namespace) -> Result<()> {
    let label = "pod-security.kubernetes.io/enforce=restricted";
    ns.ok(&["label", "namespace", ns.name(), label])?;
    // The API server's own view of namespaces is a moment behind.
    until("the namespace's standard", SOON, || {
        let run = ["run", "anything", "--image=anything", "--dry-run=server"];
        Ok((ns.kubectl(&run)?.code != 0).then_some(()))
    })
}

/// A line of a process's status, without its name.
fn field<'log>(log: &'log str, name: &str) -> Vec<&'log str> {
    let line = log.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().split_whitespace().collect()
}

of_each! {
    fn a_restricted_pod_runs_and_is_confined_as_it_says(ns) {
        restrict(ns)?;
        ns.apply("restricted")?;
        ns.ready("restricted")?;
        let log = ns.of_process("restricted", "main", "status")?;
        assert_eq!(field(&log, "Uid"), ["65532"; 4], "{log}");
        assert_eq!(field(&log, "Gid"), ["65532"; 4], "{log}");
        let groups = field(&log, "Groups");
        assert!(groups.contains(&"2000") && groups.contains(&"3000") && !groups.contains(&"0"), "{groups:?}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(&log, set), ["0000000000000000"], "{set}");
        }
        assert_eq!(field(&log, "NoNewPrivs"), ["1"]);
        assert_eq!(field(&log, "Seccomp"), ["2"]);
        ns.ended("restricted")?;
        let log = ns.logs(&["restricted"])?;
        // The volume is the group's, the root is nobody's.
        assert!(log.lines().any(|line| line == "allowed"), "{log}");
        assert!(log.contains("write /file: "), "{log}");
        assert_eq!(ns.status("restricted", "main")?["state"]["terminated"]["exitCode"], 1);
        Ok(())
    }

    fn a_pod_that_asks_for_nothing_is_not_let_in(ns) {
        restrict(ns)?;
        let answer = ns.try_apply("careless", &[("SECURITY", "")])?;
        assert!(answer.code != 0 && answer.stderr.contains("violates PodSecurity \"restricted:latest\""), "{answer}");
        Ok(())
    }

    fn a_program_of_roots_does_not_start_where_root_is_not_wanted(ns) {
        ns.apply_with("careless", &[("SECURITY", "securityContext: {runAsNonRoot: true}")])?;
        let state = until("a reason", LONG, || {
            let state = ns.status("careless", "main")?["state"]["waiting"].clone();
            Ok((state["reason"] == "CreateContainerConfigError").then_some(state))
        })?;
        assert!(state["message"].as_str().is_some_and(|text| text.contains("runAsNonRoot")), "{state}");
        Ok(())
    }

    fn the_default_profile_is_there_where_it_is_asked_for(ns) {
        ns.apply("confined")?;
        ns.ready("confined")?;
        let seccomp = |container: &str| {
            let status = ns.of_process("confined", container, "status")?;
            Ok::<_, crate::harness::Error>(field(&status, "Seccomp").join(" "))
        };
        assert_eq!((seccomp("with")?.as_str(), seccomp("without")?.as_str()), ("2", "0"));
        Ok(())
    }
}

of_wasm! {
    fn a_network_policy_says_who_may_ask_a_server(ns) {
        ns.apply("guarded")?;
        for pod in ["guarded", "friend", "stranger"] {
            ns.ready(pod)?;
        }
        let is_answered = |pod: &str| {
            let answer = ns.exec(pod, &["timeout", "10", "wget", "-q", "-O", "-", "http://guarded/"])?;
            Ok::<_, crate::harness::Error>(answer.stdout == "hello from tandem\n")
        };
        until("an answer for the friend and none for the stranger", LONG, || {
            Ok((is_answered("friend")? && !is_answered("stranger")?).then_some(()))
        })?;
        assert!(ns.stays(Duration::from_secs(2), || Ok(!is_answered("stranger")?))?);
        until("another answer for the friend", SOON, || Ok(is_answered("friend")?.then_some(())))?;
        // It was the policy that kept the stranger out.
        ns.ok(&["delete", "networkpolicy", "friends-only"])?;
        until("an answer for the stranger", LONG, || Ok(is_answered("stranger")?.then_some(())))
    }

    fn a_pod_without_the_hosts_users_has_ids_of_its_own(ns) {
        let node = ns.get(&format!("node/{}", ns.cluster.node_name()))?;
        let handlers = node["status"]["runtimeHandlers"].as_array().cloned().unwrap_or_default();
        let tandem = handlers.iter().find(|handler| handler["name"] == "tandem").cloned().unwrap_or_default();
        assert_eq!(tandem["features"]["userNamespaces"], true, "{handlers:?}");
        ns.apply("users")?;
        ns.ready("users")?;
        let wasm = ns.logged(&["users", "--container=wasm"], "mine")?;
        let linux = ns.logged(&["users", "--container=linux"], "\n0\n")?;
        assert!(wasm.contains("mine") && linux.contains("\n0\n"), "{wasm}{linux}");
        let maps = ["wasm", "linux"].map(|container| ns.of_process("users", container, "uid_map"));
        let [wasm, linux] = maps;
        let (wasm, linux) = (wasm?, linux?);
        let map: Vec<&str> = wasm.split_whitespace().collect();
        // From 0 inside to some other id outside, for 65536 ids.
        assert!(map.len() == 3 && map[0] == "0" && map[1] != "0" && map[2] == "65536", "{wasm}");
        // The whole pod has the same ids.
        assert_eq!(linux.split_whitespace().collect::<Vec<_>>(), map);
        Ok(())
    }
}

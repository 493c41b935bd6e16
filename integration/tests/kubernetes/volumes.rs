//! Volumes: what Kubernetes fills, what pods share, what outlives them.

use crate::harness::{LONG, Namespace, Result, of_each, until};

/// Runs one pod with the claimed volume to its end.
fn keeper(ns: &Namespace, name: &str, args: &str) -> Result<String> {
    ns.apply_with("keeper", &[("NAME", name), ("ARGS", args)])?;
    let phase = ns.ended(name)?;
    let log = ns.logs(&[name])?;
    assert_eq!(phase, "Succeeded", "{log}");
    Ok(log)
}

of_each! {
    fn config_maps_secrets_and_the_downward_api_are_files(ns) {
        ns.apply("files")?;
        let phase = ns.ended("files")?;
        let log = ns.logs(&["files"])?;
        assert_eq!(phase, "Succeeded", "{log}");
        // Bytes that are no text came through `kubectl logs` as they are, or replaced.
        for line in ["blue", "color", "open sesame", "team=\"green\"", "read me", "48", "round", "files", ns.name()] {
            assert!(log.lines().any(|found| found == line), "no line {line:?} in {log}");
        }
        // The token has three parts, in base64.
        assert!(log.lines().any(|line| line.len() > 300 && line.matches('.').count() == 2), "{log}");
        // The file is one among those that the runtime has put there.
        assert!(["hosts", "resolv.conf", "one-file"].iter().all(|name| log.lines().any(|line| line == *name)), "{log}");
        Ok(())
    }

    fn a_changed_config_map_reaches_a_running_pod(ns) {
        ns.apply("changing")?;
        ns.ready("changing")?;
        ns.ok(&["patch", "configmap", "settings", "--patch", r#"{"data": {"color": "red"}}"#])?;
        // The kubelet looks again when something of the pod changes, else within a minute or two.
        ns.ok(&["annotate", "pod", "changing", "looked=at"])?;
        until("the new content", LONG, || {
            let color = ns.exec("changing", &[ns.subject.program(), "cat", "/settings/color"])?;
            Ok((color.stdout == "red").then_some(()))
        })
    }

    fn containers_of_a_pod_share_directories_on_disk_and_in_memory(ns) {
        ns.apply("scratch")?;
        let phase = ns.ended("scratch")?;
        let log = ns.logs(&["scratch"])?;
        assert_eq!((phase.as_str(), log.as_str()), ("Succeeded", "on disk\nin memory\nin a part\nin a part\nin a part\n"));
        Ok(())
    }

    fn a_directory_of_the_node_is_written_where_that_is_allowed(ns) {
        ns.apply("host")?;
        ns.ended("host")?;
        let dir = format!("/var/lib/tandem-suite/{}", ns.name());
        let content = ns.cluster.node(&["cat", &format!("{dir}/file")])?;
        let list = ns.cluster.node(&["ls", &dir])?;
        ns.cluster.node(&["rm", "-r", &dir])?;
        assert_eq!((content.as_str(), list.as_str()), ("written in a pod\n", "file\n"));
        assert_eq!(ns.logs(&["host", "--container=writes"])?, "written in a pod\n");
        for container in ["reads", "recursively"] {
            let log = ns.logs(&["host", "--container", container])?;
            assert!(log.contains("write /host/other: Read-only file system"), "{log}");
            assert_eq!(ns.status("host", container)?["state"]["terminated"]["exitCode"], 1);
        }
        Ok(())
    }

    fn what_is_written_into_a_claimed_volume_outlives_its_pod(ns) {
        ns.apply("claim")?;
        keeper(ns, "first", "[write, /data/file, kept, +, write, /below/file, kept below]")?;
        ns.ok(&["delete", "pod", "first"])?;
        let log = keeper(ns, "second", "[cat, /data/file, +, cat, /below/file, +, cat, /data/below/file]")?;
        assert_eq!(log, "kept\nkept below\nkept below\n");
        Ok(())
    }
}

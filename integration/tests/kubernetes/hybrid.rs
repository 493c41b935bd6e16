//! Pods with containers of both kinds.

use crate::harness::{LONG, Result, of_each, of_wasm, until};

of_wasm! {
    fn a_guest_and_a_linux_sidecar_share_localhost_and_a_directory(ns) {
        ns.apply("pair")?;
        ns.ready("pair")?;
        // The sidecar gets what it wrote itself, from the server, by HTTP.
        assert_eq!(ns.logged(&["pair", "--container=sidecar"], "written")?, "written by linux\n");
        Ok(())
    }

    fn init_containers_of_both_kinds_run_in_order(ns) {
        ns.apply("order")?;
        assert_eq!(ns.ended("order")?, "Succeeded");
        for container in ["wasm-again", "main"] {
            assert_eq!(ns.logs(&["order", "--container", container])?, "from wasm\nfrom linux\n");
        }
        Ok(())
    }

    fn sidecars_of_both_kinds_serve_a_pod_and_end_with_it(ns) {
        ns.apply("sidecars")?;
        let restarts = || Ok(ns.status("sidecars", "restarted")?["restartCount"].as_i64().unwrap_or_default());
        until("a restart of a sidecar that ends", LONG, || Ok((restarts()? > 0).then_some(())))?;
        assert_eq!(ns.ended("sidecars")?, "Succeeded");
        assert_eq!(ns.logs(&["sidecars", "--container=main"])?, "hello from tandem\nserved\n");
        for sidecar in ["wasm", "linux"] {
            let status = ns.status("sidecars", sidecar)?;
            assert!(status["state"]["terminated"].is_object() && status["restartCount"] == 0, "{status}");
        }
        // A server that is told to end finishes what it does, and has not failed.
        assert_eq!(ns.status("sidecars", "wasm")?["state"]["terminated"]["exitCode"], 0);
        Ok(())
    }

    fn a_hook_asks_the_server_and_a_failing_one_ends_its_container(ns) {
        ns.apply("hook-http")?;
        ns.logged(&["asked"], "a line on stdout")?;
        until("the event of the hook that fails", LONG, || {
            let events = ns.ok(&["describe", "pod", "fails"])?;
            Ok(events.contains("FailedPostStartHook").then_some(()))
        })?;
        until("the restart of its container", LONG, || {
            Ok((ns.status("fails", "main")?["restartCount"].as_i64() > Some(0)).then_some(()))
        })
    }
}

of_each! {
    fn nothing_starts_after_an_init_container_that_fails(ns) {
        ns.apply("broken-start")?;
        assert_eq!(ns.ended("broken")?, "Failed");
        assert_eq!(ns.status("broken", "first")?["state"]["terminated"]["exitCode"], 6);
        assert!(ns.status("broken", "main")?["state"]["waiting"].is_object());
        Ok(())
    }

    fn hooks_run_after_the_start_and_before_the_end(ns) {
        ns.apply("hooks")?;
        ns.ready("hooks")?;
        let started = ns.ok(&["exec", "hooks", "--container=witness", "--", "cat", "/shared/started"])?;
        assert_eq!(started, "by the hook\n");
        ns.ok(&["delete", "pod", "hooks", "--wait=false"])?;
        // The witness sees the file while the pod ends, and is there a little longer than its sibling.
        let seen = until("what the hook has written", LONG, || {
            let log = ns.kubectl(&["logs", "hooks", "--container=witness"])?;
            Ok((log.stdout.contains("by the hook")).then_some(()))
        });
        seen.and_then(|()| ns.gone("pod/hooks"))
    }

    fn a_debug_container_looks_into_a_running_pod(ns) {
        ns.apply("quiet")?;
        ns.ready("quiet")?;
        let image = format!("{}/busybox:1", ns.cluster.registry());
        let look = "tr '\\0' ' ' < /proc/1/cmdline; echo; cat /proc/1/root/etc/hostname";
        ns.ok(&["debug", "quiet", "--image", &image, "--container=debugger", "--target=main", "--", "sh", "-c", look])?;
        let log = ns.logged(&["quiet", "--container=debugger"], "quiet")?;
        // What room is left behind a guest's command line is shown as empty.
        let lines: Vec<&str> = log.lines().map(str::trim_end).collect();
        assert_eq!(lines, [format!("{} sleep 1000", ns.subject.program()).as_str(), "quiet"]);
        assert_eq!(ns.status("quiet", "main")?["restartCount"], 0);
        Ok(())
    }

    fn containers_that_share_processes_see_and_end_each_other(ns) {
        ns.apply("shared-processes")?;
        ns.ready("shared")?;
        let shell = |script: &str| -> Result<String> {
            ns.ok(&["exec", "shared", "--container=shell", "--", "sh", "-c", script])
        };
        let word = ns.subject.echo();
        let list = shell("ps")?;
        assert!(list.contains("pause") && list.contains(word), "{list}");
        shell(&format!("kill -9 $(ps | grep '{word}' | grep -v grep | awk '{{ print $1 }}')"))?;
        let status = until("a restart of what was killed", LONG, || {
            let status = ns.status("shared", "main")?;
            Ok((status["restartCount"].as_i64() > Some(0)).then_some(status))
        })?;
        assert_eq!(status["lastState"]["terminated"]["exitCode"], 137, "{status}");
        assert_eq!(ns.status("shared", "shell")?["restartCount"], 0);
        Ok(())
    }
}

//! What is executed in a running container: programs and guests, with their streams, users and surroundings.

use std::collections::HashMap;

use serde_json::json;
use tandem_integration::image::oci_artifact;
use tandem_integration::{Code, Containerd, Error, Output, Result, Task, guests, on_both_generations};

use super::support::{WAITING, end, running, tandem, with_tools};

fn assert_ran(output: &Output, code: u32, stdout: &str) {
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (code, stdout),
        "{}",
        output.stderr
    );
}

async fn refused(task: &Task, args: &[&str]) -> Error {
    match task.exec(args.iter().copied()).run().await {
        Ok(output) => panic!("it ran: {output:?}"),
        Err(error) => error,
    }
}

/// `/proc/<pid>/status` as a table.
fn status(pid: u32) -> HashMap<String, String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let pair = |line: &str| line.split_once(':').map(|(k, v)| (k.to_owned(), v.trim().to_owned()));
    text.lines().filter_map(pair).collect()
}

on_both_generations! {
    async fn programs_scripts_and_guests_run_in_either_kind_of_container(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        for args in WAITING {
            let (container, task) = running(tandem(&ctd, &image).args(args.iter().copied())).await?;
            assert_ran(&task.exec(["echo", "from", "busybox"]).run().await?, 0, "from busybox\n");
            assert_ran(&task.exec(["/tools/script", "one"]).run().await?, 0, "script one\n");
            assert_ran(&task.exec(["/tools/echo.wasm", "print", "from wasm"]).run().await?, 0, "from wasm\n");
            assert_ran(&task.exec(["/tools/no-start.wasm#greet"]).run().await?, 0, "hello from greet\n");
            assert_ran(&task.exec(["/tools/exit7.wasm"]).run().await?, 7, "");
            let component = task.exec(["/tools/hello-component.wasm", "args", "c"]).run().await?;
            assert!(component.code == 0 && component.stdout.contains('c'), "{component:?}");
            assert_ran(&task.exec(["sh", "-c", "exit 3"]).run().await?, 3, "");
            end(container, &task).await?;
        }
        ctd.stop().await
    }

    async fn a_guest_runs_its_own_module_with_other_arguments(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let (container, task) = running(tandem(&ctd, &image).args(WAITING[0].iter().copied())).await?;
        assert_ran(&task.exec(["/echo.wasm", "print", "again"]).run().await?, 0, "again\n");
        end(container, &task).await?;
        // As a layer it is found by the name that the container itself was given.
        let layer = ctd.import(&oci_artifact("example.test/layer:1", &guests::bytes("echo.wasm")?)).await?;
        let (container, task) = running(tandem(&ctd, &layer).args(["app", "sleep", "1000"])).await?;
        assert_ran(&task.exec(["app", "print", "from the layer"]).run().await?, 0, "from the layer\n");
        let refusal = refused(&task, &["sh"]).await;
        assert!(refusal.message().contains("executable file not found in $PATH"), "{refusal}");
        end(container, &task).await?;
        ctd.stop().await
    }

    async fn a_module_of_a_layer_runs_again_though_its_code_was_evicted(generation: Generation) -> Result<()> {
        let cache = tempfile::tempdir().unwrap();
        let ctd = Containerd::builder(generation).cache(cache.path()).start().await?;
        let layer = ctd.import(&oci_artifact("example.test/layer:1", &guests::bytes("echo.wasm")?)).await?;
        let (container, task) = running(tandem(&ctd, &layer).args(["app", "sleep", "1000"])).await?;
        for entry in std::fs::read_dir(cache.path()).unwrap().flatten() {
            let _ = std::fs::remove_file(entry.path());
        }
        assert_ran(&task.exec(["app", "print", "anew"]).run().await?, 0, "anew\n");
        end(container, &task).await?;
        ctd.stop().await
    }

    async fn a_program_that_the_container_made_itself_is_found(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let (container, task) = running(tandem(&ctd, &image).args(WAITING[1].iter().copied())).await?;
        // On a tmpfs that only the container's mount namespace has.
        let copy = "cp /tools/exit7.wasm /run/made.wasm";
        assert_ran(&task.exec(["sh", "-c", copy]).run().await?, 0, "");
        assert_ran(&task.exec(["/run/made.wasm"]).run().await?, 7, "");
        end(container, &task).await?;
        ctd.stop().await
    }

    async fn environment_directory_and_input_are_the_processs_own(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        for args in WAITING {
            let (container, task) = running(tandem(&ctd, &image).env("BOTH", "1").args(args.iter().copied())).await?;
            let guest = task.exec(["/echo.wasm", "env"]).env("COLOR", "blue").cwd("/tmp").run().await?;
            for part in ["BOTH=1", "COLOR=blue", "PWD=/tmp", "HOME=/"] {
                assert!(guest.stdout.contains(part), "{part} is not in {guest:?}");
            }
            let shell = task.exec(["sh", "-c", "echo $BOTH $COLOR $PWD $HOME"]);
            assert_ran(&shell.env("COLOR", "red").cwd("/tmp").run().await?, 0, "1 red /tmp /\n");
            assert_ran(&task.exec(["cat"]).stdin("typed\n").run().await?, 0, "typed\n");
            assert_ran(&task.exec(["/echo.wasm", "stdin"]).stdin("typed\n").run().await?, 0, "typed\n");
            let errors = task.exec(["/echo.wasm", "stderr", "oops"]).run().await?;
            assert_eq!((errors.stdout.as_str(), errors.stderr.as_str()), ("", "oops\n"));
            // More than an environment fits into a message, and more output than a pipe holds.
            let long = "x".repeat(100_000);
            let big = task.exec(["/echo.wasm", "big", "300000"]).env("LONG", &long).run().await?;
            assert_eq!((big.code, big.stdout.len()), (0, 300_000), "{}", big.stderr);
            end(container, &task).await?;
        }
        ctd.stop().await
    }

    async fn input_ends_by_close_io_though_its_writer_stays(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let (container, task) = running(tandem(&ctd, &image).args(WAITING[0].iter().copied())).await?;
        for program in [vec!["cat"], vec!["/echo.wasm", "stdin"]] {
            let exec = task.exec(program).stdin("typed\n").start().await?;
            exec.stdout().wait_for("typed").await?;
            exec.close_io().await?;
            assert_eq!(exec.wait().await?.code, 0);
            exec.delete().await?;
        }
        end(container, &task).await?;
        ctd.stop().await
    }

    async fn a_process_is_in_the_containers_namespaces_and_cgroup_and_as_confined(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        for args in WAITING {
            let builder = tandem(&ctd, &image).args(args.iter().copied()).user(1000, 2000).seccomp();
            let builder = builder.capabilities(&["CAP_NET_BIND_SERVICE"]).rlimit("RLIMIT_NOFILE", 512, 1024);
            let (container, task) = running(builder.memory_limit(256 << 20).pids_limit(64)).await?;
            for program in [vec!["/echo.wasm", "print", "up", "+", "sleep", "1000"], vec!["sh", "-c", "echo up; exec sleep 1000"]] {
                let exec = task.exec(program).user(1001, 2001, &[3001, 3002]).start().await?;
                exec.stdout().wait_for("up").await?;
                let pid = exec.state().await?.pid;
                let of = |pid: u32| {
                    let namespaces = ["pid", "mnt", "ipc", "uts", "net", "cgroup"];
                    let links = namespaces.map(|ns| std::fs::read_link(format!("/proc/{pid}/ns/{ns}")).unwrap());
                    (links, std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap())
                };
                assert_eq!(of(pid), of(task.pid()));
                let status = status(pid);
                assert_eq!(status["Uid"], "1001\t1001\t1001\t1001");
                assert_eq!(status["Gid"], "2001\t2001\t2001\t2001");
                assert_eq!(status["Groups"], "3001 3002");
                assert_eq!(status["CapBnd"], "0000000000000400");
                assert_eq!(status["CapEff"], "0000000000000000");
                assert_eq!(status["NoNewPrivs"], "1");
                assert_eq!(status["Seccomp"], "2");
                let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
                assert!(limits.lines().any(|line| line.split_whitespace().eq(["Max", "open", "files", "512", "1024", "files"])), "{limits}");
                // Nothing of the shim's is open in it.
                for fd in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
                    let target = std::fs::read_link(fd.path()).unwrap_or_default();
                    let target = target.to_string_lossy().into_owned();
                    for bad in ["signalfd", "/proc", "cgroup", "memfd:process", "mnt:", "pid:"] {
                        assert!(!target.contains(bad), "{target} is open in the process");
                    }
                }
                exec.kill(15).await?;
                let code = exec.wait().await?.code;
                assert_eq!(code, 143);
                exec.delete().await?;
            }
            end(container, &task).await?;
        }
        ctd.stop().await
    }

    async fn a_process_may_have_what_its_own_section_says(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        // Without no_new_privs the filter has to be installed while there is still the power to.
        let builder = tandem(&ctd, &image).args(WAITING[1].iter().copied()).new_privileges().seccomp();
        let (container, task) = running(builder).await?;
        let exec = task.exec(["sleep", "1000"]).field("noNewPrivileges", true.into());
        let caps = json!({ "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"] });
        let exec = exec.field("capabilities", caps).field("rlimits", json!([{ "type": "RLIMIT_CORE", "soft": 1, "hard": 2 }]));
        let exec = exec.field("oomScoreAdj", 321.into()).start().await?;
        let pid = exec.state().await?.pid;
        let privileged = task.exec(["sleep", "1000"]).start().await?;
        let other = status(privileged.state().await?.pid);
        assert_eq!((other["NoNewPrivs"].as_str(), other["Seccomp"].as_str()), ("0", "2"));
        let status = status(pid);
        assert_eq!((status["NoNewPrivs"].as_str(), status["CapEff"].as_str()), ("1", "0000000000000020"));
        assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim(), "321");
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        assert!(limits.lines().any(|line| line.split_whitespace().take(6).eq(["Max", "core", "file", "size", "1", "2"])), "{limits}");
        for exec in [exec, privileged] {
            exec.kill(9).await?;
            assert_eq!(exec.wait().await?.code, 137);
            exec.delete().await?;
        }
        end(container, &task).await?;
        ctd.stop().await
    }

    async fn another_users_process_can_open_its_output_anew(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let script = "echo one >/proc/self/fd/1; echo two >/proc/self/fd/2";
        let output = tandem(&ctd, &image).args(["sh", "-c", script]).user(1000, 1000).run_to_end().await?;
        assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (0, "one\n", "two\n"));
        let (container, task) = running(tandem(&ctd, &image).args(WAITING[1].iter().copied())).await?;
        let output = task.exec(["sh", "-c", script]).user(1000, 1000, &[]).run().await?;
        assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (0, "one\n", "two\n"));
        end(container, &task).await?;
        ctd.stop().await
    }

    async fn what_cannot_be_executed_fails_its_start_and_is_named(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        for args in WAITING {
            let (container, task) = running(tandem(&ctd, &image).args(args.iter().copied())).await?;
            for (args, code, part) in [
                (["missing"], Code::NotFound, "\"missing\": executable file not found in $PATH"),
                (["/missing"], Code::NotFound, "no such file or directory"),
                (["/tools/no-x"], Code::InvalidArgument, "permission denied"),
                (["/tools"], Code::InvalidArgument, "directory"),
                (["/tools/no-start.wasm"], Code::InvalidArgument, "_start"),
            ] {
                let refusal = refused(&task, &args).await;
                assert_eq!(refusal.code(), Some(code), "{refusal}");
                assert!(refusal.message().contains(part), "{part} is not in {refusal}");
            }
            let Err(refusal) = task.exec(["true"]).cwd("/nowhere").run().await else { panic!("it ran") };
            assert!(refusal.message().contains("/nowhere"), "{refusal}");
            // The container never notices.
            assert_ran(&task.exec(["true"]).run().await?, 0, "");
            end(container, &task).await?;
        }
        ctd.stop().await
    }
}

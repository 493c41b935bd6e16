//! The life of an executed process as containerd sees it: states, events, lists, and ends of all kinds.

use tandem_integration::task::Status;
use tandem_integration::{Code, Event, EventKind, Result, on_both_generations};
use tokio::task::JoinSet;

use super::support::{WAITING, end, running, tandem, with_tools};

/// Kind, exec id and code of each event.
fn told(events: &[Event]) -> Vec<(EventKind, &str, u32)> {
    events
        .iter()
        .map(|event| (event.kind, event.exec.as_str(), event.code))
        .collect()
}

on_both_generations! {
    async fn a_processs_life_is_told_by_its_state(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let (container, task) = running(tandem(&ctd, &image).args(WAITING[0].iter().copied())).await?;
        let exec = task.exec(["sleep", "1000"]).id("one").add().await?;
        assert_eq!(exec.status().await?, Status::Created);
        assert_eq!(exec.kill(9).await.unwrap_err().code(), Some(Code::FailedPrecondition));
        let again = task.exec(["true"]).id("one").add().await;
        assert_eq!(again.unwrap_err().code(), Some(Code::AlreadyExists));
        let pid = exec.start().await?;
        assert!(pid > 0 && pid != task.pid());
        assert_eq!(exec.status().await?, Status::Running);
        assert_eq!(exec.start().await.unwrap_err().code(), Some(Code::FailedPrecondition));
        assert_eq!(exec.delete_only().await.unwrap_err().code(), Some(Code::FailedPrecondition));
        // The list names it.
        let processes = task.processes().await?;
        let details = |pid: u32| processes.iter().find(|process| process.pid == pid).unwrap().info.clone();
        let info = details(pid).unwrap();
        assert_eq!(info.type_url, "containerd.runc.v1.ProcessDetails");
        assert_eq!(info.value, b"\x0a\x03one");
        assert!(details(task.pid()).is_none());
        exec.kill(9).await?;
        assert_eq!(exec.wait().await?.code, 137);
        assert_eq!(exec.status().await?, Status::Stopped);
        assert_eq!(exec.kill(9).await.unwrap_err().code(), Some(Code::NotFound));
        assert_eq!(task.status().await?, Status::Running, "a kill of \"all\" reached the container");
        exec.delete().await?;
        assert_eq!(exec.state().await.unwrap_err().code(), Some(Code::NotFound));
        assert_eq!(exec.wait().await.unwrap_err().code(), Some(Code::NotFound));
        // Its name is free again; one that never ran can be deleted.
        let exec = task.exec(["true"]).id("one").add().await?;
        exec.delete_only().await?;
        let odd = task.exec(["true"]).id("../one").add().await;
        assert_eq!(odd.unwrap_err().code(), Some(Code::InvalidArgument));
        end(container, &task).await?;
        ctd.stop().await
    }

    async fn events_come_once_and_in_order(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let events = ctd.events().await?;
        let (container, task) = running(tandem(&ctd, &image).args(WAITING[0].iter().copied())).await?;
        events.wait_for(container.id(), EventKind::Start).await?;
        for (number, args) in [vec!["/tools/exit7.wasm"], vec!["sh", "-c", "exit 7"]].into_iter().enumerate() {
            for round in 0..5 {
                let id = format!("x{number}{round}");
                let before = events.of(container.id()).len();
                assert_eq!(task.exec(args.clone()).id(&id).run().await?.code, 7);
                let failed = task.exec(["/missing"]).id(&format!("{id}f")).start().await;
                assert!(failed.is_err());
                // The next one's event tells that all before it have come.
                let last = task.exec(["true"]).id(&format!("{id}n")).add().await?;
                let added = |events: &tandem_integration::Events| events.of(container.id()).iter().any(|event| event.exec == last.id());
                tandem_integration::deadline::until("the next event", tandem_integration::deadline::SOON, || added(&events).then_some(())).await?;
                last.delete_only().await?;
                let seen = events.of(container.id());
                let (next, failed) = (format!("{id}n"), format!("{id}f"));
                let mut told = told(&seen[before..]);
                // containerd itself tells of a deletion.
                told.retain(|(kind, ..)| *kind != EventKind::Delete);
                assert_eq!(told, [
                    (EventKind::ExecAdded, id.as_str(), 0),
                    (EventKind::ExecStarted, &id, 0),
                    (EventKind::Exit, &id, 7),
                    (EventKind::ExecAdded, &failed, 0),
                    (EventKind::ExecAdded, &next, 0),
                ]);
            }
        }
        end(container, &task).await?;
        ctd.stop().await
    }

    async fn the_containers_end_is_its_processes_end_and_is_told_last(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let events = ctd.events().await?;
        for args in WAITING {
            for shared in [false, true] {
                let builder = tandem(&ctd, &image).args(args.iter().copied());
                let builder = if shared { builder.without_namespace("pid") } else { builder };
                let (container, task) = running(builder).await?;
                let guest = task.exec(["/tools/spin.wasm"]).start().await?;
                guest.stdout().wait_for("spinning").await?;
                let shell = task.exec(["sh", "-c", "trap '' TERM; echo up; while true; do sleep 1; done"]).start().await?;
                shell.stdout().wait_for("up").await?;
                task.kill(9).await?;
                assert_eq!(task.wait().await?.code, 137);
                for exec in [&guest, &shell] {
                    assert_eq!(exec.wait().await?.code, 137);
                    assert_eq!(exec.status().await?, Status::Stopped);
                }
                let late = task.exec(["true"]).add().await;
                assert_eq!(late.unwrap_err().code(), Some(Code::FailedPrecondition));
                guest.delete().await?;
                task.delete().await?;
                events.wait_for(container.id(), EventKind::Delete).await?;
                let seen = events.of(container.id());
                let exits: Vec<&str> = seen.iter().filter(|event| event.kind == EventKind::Exit).map(|event| event.exec.as_str()).collect();
                assert_eq!((exits.len(), exits.last()), (3, Some(&"")), "{seen:?}");
                container.remove().await?;
            }
        }
        ctd.stop().await
    }

    async fn processes_that_start_while_the_container_ends_leave_nothing(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let events = ctd.events().await?;
        for round in 0..6 {
            let builder = tandem(&ctd, &image).args(WAITING[round % 2].iter().copied());
            let builder = if round % 4 < 2 { builder } else { builder.without_namespace("pid") };
            let (container, task) = running(builder).await?;
            let mut starts = JoinSet::new();
            for number in 0..6 {
                let args: &[&str] = if number % 2 == 0 { &["sleep", "1000"] } else { &["/tools/spin.wasm"] };
                let exec = task.exec(args.iter().copied()).add().await?;
                starts.spawn(async move {
                    let started = exec.start().await.is_ok();
                    (exec, started)
                });
            }
            task.kill(9).await?;
            assert_eq!(task.wait().await?.code, 137);
            let mut ran = 0;
            while let Some(result) = starts.join_next().await {
                let (exec, started) = result.unwrap();
                if started {
                    ran += 1;
                    assert_eq!(exec.wait().await?.code, 137);
                }
            }
            task.delete().await?;
            events.wait_for(container.id(), EventKind::Delete).await?;
            let seen = events.of(container.id());
            let exits: Vec<&Event> = seen.iter().filter(|event| event.kind == EventKind::Exit).collect();
            assert_eq!(exits.len(), ran + 1, "{seen:?}");
            assert_eq!(exits.last().unwrap().exec, "", "{seen:?}");
            container.remove().await?;
        }
        ctd.stop().await
    }

    async fn many_run_at_once(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        for args in WAITING {
            let (container, task) = running(tandem(&ctd, &image).args(args.iter().copied())).await?;
            let mut runs = JoinSet::new();
            for number in 0..24 {
                let text = format!("number {number}");
                let program: [&str; 3] = if number % 2 == 0 { ["busybox", "echo", &text] } else { ["/tools/echo.wasm", "print", &text] };
                let exec = task.exec(program);
                runs.spawn(async move { (text, exec.run().await) });
            }
            while let Some(run) = runs.join_next().await {
                let (text, output) = run.unwrap();
                let output = output?;
                assert_eq!((output.code, output.stdout), (0, format!("{text}\n")));
            }
            end(container, &task).await?;
        }
        ctd.stop().await
    }

    async fn what_a_process_leaves_running_holds_up_nobody(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let (container, task) = running(tandem(&ctd, &image).args(WAITING[1].iter().copied())).await?;
        // The child keeps the output open; the client's reading must end all the same.
        let output = task.exec(["sh", "-c", "sleep 1000 & echo done"]).run().await?;
        assert_eq!((output.code, output.stdout.as_str()), (0, "done\n"));
        assert_eq!(task.pids().await?.len(), 2);
        end(container, &task).await?;
        ctd.stop().await
    }

    async fn a_created_container_takes_processes_as_with_runc(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        for args in WAITING {
            let container = tandem(&ctd, &image).args(args.iter().copied()).create().await?;
            let task = container.task().await?;
            assert_eq!(task.exec(["/tools/exit7.wasm"]).run().await?.code, 7);
            assert_eq!(task.exec(["sh", "-c", "exit 5"]).run().await?.code, 5);
            task.delete().await?;
            container.remove().await?;
        }
        ctd.stop().await
    }

    async fn a_restart_of_containerd_leaves_its_processes_running(generation: Generation) -> Result<()> {
        let (mut ctd, image) = with_tools(generation).await?;
        let (container, task) = running(tandem(&ctd, &image).args(WAITING[0].iter().copied())).await?;
        let exec = task.exec(["sh", "-c", "echo up; read line; exit 9"]).stdin("").start().await?;
        exec.stdout().wait_for("up").await?;
        ctd.kill9_and_restart().await?;
        assert_eq!(exec.status().await?, Status::Running);
        let mut exec = exec;
        exec.stdin().unwrap().write(b"go\n").await?;
        assert_eq!(exec.wait().await?.code, 9);
        exec.delete().await?;
        end(container, &task).await?;
        ctd.stop().await
    }
}

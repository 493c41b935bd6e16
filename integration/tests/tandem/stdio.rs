//! Where output can go: FIFOs, files, logging programs, nowhere. FIFOs are what all the other tests use.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use tandem_integration::deadline::{SOON, until};
use tandem_integration::{Code, Containerd, Result, on_both_generations};

use super::shim::{Shim, kill9};
use super::support::{WAITING, end, running, tandem, with_tools};

const GUEST: &[&str] = &["/echo.wasm", "print", "out", "+", "stderr", "err"];
const PROGRAM: &[&str] = &["sh", "-c", "echo out; echo err >&2"];

/// A logging program that writes a file for each stream, and one of what it was started with.
fn logger(ctd: &Containerd, script: &str) -> PathBuf {
    let path = ctd.home().dir.join("logger");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

const LOGS: &str = "trap '' TERM\necho \"$CONTAINER_NAMESPACE $CONTAINER_ID $1\" >\"$2.started\"\nexec 5>&-\ncat <&3 >\"$2.out\" &\ncat <&4 >\"$2.err\"\nwait\necho ended >>\"$2.started\"";

on_both_generations! {
    async fn output_goes_into_a_file(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        for (number, args) in [GUEST, PROGRAM].into_iter().enumerate() {
            let log = ctd.home().dir.join(format!("log{number}"));
            let uri = format!("file://{}", log.display());
            let container = tandem(&ctd, &image).args(args.iter().copied()).create().await?;
            let both = uri.clone();
            let mut task = container
                .task_with(|request| {
                    request.stdout = both.clone();
                    request.stderr = both;
                })
                .await?;
            task.start().await?;
            assert_eq!(task.wait().await?.code, 0);
            task.delete_only().await?;
            container.remove().await?;
            assert_eq!(std::fs::read_to_string(&log).unwrap(), "out\nerr\n");
            let (container, task) = running(tandem(&ctd, &image).args(WAITING[0].iter().copied())).await?;
            let exec = task.exec(args.iter().copied()).stdout(&uri).start().await?;
            exec.wait().await?;
            exec.delete_only().await?;
            assert_eq!(std::fs::read_to_string(&log).unwrap(), "out\nerr\nout\n");
            end(container, &task).await?;
        }
        ctd.stop().await
    }

    async fn a_log_file_is_made_with_its_directories_by_its_decoded_name(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let logs = ctd.home().dir.join("logs");
        let named = logs.join("of a pod/100%.log");
        let uri = format!("file://{}/of%20a%20pod/100%25.log", logs.display());
        for (tty, expected) in [(false, "out\nerr\n"), (true, "out\r\nerr\r\n")] {
            let container = tandem(&ctd, &image).args(PROGRAM.iter().copied()).tty(tty).create().await?;
            let both = uri.clone();
            let mut task = container
                .task_with(|request| {
                    request.stdout = both.clone();
                    request.stderr = if tty { String::new() } else { both };
                })
                .await?;
            task.start().await?;
            assert_eq!(task.wait().await?.code, 0);
            task.delete_only().await?;
            container.remove().await?;
            assert_eq!(std::fs::read_to_string(&named).unwrap(), expected);
            let mode = std::fs::metadata(&named).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o644);
            std::fs::remove_file(&named).unwrap();
        }
        ctd.stop().await
    }

    async fn a_container_cannot_change_the_log_file_that_it_writes_to(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let log = ctd.home().dir.join("of-both.log");
        std::fs::write(&log, "of another\n").unwrap();
        let before = std::fs::metadata(&log).unwrap();
        let script = "chmod 4777 /proc/self/fd/1; chown 5:5 /proc/self/fd/1; : >/proc/self/fd/1; echo done";
        let container = tandem(&ctd, &image).args(["sh", "-c", script]).create().await?;
        let uri = format!("file://{}", log.display());
        let mut task = container.task_with(|request| request.stdout = uri).await?;
        task.start().await?;
        task.wait().await?;
        task.delete_only().await?;
        container.remove().await?;
        let after = std::fs::metadata(&log).unwrap();
        assert_eq!((after.mode(), after.uid()), (before.mode(), before.uid()));
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "of another\ndone\n");
        ctd.stop().await
    }

    async fn a_logging_program_gets_both_outputs_and_ends_with_its_process(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let program = logger(&ctd, LOGS);
        for (number, args) in [GUEST, PROGRAM].into_iter().enumerate() {
            for tty in [false, true] {
                let log = ctd.home().dir.join(format!("log{number}{tty}"));
                let uri = format!("binary://{}?file={}", program.display(), log.display());
                let read = |end: &str| std::fs::read_to_string(log.with_extension(end)).unwrap();
                let container = tandem(&ctd, &image).args(args.iter().copied()).tty(tty).create().await?;
                let mut task = container
                    .task_with(|request| {
                        request.stdout = uri.clone();
                        request.stderr = String::new();
                    })
                    .await?;
                task.start().await?;
                assert_eq!(task.wait().await?.code, 0);
                task.delete_only().await?;
                let started = format!("{} {} file\nended\n", ctd.session().namespace(), container.id());
                assert_eq!(read("started"), started);
                let seen = (read("out"), read("err"));
                if tty {
                    assert_eq!(seen, ("out\r\nerr\r\n".into(), String::new()));
                } else {
                    assert_eq!(seen, ("out\n".into(), "err\n".into()));
                }
                container.remove().await?;

                let (container, task) = running(tandem(&ctd, &image).args(WAITING[number].iter().copied())).await?;
                let exec = task.exec(args.iter().copied()).stdout(&uri);
                let exec = if tty { exec.tty() } else { exec };
                let exec = exec.start().await?;
                assert_eq!(exec.wait().await?.code, 0);
                exec.delete_only().await?;
                assert_eq!(read("started"), format!("{} {} file\nended\n", ctd.session().namespace(), exec.id()));
                assert!(read("out").starts_with("out"));
                end(container, &task).await?;
            }
        }
        ctd.stop().await
    }

    async fn a_logging_program_that_stays_is_told_to_end(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let program = logger(&ctd, "trap 'echo told >\"$2\"; exit' TERM\nprintf r >&5\nwhile true; do sleep 0.1; done");
        let mark = ctd.home().dir.join("mark");
        let container = tandem(&ctd, &image).args(["true"]).create().await?;
        let uri = format!("binary://{}?file={}", program.display(), mark.display());
        let mut task = container.task_with(|request| request.stdout = uri).await?;
        task.start().await?;
        task.wait().await?;
        task.delete_only().await?;
        assert_eq!(std::fs::read_to_string(&mark).unwrap(), "told\n");
        container.remove().await?;
        ctd.stop().await
    }

    async fn a_logging_program_of_a_shim_that_was_killed_ends_too(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let program = logger(&ctd, LOGS);
        let log = ctd.home().dir.join("log");
        let container = tandem(&ctd, &image).args(WAITING[0].iter().copied()).create().await?;
        let uri = format!("binary://{}?file={}", program.display(), log.display());
        let mut task = container.task_with(|request| request.stdout = uri).await?;
        task.start().await?;
        kill9(Shim::of(&task).service);
        let ended = || std::fs::read_to_string(log.with_extension("started")).is_ok_and(|text| text.ends_with("ended\n"));
        until("the logging program's end", SOON, || ended().then_some(())).await?;
        let _ = task.wait().await;
        let _ = task.delete_only().await;
        container.remove().await?;
        ctd.stop().await
    }

    async fn no_streams_at_all_are_fine(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        for args in [GUEST, PROGRAM] {
            for tty in [false, true] {
                let container = tandem(&ctd, &image).args(args.iter().copied()).tty(tty).create().await?;
                let mut task = container
                    .task_with(|request| {
                        request.stdout = String::new();
                        request.stderr = String::new();
                    })
                    .await?;
                task.start().await?;
                assert_eq!(task.wait().await?.code, 0);
                task.delete_only().await?;
                container.remove().await?;
            }
        }
        ctd.stop().await
    }

    async fn what_cannot_take_output_is_refused_and_named(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let dir = ctd.home().dir.display().to_string();
        let failing = logger(&ctd, "exit 3").display().to_string();
        let container = tandem(&ctd, &image).args(["true"]).create().await?;
        for (uri, code, part) in [
            ("gopher://x".to_owned(), Code::InvalidArgument, "gopher"),
            ("file:///proc/no/such/log".to_owned(), Code::InvalidArgument, "/no/such/log"),
            (format!("file://{dir}/log%2"), Code::InvalidArgument, "hexadecimal"),
            ("file://elsewhere/log".to_owned(), Code::InvalidArgument, "absolute"),
            (format!("binary://{dir}/no-logger"), Code::InvalidArgument, "no-logger"),
            ("binary://relative".to_owned(), Code::InvalidArgument, "absolute"),
        ] {
            let refusal = container.task_with(|request| request.stdout = uri).await.unwrap_err();
            assert_eq!(refusal.code(), Some(code), "{refusal}");
            assert!(refusal.message().contains(part), "{refusal}");
        }
        // It may say that it is ready, by closing the descriptor, before it is seen to have ended.
        if let Ok(task) = container.task_with(|request| request.stdout = format!("binary://{failing}")).await {
            task.delete_only().await?;
        }
        container.remove().await?;
        let (container, task) = running(tandem(&ctd, &image).args(WAITING[0].iter().copied())).await?;
        let refusal = task.exec(["true"]).stdout("gopher://x").start().await.unwrap_err();
        assert!(refusal.code() == Some(Code::InvalidArgument) && refusal.message().contains("gopher"), "{refusal}");
        end(container, &task).await?;
        ctd.stop().await
    }
}

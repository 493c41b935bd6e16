//! Terminals of first processes and of executed ones, through the Task API.

use tandem_integration::{Result, on_both_generations};

use super::support::{WAITING, end, running, tandem, with_tools};

/// What the line discipline makes of Ctrl-C.
const INTERRUPT: &[u8] = b"\x03";
/// What it makes of Ctrl-D at the beginning of a line.
const END_OF_FILE: &[u8] = b"\x04";
/// What a person waits for, so that the shell is at its prompt again.
const PROMPT: std::time::Duration = std::time::Duration::from_millis(300);

on_both_generations! {
    async fn a_shell_has_a_terminal_that_can_be_resized_and_interrupted(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let builder = tandem(&ctd, &image).args(["sh"]).tty(true).stdin("");
        let builder = builder.edit(|spec| spec["process"]["consoleSize"] = serde_json::json!({ "height": 11, "width": 22 }));
        let (container, mut task) = running(builder).await?;
        task.stdin().unwrap().write(b"tty; stty size\n").await?;
        task.stdout().wait_for("/dev/pts/0\r\n11 22\r\n").await?;
        task.resize(100, 50).await?;
        task.stdin().unwrap().write(b"stty size; ls /dev/console; cat\n").await?;
        task.stdout().wait_for("50 100\r\n/dev/console\r\n").await?;
        task.stdin().unwrap().write(b"echoed\n").await?;
        task.stdout().wait_for("echoed\r\nechoed\r\n").await?;
        task.stdin().unwrap().write(INTERRUPT).await?;
        // The key throws away what is typed until then.
        task.stdout().wait_for("^C").await?;
        tokio::time::sleep(PROMPT).await;
        task.stdin().unwrap().write(b"echo code $?; exit 4\n").await?;
        task.stdout().wait_for("code 130\r\n").await?;
        assert_eq!(task.wait().await?.code, 4);
        task.delete().await?;
        assert!(task.state().await.is_err());
        container.remove().await?;
        ctd.stop().await
    }

    async fn a_guest_knows_its_terminal_and_is_interrupted_by_it(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        for guest in ["/echo.wasm", "/hello-component.wasm"] {
            let output = tandem(&ctd, &image).args([guest, "tty"]).run_to_end().await?;
            assert_eq!(output.stdout, "stdin 0 stdout 0 stderr 0\n", "{guest}: {}", output.stderr);
            let output = tandem(&ctd, &image).args([guest, "tty"]).tty(true).run_to_end().await?;
            assert_eq!(output.stdout, "stdin 1 stdout 1 stderr 1\r\n", "{guest}");
        }
        let (container, mut task) = running(tandem(&ctd, &image).args(["/spin.wasm"]).tty(true).stdin("")).await?;
        task.stdout().wait_for("spinning").await?;
        task.stdin().unwrap().write(INTERRUPT).await?;
        assert_eq!(task.wait().await?.code, 130);
        task.delete().await?;
        container.remove().await?;
        ctd.stop().await
    }

    async fn input_of_a_terminal_ends_by_its_key_by_close_io_and_with_its_writer(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        for args in [vec!["/echo.wasm", "stdin"], vec!["cat"]] {
            for way in 0..3 {
                let builder = tandem(&ctd, &image).args(args.clone()).tty(true).stdin("typed\n");
                let (container, mut task) = running(builder).await?;
                task.stdout().wait_for("typed\r\ntyped\r\n").await?;
                match way {
                    0 => task.stdin().unwrap().write(END_OF_FILE).await?,
                    1 => task.close_stdin().await?,
                    _ => {
                        // In the middle of a line.
                        task.stdin().unwrap().write(b"half").await?;
                        task.stdout().wait_for("half").await?;
                        task.stdin().unwrap().close();
                    }
                }
                assert_eq!(task.wait().await?.code, 0);
                task.delete().await?;
                if way == 2 {
                    assert!(task.stdout().text().ends_with("halfhalf"), "{}", task.stdout().text());
                }
                container.remove().await?;
            }
        }
        ctd.stop().await
    }

    async fn the_last_output_of_a_terminal_is_not_lost(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let script = "i=0; while [ $i -lt 4000 ]; do echo line $i; i=$((i+1)); done; echo last";
        for args in [vec!["sh", "-c", script], vec!["/echo.wasm", "big", "200000", "+", "print", "last"]] {
            for _ in 0..3 {
                let output = tandem(&ctd, &image).args(args.clone()).tty(true).run_to_end().await?;
                assert!(output.stdout.ends_with("last\r\n"), "{} bytes", output.stdout.len());
                assert!(output.stdout.len() > 30_000, "{} bytes", output.stdout.len());
            }
            let (container, task) = running(tandem(&ctd, &image).args(WAITING[0].iter().copied())).await?;
            for _ in 0..3 {
                let output = task.exec(args.clone()).tty().run().await?;
                assert!(output.stdout.ends_with("last\r\n"), "{} bytes", output.stdout.len());
                assert!(output.stdout.len() > 30_000, "{} bytes", output.stdout.len());
            }
            end(container, &task).await?;
        }
        ctd.stop().await
    }

    async fn an_executed_process_has_a_terminal_of_its_own(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        for args in WAITING {
            let (container, task) = running(tandem(&ctd, &image).args(args.iter().copied())).await?;
            let mut shell = task.exec(["sh"]).tty().stdin("");
            shell = shell.field("consoleSize", serde_json::json!({ "height": 12, "width": 34 }));
            let mut shell = shell.start().await?;
            shell.stdin().unwrap().write(b"stty size; tty\n").await?;
            shell.stdout().wait_for("12 34\r\n/dev/pts/0\r\n").await?;
            shell.resize(90, 45).await?;
            shell.stdin().unwrap().write(b"stty size; cat\n").await?;
            shell.stdout().wait_for("45 90\r\n").await?;
            shell.stdin().unwrap().write(b"echoed\n").await?;
            shell.stdout().wait_for("echoed\r\nechoed\r\n").await?;
            shell.stdin().unwrap().write(INTERRUPT).await?;
            shell.stdout().wait_for("^C").await?;
            tokio::time::sleep(PROMPT).await;
            shell.stdin().unwrap().write(b"exit 6\n").await?;
            assert_eq!(shell.wait().await?.code, 6);
            shell.delete().await?;
            let tty = task.exec(["/tools/echo.wasm", "tty"]).tty().run().await?;
            assert_eq!((tty.code, tty.stdout.as_str()), (0, "stdin 1 stdout 1 stderr 1\r\n"));
            let mut spinning = task.exec(["/tools/spin.wasm"]).tty().stdin("").start().await?;
            spinning.stdout().wait_for("spinning").await?;
            spinning.stdin().unwrap().write(INTERRUPT).await?;
            assert_eq!(spinning.wait().await?.code, 130);
            spinning.delete().await?;
            // What cannot be executed is said by Start here too.
            let refusal = task.exec(["/missing"]).tty().start().await.unwrap_err();
            assert!(refusal.message().contains("no such file"), "{refusal}");
            end(container, &task).await?;
        }
        ctd.stop().await
    }

    async fn a_terminal_belongs_to_the_processs_user(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let script = "echo anew >$(tty); stat -c %u $(tty)";
        let output = tandem(&ctd, &image).args(["sh", "-c", script]).user(1000, 1000).tty(true).run_to_end().await?;
        assert_eq!((output.code, output.stdout.as_str()), (0, "anew\r\n1000\r\n"));
        let (container, task) = running(tandem(&ctd, &image).args(WAITING[0].iter().copied())).await?;
        let output = task.exec(["sh", "-c", script]).user(1000, 1000, &[]).tty().run().await?;
        assert_eq!((output.code, output.stdout.as_str()), (0, "anew\r\n1000\r\n"));
        end(container, &task).await?;
        ctd.stop().await
    }
}

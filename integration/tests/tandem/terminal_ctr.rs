//! Sessions as a person has them: containerd's own client on a terminal.

use std::time::Duration;

use tandem_integration::terminal::{ctr_exec, ctr_run};
use tandem_integration::{Result, Terminal, on_both_generations};

use super::support::{WAITING, end, running, tandem, with_tools};

/// What a person waits for, so that the shell is at its prompt again.
const PROMPT: Duration = Duration::from_millis(300);

/// Asks for the size until it is the one. The client tells it after the start, and hears of a change by a signal.
async fn shows_size(terminal: &mut Terminal, size: &str) -> Result<()> {
    for _ in 0..20 {
        terminal.enter("stty size\n")?;
        tokio::time::sleep(PROMPT).await;
        if terminal.text().contains(&format!("{size}\n")) {
            break;
        }
    }
    terminal.wait_for(&format!("{size}\n")).await
}

on_both_generations! {
    async fn a_person_works_in_a_containers_shell(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let mut terminal = Terminal::ctr(&ctd, ctr_run(&ctd, &image, &["-t"], &["sh"]))?;
        terminal.enter("echo hello-$((6*7))\n")?;
        terminal.wait_for("hello-42\n").await?;
        shows_size(&mut terminal, "24 80").await?;
        terminal.resize(101, 51)?;
        shows_size(&mut terminal, "51 101").await?;
        // What has echoed a line is what the key interrupts.
        // Within one line the shell does not read what is typed for its program.
        terminal.enter("echo cat-$((1+1)); cat\n")?;
        terminal.wait_for("cat-2\n").await?;
        terminal.enter("echoed\n")?;
        terminal.wait_for("echoed\nechoed\n").await?;
        terminal.enter("\x03")?;
        terminal.wait_for("^C").await?;
        tokio::time::sleep(PROMPT).await;
        terminal.enter("exit 5\n")?;
        assert_eq!(terminal.end().await?, 5);
        ctd.stop().await
    }

    async fn a_person_types_to_a_guest_and_interrupts_one(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let mut terminal = Terminal::ctr(&ctd, ctr_run(&ctd, &image, &["-t"], &["/echo.wasm", "stdin"]))?;
        terminal.enter("typed\n")?;
        terminal.wait_for("typed\ntyped\n").await?;
        terminal.enter("\x04")?;
        assert_eq!(terminal.end().await?, 0);
        let mut terminal = Terminal::ctr(&ctd, ctr_run(&ctd, &image, &["-t"], &["/spin.wasm"]))?;
        terminal.wait_for("spinning").await?;
        terminal.enter("\x03")?;
        assert_eq!(terminal.end().await?, 130);
        ctd.stop().await
    }

    async fn a_person_looks_into_a_running_container(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        for args in WAITING {
            let (container, task) = running(tandem(&ctd, &image).args(args.iter().copied())).await?;
            let mut terminal = Terminal::ctr(&ctd, ctr_exec(&ctd, container.id(), &["-t"], &["sh"]))?;
            shows_size(&mut terminal, "24 80").await?;
            terminal.enter("exit 9\n")?;
            assert_eq!(terminal.end().await?, 9);
            let terminal = Terminal::ctr(&ctd, ctr_exec(&ctd, container.id(), &["-t"], &["/tools/echo.wasm", "tty"]))?;
            terminal.wait_for("stdin 1 stdout 1 stderr 1\n").await?;
            assert_eq!(terminal.end().await?, 0);
            // Without a terminal, as a script would.
            assert_eq!(ctd.ctr(ctr_exec(&ctd, container.id(), &[], &["/tools/echo.wasm", "print", "plain"])).await?, "plain\n");
            let refusal = ctd.ctr(ctr_exec(&ctd, container.id(), &[], &["missing"])).await.unwrap_err();
            assert!(refusal.message().contains("executable file not found in $PATH"), "{refusal}");
            let list = ctd.ctr(["task", "ps", container.id()]).await?;
            assert!(list.contains(&task.pid().to_string()), "{list}");
            end(container, &task).await?;
        }
        ctd.stop().await
    }
}

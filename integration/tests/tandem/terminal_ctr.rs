//! Sessions as a person has them: containerd's own client on a terminal.

use tandem_integration::terminal::{ctr_exec, ctr_run};
use tandem_integration::{Result, Terminal, on_both_generations};

use super::support::{WAITING, end, running, tandem, with_tools};

on_both_generations! {
    async fn a_person_works_in_a_containers_shell(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let mut terminal = Terminal::ctr(&ctd, ctr_run(&ctd, &image, &["-t"], &["sh"]))?;
        terminal.enter("echo hello-$((6*7))\n")?;
        terminal.wait_for("hello-42\n").await?;
        terminal.enter("stty size\n")?;
        terminal.wait_for("24 80\n").await?;
        terminal.resize(101, 51)?;
        // The client hears of it by a signal, so not at once.
        for _ in 0..50 {
            terminal.enter("stty size\n")?;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            if terminal.text().contains("51 101\n") {
                break;
            }
        }
        terminal.wait_for("51 101\n").await?;
        terminal.enter("echo slee''ping; sleep 1000\n")?;
        terminal.wait_for("sleeping\n").await?;
        terminal.enter("\x03")?;
        terminal.wait_for("^C").await?;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        terminal.enter("exit 5\n")?;
        assert_eq!(terminal.end().await?, 5);
        ctd.stop().await
    }

    async fn a_person_types_to_a_guest_and_interrupts_one(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let mut terminal = Terminal::ctr(&ctd, ctr_run(&ctd, &image, &["-t"], &["/echo.wasm", "stdin"]))?;
        terminal.enter("typed\n")?;
        terminal.wait_for("typed\r\ntyped\n").await?;
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
            terminal.enter("ps -o pid,args | head -n 3; stty size\n")?;
            terminal.wait_for("24 80\n").await?;
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

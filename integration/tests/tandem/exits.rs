//! How a container ends, and what its end says.

use std::time::{Duration, Instant};

use tandem_integration::{Error, Result, on_both_generations};

use super::support::{import_guest, tandem, with_busybox, with_guest};

/// How soon after SIGTERM a guest has to be gone, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(20);

on_both_generations! {
    async fn the_guests_own_exit_code_is_the_containers(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "exit7.wasm").await?;
        assert_eq!(tandem(&ctd, &image).run_to_end().await?.code, 7);
        ctd.stop().await
    }

    async fn a_trap_is_told_from_other_ends_and_explained_with_a_backtrace(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "trap.wasm").await?;
        let output = tandem(&ctd, &image).run_to_end().await?;
        assert_eq!(output.code, 134);
        assert!(output.stderr.contains("unreachable"), "{}", output.stderr);
        assert!(output.stderr.contains("innermost") && output.stderr.contains("middle"), "{}", output.stderr);
        ctd.stop().await
    }

    async fn a_host_error_has_a_code_of_its_own(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "http-hello.wasm").await?;
        let output = tandem(&ctd, &image).env("TANDEM_HTTP_ADDR", "nowhere").run_to_end().await?;
        assert_eq!(output.code, 125);
        assert!(output.stderr.contains("TANDEM_HTTP_ADDR"), "{}", output.stderr);
        ctd.stop().await
    }

    async fn sigterm_ends_a_guest_that_only_computes(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "spin.wasm").await?;
        let container = tandem(&ctd, &image).create().await?;
        let mut task = container.task().await?;
        task.start().await?;
        task.stdout().wait_for("spinning").await?;
        let asked = Instant::now();
        task.kill(15).await?;
        assert_eq!(task.wait().await?.code, 143);
        assert!(asked.elapsed() < SOON);
        task.delete().await?;
        container.remove().await?;
        ctd.stop().await
    }

    async fn sigterm_ends_a_guest_that_sleeps(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "echo.wasm").await?;
        let container = tandem(&ctd, &image).args(["/echo.wasm", "print", "up", "+", "sleep", "1000"]);
        let container = container.create().await?;
        let mut task = container.task().await?;
        task.start().await?;
        task.stdout().wait_for("up").await?;
        task.kill(15).await?;
        assert_eq!(task.wait_for(SOON).await?.code, 143);
        task.delete().await?;
        container.remove().await?;
        ctd.stop().await
    }

    async fn other_signals_end_a_guest_with_their_number(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "spin.wasm").await?;
        for signal in [1, 2, 3, 9] {
            let container = tandem(&ctd, &image).create().await?;
            let mut task = container.task().await?;
            task.start().await?;
            task.stdout().wait_for("spinning").await?;
            task.kill(signal).await?;
            assert_eq!(task.wait_for(SOON).await?.code, 128 + signal);
            task.delete().await?;
            container.remove().await?;
        }
        ctd.stop().await
    }

    async fn a_linux_process_ignoring_sigterm_ends_by_sigkill(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        let script = "trap '' TERM; echo up; while :; do sleep 1; done";
        let container = tandem(&ctd, &image).args(["sh", "-c", script]).create().await?;
        let mut task = container.task().await?;
        task.start().await?;
        task.stdout().wait_for("up").await?;
        task.kill(15).await?;
        let stays = task.wait_for(Duration::from_millis(500)).await;
        assert!(matches!(stays, Err(Error::Deadline { .. })), "{stays:?}");
        task.kill_all(9).await?;
        assert_eq!(task.wait().await?.code, 137);
        task.delete().await?;
        container.remove().await?;
        ctd.stop().await
    }

    async fn output_before_a_trap_is_not_lost(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "echo.wasm").await?;
        let output = tandem(&ctd, &image).args(["/echo.wasm", "big", "300000", "+", "trap"]).run_to_end().await?;
        assert_eq!((output.code, output.stdout.len()), (134, 300_000), "{}", output.stderr);
        let image = import_guest(&ctd, "tool.wasm").await?;
        let output = tandem(&ctd, &image).args(["/tool.wasm", "panic", "oops"]).run_to_end().await?;
        assert_eq!(output.code, 134, "{}", output.stderr);
        ctd.stop().await
    }
}

//! The Task API as containerd and its clients use it.

use std::time::Instant;

use tandem_integration::task::Status;
use tandem_integration::{Code, EventKind, Result, deadline, on_both_generations};

use super::support::{tandem, with_guest};

on_both_generations! {
    async fn a_tasks_life_is_told_by_its_state(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "spin.wasm").await?;
        let container = tandem(&ctd, &image).create().await?;
        let mut task = container.task().await?;
        assert_eq!(task.status().await?, Status::Created);
        assert_eq!(task.delete_only().await.map(|exit| exit.code).ok(), Some(137), "a created task can be deleted");
        task = container.task().await?;
        task.start().await?;
        assert_eq!(task.status().await?, Status::Running);
        assert_eq!(task.pids().await?, [task.pid()]);
        assert_eq!(task.delete_only().await.unwrap_err().code(), Some(Code::FailedPrecondition));
        assert_eq!(task.start().await.unwrap_err().code(), Some(Code::FailedPrecondition));
        task.kill(9).await?;
        assert_eq!(task.wait().await?.code, 137);
        assert_eq!(task.status().await?, Status::Stopped);
        assert_eq!(task.kill(9).await.unwrap_err().code(), Some(Code::NotFound));
        task.delete().await?;
        assert_eq!(task.state().await.unwrap_err().code(), Some(Code::NotFound));
        container.remove().await?;
        ctd.stop().await
    }

    async fn events_come_once_and_in_order(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "exit7.wasm").await?;
        let events = ctd.events().await?;
        for _ in 0..5 {
            let container = tandem(&ctd, &image).create().await?;
            container.run_to_end().await?;
            events.wait_for(container.id(), EventKind::Delete).await?;
            let kinds = events.kinds_of(container.id());
            assert_eq!(kinds, [EventKind::Create, EventKind::Start, EventKind::Exit, EventKind::Delete]);
            assert_eq!(events.of(container.id())[2].code, 7);
            container.remove().await?;
        }
        ctd.stop().await
    }

    async fn statistics_are_the_kernels(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "spin.wasm").await?;
        let container = tandem(&ctd, &image).memory_limit(128 << 20).pids_limit(33).create().await?;
        let mut task = container.task().await?;
        task.start().await?;
        task.stdout().wait_for("spinning").await?;
        let began = Instant::now();
        let first = task.stats().await?;
        let used = 20_000_000;
        let second = deadline::within("some processor time", deadline::SOON, async {
            loop {
                let now = task.stats().await?;
                if now.cpu_ns - first.cpu_ns >= used {
                    return Result::Ok(now);
                }
                tokio::time::sleep(deadline::POLL).await;
            }
        })
        .await??;
        assert_eq!(second.memory_limit, 128 << 20);
        assert!(second.memory > 4096 && second.memory < 128 << 20, "{second:?}");
        // A spinning guest uses up to one processor, in the unit of the clock.
        let spent = second.cpu_ns - first.cpu_ns;
        assert!(u128::from(spent) <= began.elapsed().as_nanos() + 50_000_000, "{spent} ns");
        task.kill_and_delete().await?;
        container.remove().await?;
        ctd.stop().await
    }
}

//! Containers of one pod.

use tandem_integration::{Containerd, Leftover, Leftovers, NetNs, Result, TANDEM, on_both_generations};

use super::support::{import_guest, tandem, with_busybox};

async fn shims(ctd: &Containerd) -> Result<usize> {
    let found = Leftovers::of(ctd).found().await?;
    let socket = |l: &&Leftover| {
        matches!(l, Leftover::File(path) if path.parent().is_some_and(|dir| dir.ends_with("s"))
            && path.file_name().is_some_and(|name| name != "lock"))
    };
    Ok(found.iter().filter(socket).count())
}

on_both_generations! {
    async fn wasm_and_linux_containers_of_a_pod_share_one_shim_and_its_network(generation: Generation) -> Result<()> {
        let (ctd, linux) = with_busybox(generation).await?;
        let server = import_guest(&ctd, "http-hello.wasm").await?;
        let netns = NetNs::new(&ctd)?;
        let pod = tandem(&ctd, &linux).args(["sleep", "1000"]).netns(netns.path()).sandbox().create().await?;
        let mut pause = pod.task().await?;
        pause.start().await?;
        let wasm = tandem(&ctd, &server).netns(netns.path()).in_sandbox(pod.id()).create().await?;
        let mut serving = wasm.task().await?;
        serving.start().await?;
        netns.get_soon(([127, 0, 0, 1], 8080).into(), "/").await?;
        let fetch = ["wget", "-q", "-O", "-", "http://127.0.0.1:8080/"];
        let sidecar = ctd.container(&linux).runtime(TANDEM).args(fetch).netns(netns.path()).in_sandbox(pod.id());
        let output = sidecar.run_to_end().await?;
        assert_eq!(output.stdout, "hello from tandem\n", "{}", output.stderr);
        assert_eq!(shims(&ctd).await?, 1);
        // The end of one is not the others'.
        serving.kill_and_delete().await?;
        wasm.remove().await?;
        assert_eq!(pause.status().await?, tandem_integration::task::Status::Running);
        pause.kill_and_delete().await?;
        pod.remove().await?;
        ctd.stop().await
    }

    async fn eight_pods_at_once_come_and_go(generation: Generation) -> Result<()> {
        let (ctd, _) = with_busybox(generation).await?;
        let image = import_guest(&ctd, "hello.wasm").await?;
        let runs = (0..8).map(|_| tandem(&ctd, &image).run_to_end());
        let mut tasks = tokio::task::JoinSet::new();
        for run in runs {
            tasks.spawn(run);
        }
        while let Some(output) = tasks.join_next().await {
            assert_eq!(output.unwrap()?.stdout, "hello from wasm\n");
        }
        ctd.stop().await
    }
}

//! `wasi:http` guests as servers on the pod's network.

use std::{net::SocketAddr, time::Duration};

use tandem_integration::{Containerd, Generation, NetNs, Result, deadline, on_both_generations};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{import_guest, tandem, with_guest};

fn at(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// A containerd of a node whose file says this.
async fn of_node(generation: Generation, text: &str) -> Result<(Containerd, tempfile::TempDir)> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, text).unwrap();
    let ctd = Containerd::builder(generation)
        .env("TANDEM_CONFIG", &file)
        .start()
        .await?;
    Ok((ctd, dir))
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

on_both_generations! {
    async fn clients_that_stall_do_not_stop_a_server_and_the_node_says_how_long_they_may(generation: Generation) -> Result<()> {
        let limits = "[http]\nmax_connections = 30\nhandshake_timeout = 3\nheader_timeout = 3\n";
        let (ctd, _file) = of_node(generation, limits).await?;
        let image = import_guest(&ctd, "http-hello.wasm").await?;
        let netns = NetNs::new(&ctd)?;
        let container = tandem(&ctd, &image).netns(netns.path()).create().await?;
        let mut task = container.task().await?;
        task.start().await?;
        netns.get_soon(at(8080), "/").await?;
        let before = descriptors(task.pid());
        let mut stalled = Vec::new();
        for first in [&b"P"[..], b""].into_iter().cycle().take(100) {
            let mut stream = netns.connect(at(8080))?;
            stream.write_all(first).await.unwrap();
            stalled.push(stream);
        }
        assert_eq!(netns.get(at(8080), "/").await?.status.as_u16(), 200);
        assert!(descriptors(task.pid()) <= before + 35, "more connections than the node allows");
        for stream in &mut stalled {
            let end = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut [0; 16])).await;
            assert!(matches!(end, Ok(Ok(0) | Err(_))), "{end:?}");
        }
        deadline::until("the end of their descriptors", deadline::EXIT, || {
            (descriptors(task.pid()) <= before).then_some(())
        })
        .await?;
        task.kill(15).await?;
        assert_eq!(task.wait().await?.code, 0);
        task.delete().await?;
        container.remove().await?;
        ctd.stop().await
    }

    async fn a_mistake_in_the_node_s_file_fails_a_container_and_is_named(generation: Generation) -> Result<()> {
        let (ctd, file) = of_node(generation, "[http]\nmax_conections = 30\n").await?;
        let image = import_guest(&ctd, "http-hello.wasm").await?;
        let container = tandem(&ctd, &image).create().await?;
        let message = container.task().await.unwrap_err().to_string();
        assert!(message.contains("max_conections") && message.contains("config.toml"), "{message}");
        // The next shim reads it anew.
        std::fs::write(file.path().join("config.toml"), "").unwrap();
        let mut task = container.task().await?;
        task.start().await?;
        task.kill_and_delete().await?;
        container.remove().await?;
        ctd.stop().await
    }

    async fn a_component_answers_requests_on_port_8080(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "http-hello.wasm").await?;
        let netns = NetNs::new(&ctd)?;
        let container = tandem(&ctd, &image).netns(netns.path()).create().await?;
        let mut task = container.task().await?;
        task.start().await?;
        let response = netns.get_soon(at(8080), "/").await?;
        assert_eq!((response.status.as_u16(), response.text().as_str()), (200, "hello from tandem\n"));
        // A guest that traps or gives no answer costs its request, not the server.
        assert_eq!(netns.get(at(8080), "/trap").await?.status.as_u16(), 500);
        assert_eq!(netns.get(at(8080), "/none").await?.status.as_u16(), 500);
        assert_eq!(netns.get(at(8080), "/log").await?.status.as_u16(), 200);
        assert_eq!(netns.get(at(8080), "/").await?.status.as_u16(), 200);
        task.stderr().unwrap().wait_for("unreachable").await?;
        // SIGTERM drains it.
        task.kill(15).await?;
        assert_eq!(task.wait().await?.code, 0);
        task.delete().await?;
        container.remove().await?;
        ctd.stop().await
    }

    async fn the_address_is_set_by_either_variable(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "http-hello.wasm").await?;
        let netns = NetNs::new(&ctd)?;
        for (port, variable) in [(9001, "TANDEM_HTTP_ADDR"), (9002, "WASMTIME_HTTP_PROXY_SOCKET_ADDR")] {
            let container = tandem(&ctd, &image).netns(netns.path()).env(variable, &format!("127.0.0.1:{port}"));
            let container = container.create().await?;
            let mut task = container.task().await?;
            task.start().await?;
            assert_eq!(netns.get_soon(at(port), "/").await?.status.as_u16(), 200);
            task.kill_and_delete().await?;
            container.remove().await?;
        }
        ctd.stop().await
    }
}

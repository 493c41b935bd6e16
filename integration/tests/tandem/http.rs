//! `wasi:http` guests as servers on the pod's network.

use std::net::SocketAddr;

use tandem_integration::{NetNs, Result, on_both_generations};

use super::support::{tandem, with_guest};

fn at(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

on_both_generations! {
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

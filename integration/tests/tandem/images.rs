//! Where a module can be in an image, and that it is found by digest.

use tandem_integration::image::{Image, classic, index, oci_artifact, runwasi};
use tandem_integration::{Containerd, Result, deadline, guests, on_both_generations};

use super::support::{end, running, tandem};

async fn says_hello(ctd: &Containerd, image: &Image) -> Result<()> {
    let output = tandem(ctd, image).args(["hello.wasm"]).run_to_end().await?;
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (0, "hello from wasm\n"),
        "{}",
        output.stderr
    );
    Ok(())
}

/// How many sockets have the name of containerd's: its own one and one for each connection to it.
fn connections(ctd: &Containerd) -> usize {
    let name = ctd.home().socket().to_string_lossy().into_owned();
    let table = std::fs::read_to_string("/proc/net/unix").unwrap();
    table.lines().filter(|line| line.ends_with(&format!(" {name}"))).count()
}

on_both_generations! {
    async fn a_pod_that_runs_keeps_no_connection_to_containerds_images(generation: Generation) -> Result<()> {
        let ctd = Containerd::start(generation).await?;
        let image = ctd.import(&oci_artifact("example.test/spin:1", &guests::bytes("spin.wasm")?)).await?;
        let container = tandem(&ctd, &image).args(["spin.wasm"]);
        let before = connections(&ctd);
        let (container, task) = running(container).await?;
        deadline::until("the end of the connection", deadline::SOON, || (connections(&ctd) <= before).then_some(())).await?;
        end(container, &task).await?;
        ctd.stop().await
    }

    async fn a_cncf_artifact_runs(generation: Generation) -> Result<()> {
        let ctd = Containerd::start(generation).await?;
        let image = ctd.import(&oci_artifact("example.test/artifact:1", &guests::bytes("hello.wasm")?)).await?;
        says_hello(&ctd, &image).await?;
        ctd.stop().await
    }

    async fn an_image_of_runwasis_form_runs(generation: Generation) -> Result<()> {
        let ctd = Containerd::start(generation).await?;
        let image = ctd.import(&runwasi("example.test/runwasi:1", &guests::bytes("hello.wasm")?)).await?;
        says_hello(&ctd, &image).await?;
        ctd.stop().await
    }

    async fn a_component_in_a_layer_serves_its_command(generation: Generation) -> Result<()> {
        let ctd = Containerd::start(generation).await?;
        let wasm = guests::bytes("hello-component.wasm")?;
        let image = ctd.import(&oci_artifact("example.test/component:1", &wasm)).await?;
        let output = tandem(&ctd, &image).args(["app", "args", "one"]).run_to_end().await?;
        assert_eq!(output.code, 0, "{}", output.stderr);
        assert!(output.stdout.contains("one"), "{}", output.stdout);
        ctd.stop().await
    }

    async fn an_index_leads_to_its_module(generation: Generation) -> Result<()> {
        let ctd = Containerd::start(generation).await?;
        let module = runwasi("example.test/one:1", &guests::bytes("hello.wasm")?);
        let image = ctd.import(&index("example.test/index:1", [module])?).await?;
        says_hello(&ctd, &image).await?;
        ctd.stop().await
    }

    async fn a_tag_that_moved_does_not_change_what_a_container_runs(generation: Generation) -> Result<()> {
        let ctd = Containerd::start(generation).await?;
        let name = "example.test/moving:1";
        let path = "/app.wasm";
        let old = ctd.import(&classic(name, path, &guests::bytes("hello.wasm")?, [path])?).await?;
        let container = tandem(&ctd, &old).create().await?;
        ctd.import(&classic(name, path, &guests::bytes("exit7.wasm")?, [path])?).await?;
        assert_eq!(container.run_to_end().await?.stdout, "hello from wasm\n");
        container.remove().await?;
        ctd.stop().await
    }

    async fn an_export_of_a_layers_module_can_be_named(generation: Generation) -> Result<()> {
        let ctd = Containerd::start(generation).await?;
        let wasm = guests::bytes("no-start.wasm")?;
        let image = ctd.import(&oci_artifact("example.test/export:1", &wasm)).await?;
        let output = tandem(&ctd, &image).args(["app#greet"]).run_to_end().await?;
        assert_eq!((output.code, output.stdout.as_str()), (0, "hello from greet\n"), "{}", output.stderr);
        ctd.stop().await
    }
}

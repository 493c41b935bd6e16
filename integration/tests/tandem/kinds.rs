//! What can run.

use tandem_integration::{Containerd, Result, on_both_generations};

use super::support::{import_guest, tandem, with_busybox, with_guest};

on_both_generations! {
    async fn a_p1_module_prints_and_exits(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "hello.wasm").await?;
        let output = tandem(&ctd, &image).run_to_end().await?;
        assert_eq!((output.code, output.stdout.as_str()), (0, "hello from wasm\n"), "{}", output.stderr);
        ctd.stop().await
    }

    async fn a_module_in_text_form_runs(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "hello.wat").await?;
        let output = tandem(&ctd, &image).run_to_end().await?;
        assert_eq!((output.code, output.stdout.as_str()), (0, "hello from wasm\n"), "{}", output.stderr);
        ctd.stop().await
    }

    async fn modules_of_c_and_rust_run(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "echo.wasm").await?;
        let output = tandem(&ctd, &image).args(["/echo.wasm", "print", "from c"]).run_to_end().await?;
        assert_eq!((output.code, output.stdout.trim()), (0, "from c"), "{}", output.stderr);
        let image = import_guest(&ctd, "tool.wasm").await?;
        let output = tandem(&ctd, &image).args(["/tool.wasm", "exit", "5"]).run_to_end().await?;
        assert_eq!(output.code, 5, "{}", output.stderr);
        ctd.stop().await
    }

    async fn a_command_component_runs(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "hello-component.wasm").await?;
        let output = tandem(&ctd, &image).args(["/hello-component.wasm", "args", "one", "two"]).run_to_end().await?;
        assert_eq!(output.code, 0, "{}", output.stderr);
        assert!(output.stdout.contains("one") && output.stdout.contains("two"), "{}", output.stdout);
        ctd.stop().await
    }

    async fn an_export_is_called_by_path_and_function(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "no-start.wasm").await?;
        let output = tandem(&ctd, &image).args(["/no-start.wasm#greet"]).run_to_end().await?;
        assert_eq!((output.code, output.stdout.as_str()), (0, "hello from greet\n"), "{}", output.stderr);
        ctd.stop().await
    }

    async fn a_linux_container_runs_beside_it(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        let wasm = import_guest(&ctd, "hello.wasm").await?;
        let script = "echo hello; echo trouble >&2; exit 3";
        let output = tandem(&ctd, &image).args(["sh", "-c", script]).run_to_end().await?;
        assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (3, "hello\n", "trouble\n"));
        assert_eq!(tandem(&ctd, &wasm).run_to_end().await?.code, 0);
        ctd.stop().await
    }

    async fn a_module_in_a_volume_runs(generation: Generation) -> Result<()> {
        let ctd: Containerd;
        let image;
        (ctd, image) = with_busybox(generation).await?;
        let dir = ctd.home().dir.join("volume");
        std::fs::create_dir(&dir).unwrap();
        std::fs::copy(tandem_integration::guests::path("hello.wasm")?, dir.join("hello.wasm")).unwrap();
        let output = tandem(&ctd, &image).bind(&dir, "/mnt", false).args(["/mnt/hello.wasm"]).run_to_end().await?;
        assert_eq!((output.code, output.stdout.as_str()), (0, "hello from wasm\n"), "{}", output.stderr);
        ctd.stop().await
    }
}

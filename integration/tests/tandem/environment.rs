//! What of the spec a guest sees: arguments, environment, working directory, files, standard input.

use tandem_integration::{Result, on_both_generations};

use super::support::{import_guest, tandem, with_guest};

on_both_generations! {
    async fn arguments_and_environment_reach_the_guest(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "echo.wasm").await?;
        let output = tandem(&ctd, &image).env("COLOR", "blue").cwd("/tmp");
        let output = output.args(["/echo.wasm", "env", "+", "args", "a", "b c"]).run_to_end().await?;
        assert_eq!(output.code, 0, "{}", output.stderr);
        for part in ["COLOR=blue", "PWD=/tmp", "b c"] {
            assert!(output.stdout.contains(part), "{part} is not in {}", output.stdout);
        }
        ctd.stop().await
    }

    async fn files_of_the_image_and_of_mounts_are_visible_as_the_spec_says(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "echo.wasm").await?;
        let dir = ctd.home().dir.join("volume");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("in"), "from the host").unwrap();
        let run = |args: &[&str], writable: bool| {
            let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
            tandem(&ctd, &image).bind(&dir, "/data", writable).args(args).run_to_end()
        };
        let read = run(&["/echo.wasm", "cat", "/data/in"], false).await?;
        assert_eq!(read.stdout.trim(), "from the host", "{}", read.stderr);
        let refused = run(&["/echo.wasm", "write", "/data/out", "x"], false).await?;
        assert!(refused.code != 0 && !dir.join("out").exists(), "{}", refused.stderr);
        let written = run(&["/echo.wasm", "write", "/data/out", "x"], true).await?;
        assert_eq!(written.code, 0, "{}", written.stderr);
        assert!(std::fs::read_to_string(dir.join("out")).unwrap().starts_with('x'));
        ctd.stop().await
    }

    async fn a_read_only_root_is_read_only_and_its_volumes_are_not(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "echo.wasm").await?;
        let dir = ctd.home().dir.join("volume");
        std::fs::create_dir(&dir).unwrap();
        let container = || tandem(&ctd, &image).readonly_rootfs().bind(&dir, "/data", true);
        let refused = container().args(["/echo.wasm", "write", "/x", "x"]).run_to_end().await?;
        assert_ne!(refused.code, 0);
        let written = container().args(["/echo.wasm", "write", "/data/x", "x"]).run_to_end().await?;
        assert_eq!(written.code, 0, "{}", written.stderr);
        let root = tandem(&ctd, &image).args(["/echo.wasm", "write", "/x", "x"]).run_to_end().await?;
        assert_eq!(root.code, 0, "{}", root.stderr);
        ctd.stop().await
    }

    async fn standard_input_reaches_the_guest_and_ends(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "echo.wasm").await?;
        let container = tandem(&ctd, &image).args(["/echo.wasm", "stdin"]).stdin("first\n").create().await?;
        let mut task = container.task().await?;
        task.start().await?;
        if let Some(stdin) = task.stdin() {
            stdin.write(b"second\n").await?;
        }
        task.close_stdin().await?;
        assert_eq!(task.wait().await?.code, 0);
        task.delete().await?;
        let text = task.stdout().text();
        assert!(text.contains("first") && text.contains("second"), "{text}");
        container.remove().await?;
        ctd.stop().await
    }

    async fn a_component_sees_the_same(generation: Generation) -> Result<()> {
        let (ctd, _) = with_guest(generation, "hello.wasm").await?;
        let image = import_guest(&ctd, "hello-component.wasm").await?;
        let output = tandem(&ctd, &image).env("COLOR", "green").args(["/hello-component.wasm", "env"]).run_to_end().await?;
        assert_eq!(output.code, 0, "{}", output.stderr);
        assert!(output.stdout.contains("COLOR") && output.stdout.contains("green"), "{}", output.stdout);
        ctd.stop().await
    }
}

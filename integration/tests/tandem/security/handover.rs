//! Labels of security modules: refused by name where the node has no such module, and, for Wasm, what carries them:
//! the shim's binary executing a guest that it inherits.

use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use serde_json::json;
use tandem_integration::{Code, Result, guests, on_both_generations};

use super::Both;

fn node_has(file: &str) -> bool {
    std::path::Path::new(file).exists()
}

on_both_generations! {
    async fn a_label_without_its_module_is_refused_and_named(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        for (key, value, module) in [
            ("apparmorProfile", "cri-containerd.apparmor.d", "/sys/module/apparmor"),
            ("selinuxLabel", "system_u:system_r:container_t:s0:c1,c2", "/sys/fs/selinux/enforce"),
        ] {
            if node_has(module) {
                continue;
            }
            for builder in both.waiting() {
                let container = builder.edit(|spec| spec["process"][key] = value.into()).create().await?;
                let error = container.task().await.unwrap_err();
                assert_eq!(error.code(), Some(Code::FailedPrecondition), "{error}");
                assert!(error.message().contains(value), "{error}");
                container.remove().await?;
            }
        }
        both.stop().await
    }

    async fn labels_of_mounts_are_left_out_without_selinux(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        if !node_has("/sys/fs/selinux/enforce") {
            let label = "system_u:object_r:container_file_t:s0:c1,c2";
            both.each(|b| b.edit(|spec| spec["linux"]["mountLabel"] = label.into()), |_| {}).await?;
        }
        both.stop().await
    }
}

/// Compiles a guest by running it once, and answers the cache's entry of it.
async fn compiled(guest: &str) -> Result<(tempfile::TempDir, std::fs::File, String)> {
    use sha2::{Digest, Sha256};
    let cache = tempfile::tempdir().unwrap();
    let ctd = tandem_integration::setup::ContainerdBuilder::cache(
        tandem_integration::Containerd::builder(tandem_integration::Generation::V1),
        cache.path().join("a"),
    )
    .start()
    .await?;
    let image = super::import_guest(&ctd, guest).await?;
    super::tandem(&ctd, &image).run_to_end().await?;
    ctd.stop().await?;
    let hash = Sha256::digest(guests::bytes(guest)?);
    let digest: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let entries = std::fs::read_dir(cache.path().join("a")).unwrap().flatten();
    let entry = entries.map(|entry| entry.path()).find(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(&digest) && name.ends_with(".cwasm")
    });
    let code = std::fs::File::open(entry.unwrap()).unwrap();
    Ok((cache, code, format!("sha256:{digest}")))
}

/// Executes the binary as the confined process would, with `job` and the code at the numbers it expects.
fn handed_over(code: &std::fs::File, job: &serde_json::Value) -> std::process::Output {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, job.to_string().as_bytes()).unwrap();
    let shim = std::env::var_os("TANDEM_SHIM").unwrap_or_else(|| "target/release/containerd-shim-tandem-v1".into());
    // The line to the runtime: that it closes without a word tells that the guest runs.
    let (_runtime, line) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let (code, job, line) = (code.as_raw_fd(), file.as_raw_fd(), line.as_raw_fd());
    let mut command = Command::new(std::path::absolute(shim).unwrap());
    command.arg0("tandem-guest").env_clear();
    // SAFETY: only dup2 between fork and exec, with copies first, so that neither overwrites the other.
    unsafe {
        command.pre_exec(move || {
            let [code, job, line] = [code, job, line].map(|fd| libc::fcntl(fd, libc::F_DUPFD, 64));
            if libc::dup2(code, 3) < 0 || libc::dup2(job, 4) < 0 || libc::dup2(line, 6) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    command.output().unwrap()
}

fn job(digest: &str, component: bool, args: &[&str]) -> serde_json::Value {
    json!({
        "job": {
            "name": "/guest.wasm", "export": null, "component": component, "digest": digest, "http_port": 8080,
            "args": args, "env": [["K", "v"]], "cwd": "/tmp",
        },
        "waiting": null,
        "limits": [],
    })
}

#[tokio::test]
async fn the_binary_runs_a_guest_that_it_inherits() -> Result<()> {
    let (_cache, code, digest) = compiled("echo.wasm").await?;
    let output = handed_over(&code, &job(&digest, false, &["/guest.wasm", "env", "+", "exit", "7"]));
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("K=v") && stdout.contains("PWD=/tmp"), "{stdout}");
    Ok(())
}

#[tokio::test]
async fn the_binary_runs_a_component_that_it_inherits() -> Result<()> {
    let (_cache, code, digest) = compiled("hello-component.wasm").await?;
    let output = handed_over(&code, &job(&digest, true, &["/guest.wasm"]));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(!output.stdout.is_empty());
    Ok(())
}

#[tokio::test]
async fn the_binary_refuses_what_is_not_compiled_code() -> Result<()> {
    let (_cache, _, digest) = compiled("echo.wasm").await?;
    let wrong = std::fs::File::open("/bin/busybox").unwrap();
    let output = handed_over(&wrong, &job(&digest, false, &["x"]));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    Ok(())
}

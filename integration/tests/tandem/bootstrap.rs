//! The binary as containerd executes it, where that does not go as it should.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use nix::sys::resource::{Resource, setrlimit};
use serde_json::json;
use tandem_integration::{Containerd, Result, generation, on_both_generations};

use super::security::Both;
use super::support::{WAITING, end, running, tandem, with_tools};

/// Source: capabilities(7) and linux/capability.h.
const CAP_DAC_OVERRIDE: libc::c_ulong = 1;
const CAP_SYS_ADMIN: libc::c_ulong = 21;

/// Takes a capability from what this process executes.
fn without(capability: libc::c_ulong) -> std::io::Result<()> {
    // SAFETY: plain numbers.
    let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability) };
    Ok(nix::errno::Errno::result(result).map(drop)?)
}

/// `start` for a container of the pod `sandbox`, in a bundle of its own, after `before` in the new process.
fn start(
    ctd: &Containerd,
    bundle: &Path,
    sandbox: &str,
    before: impl FnMut() -> std::io::Result<()> + Send + Sync + 'static,
) -> Output {
    let spec = json!({ "annotations": { "io.kubernetes.cri.sandbox-id": sandbox } });
    std::fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
    let socket = ctd.home().socket();
    let mut command = Command::new(std::path::absolute(generation::tandem_shim()).unwrap());
    command
        .args(["-namespace", ctd.session().namespace(), "-id", "another", "-address"])
        .arg(&socket)
        .arg("start")
        .current_dir(bundle)
        .env_clear()
        .env("TTRPC_ADDRESS", format!("{}.ttrpc", socket.display()))
        .env("TANDEM_RUN_DIR", ctd.home().shim_run())
        .env("TANDEM_CACHE_DIR", ctd.home().dir.join("a"))
        .stdin(std::process::Stdio::null());
    // SAFETY: the callers' functions make one or two system calls.
    unsafe { command.pre_exec(before) };
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

on_both_generations! {
    async fn a_live_shim_that_cannot_be_reached_is_not_taken_for_dead(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let pod = tandem(&ctd, &image).args(WAITING[1].iter().copied()).sandbox();
        let (container, task) = running(pod).await?;
        let address = ctd.home().bundle(ctd.session().namespace(), container.id()).join("address");
        let address = std::fs::read_to_string(address).unwrap();
        let bundle = tempfile::tempdir().unwrap();
        let mut refused = 0;
        for descriptors in 3..=16 {
            let few = move || Ok(setrlimit(Resource::RLIMIT_NOFILE, descriptors, descriptors)?);
            let output = start(&ctd, bundle.path(), container.id(), few);
            let said = said(&output);
            if output.status.success() {
                assert_eq!(said, address, "with {descriptors} descriptors");
            } else {
                assert!(said.contains("Too many open files") || said.contains("EMFILE"), "{said}");
                refused += 1;
            }
            // It still answers where containerd looks for it.
            let exec = task.exec(["true"]).run().await?;
            assert_eq!(exec.code, 0, "after a start with {descriptors} descriptors");
            let socket = address.strip_prefix("unix://").unwrap();
            std::os::unix::net::UnixStream::connect(socket).unwrap();
        }
        assert!((1..14).contains(&refused), "{refused}");
        // A refusal that says nothing of the shim: its socket is not to be opened by this process.
        let socket = Path::new(address.strip_prefix("unix://").unwrap());
        std::os::unix::fs::chown(socket, Some(1), None).unwrap();
        let output = start(&ctd, bundle.path(), container.id(), || without(CAP_DAC_OVERRIDE));
        std::os::unix::fs::chown(socket, Some(0), None).unwrap();
        let said = said(&output);
        assert!(!output.status.success() && said.contains("Permission denied"), "{said}");
        assert!(task.exec(["true"]).run().await?.code == 0);
        std::os::unix::net::UnixStream::connect(socket).unwrap();
        end(container, &task).await?;
        ctd.stop().await
    }

    async fn where_its_binary_cannot_be_protected_the_shim_does_not_start(generation: Generation) -> Result<()> {
        let ctd = Containerd::start(generation).await?;
        let bundle = tempfile::tempdir().unwrap();
        let output = start(&ctd, bundle.path(), "pod", || without(CAP_SYS_ADMIN));
        let said = said(&output);
        assert!(!output.status.success(), "{said}");
        for part in ["overwrite its binary", "CAP_SYS_ADMIN", "Linux 5.12"] {
            assert!(said.contains(part), "{said}");
        }
        assert!(!bundle.path().join("address").exists());
        ctd.stop().await
    }

    /// The limit is the container's, and what makes the container must not need more.
    async fn a_container_of_eight_descriptors_runs(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        let few = json!([{ "type": "RLIMIT_NOFILE", "hard": 8, "soft": 8 }]);
        both.each(
            |builder| builder.edit(|spec| spec["process"]["rlimits"] = few.clone()),
            |seen| {
                let limits = seen.proc("limits");
                let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
                // A guest's engine needs some itself.
                let set: Vec<_> = line.split_whitespace().skip(3).take(2).collect();
                assert!([["8", "8"], ["24", "24"]].iter().any(|expected| set == expected), "{limits}");
            },
        )
        .await?;
        both.stop().await
    }
}

//! Where the shim itself runs.

use std::fs;

use prost_types::Any;
use tandem_integration::{Result, on_both_generations};

use super::shim::Shim;
use super::support::{tandem, with_guest};

/// `containerd.runc.v1.Options` with its field 3, `shim_cgroup`.
fn shim_cgroup(name: &str) -> Any {
    let mut value = vec![0x1a, u8::try_from(name.len()).unwrap()];
    value.extend(name.bytes());
    Any {
        type_url: "containerd.runc.v1.Options".into(),
        value,
    }
}

fn score(pid: u32) -> i32 {
    let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    text.trim().parse().unwrap()
}

/// Removes the cgroup of that name from every hierarchy.
fn remove_cgroup(name: &str) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    for line in mounts.lines().filter(|line| line.contains(" - cgroup")) {
        let point = line.split(' ').nth(4).unwrap();
        let _ = fs::remove_dir(format!("{point}{name}"));
    }
}

on_both_generations! {
    async fn containerd_outlives_its_shims_when_memory_is_short(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "spin.wasm").await?;
        let container = tandem(&ctd, &image).create().await?;
        let mut task = container.task().await?;
        task.start().await?;
        let expected = (score(ctd.pid().unwrap()) + 1).min(1000);
        for pid in Shim::of(&task).both() {
            assert_eq!(score(pid.unsigned_abs()), expected);
        }
        task.kill_and_delete().await?;
        container.remove().await?;
        ctd.stop().await
    }

    async fn shims_run_in_the_cgroup_that_the_node_gives_them(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "spin.wasm").await?;
        let name = format!("/tandem-shims-{}-{generation:?}", std::process::id());
        let container = tandem(&ctd, &image).runtime_options(shim_cgroup(&name)).create().await?;
        let mut task = container.task().await?;
        task.start().await?;
        for pid in Shim::of(&task).both() {
            let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
            assert!(cgroups.lines().any(|line| line.ends_with(&name)), "{cgroups}");
        }
        let guest = fs::read_to_string(format!("/proc/{}/cgroup", task.pid())).unwrap();
        assert!(!guest.contains(&name), "{guest}");
        task.kill_and_delete().await?;
        container.remove().await?;
        ctd.stop().await?;
        remove_cgroup(&name);
        Ok(())
    }
}

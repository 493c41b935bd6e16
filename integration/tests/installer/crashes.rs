//! The installer killed at every change it makes. Whatever the point: containerd starts with all its old runtimes,
//! pods run on, the next run reaches the goal, and the uninstall gives back every byte.

use std::{fs, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tandem_integration::{Containerd, Result, on_both_generations};
use tokio::time::sleep;

use super::{
    cri::Pod,
    node::{Node, PAUSE},
    trace::{End, kill_at},
};

/// More changes than an operation makes: a loop that gets here has lost its end.
const MANY: u32 = 400;

impl Node {
    /// Runs the installer and kills it at its n-th change.
    async fn run_killed_at(&mut self, args: &[&str], n: u32) -> End {
        let mut command = self.command(args);
        let traced = tokio::task::spawn_blocking(move || kill_at(&mut command, n));
        tokio::pin!(traced);
        loop {
            tokio::select! {
                end = &mut traced => return end.unwrap(),
                () = sleep(Duration::from_millis(5)) => self.serve_restart().await,
            }
        }
    }

    /// containerd must come up with what is on disk now, with every runtime that was there, and with the pod.
    async fn require_sound(&mut self, pod: &Pod, pid: i64, when: &str) {
        let _ = fs::remove_file(self.dir().join("restarted"));
        if let Err(error) = self.ctd.restart().await {
            panic!("{when}: {error}");
        }
        assert!(self.cri.handlers().await.contains(&"runc".to_owned()), "{when}");
        assert_eq!(
            self.cri.pid(pod).await,
            Some(pid),
            "{when}: the pod does not run any more"
        );
    }
}

on_both_generations! {
    async fn a_killed_installer_leaves_a_sound_node_and_the_next_run_converges(generation: Generation) -> Result<()> {
        let mut node = Node::start(generation).await?;
        let pod = node.cri.run("", "witness", PAUSE, &[]).await;
        let pid = node.cri.pid(&pod).await.unwrap();
        let before = node.tree();
        let (mut installed, mut removed) = (false, false);
        let mut n = 0;
        while !(installed && removed) {
            n += 1;
            assert!(n < MANY);
            if !installed {
                installed = node.run_killed_at(&["install"], n).await == End::Exited(0);
                node.require_sound(&pod, pid, &format!("install killed at change {n}")).await;
            }
            node.success(&["install"]).await;
            assert_eq!(node.cri.handlers().await, ["runc", "tandem"], "after change {n}");
            if !removed {
                removed = node.run_killed_at(&["uninstall"], n).await == End::Exited(0);
                node.require_sound(&pod, pid, &format!("uninstall killed at change {n}")).await;
            }
            node.success(&["uninstall"]).await;
            assert_eq!(node.tree(), before, "after change {n}");
        }
        println!("killed at each of {n} changes");
        assert!(n > 50, "an installation is more than {n} changes");
        node.cri.remove(pod).await;
        node.ctd.stop().await
    }

    async fn what_the_restart_of_a_killed_installer_ended_is_found_by_the_next_run(generation: Generation) -> Result<()> {
        let mut node = Node::start(generation).await?;
        let before = node.tree();
        let [lost, kept] = [node.cri.run("", "lost", PAUSE, &[]).await, node.cri.run("", "kept", PAUSE, &[]).await];
        let pid = node.cri.pid(&lost).await.unwrap();
        let mut first = node.command(&["install"]).spawn().unwrap();
        while !node.dir().join("restart").exists() {
            sleep(Duration::from_millis(5)).await;
        }
        first.kill().unwrap();
        first.wait().unwrap();
        // A restart that takes a container along, as one does whose unit ends all that is in its control group.
        kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
        node.serve_restart().await;
        while node.dir().join("restarted").exists() {
            sleep(Duration::from_millis(5)).await;
        }
        let said = node.failure(&["install"]).await;
        assert!(said.contains("verification failed at containers") && said.contains(&lost.container), "{said}");
        assert!(!said.contains(&kept.container), "{said}");
        assert_eq!(node.cri.handlers().await, ["runc"], "the installation was undone");
        // It was told; the next run begins anew.
        node.success(&["install"]).await;
        node.success(&["uninstall"]).await;
        assert_eq!(node.tree(), before);
        for pod in [lost, kept] {
            node.cri.remove(pod).await;
        }
        Containerd::stop(node.ctd).await
    }

    async fn an_installer_killed_while_containerd_restarts_is_continued(generation: Generation) -> Result<()> {
        let mut node = Node::start(generation).await?;
        let mut first = node.command(&["install"]).spawn().unwrap();
        while !node.dir().join("restart").exists() {
            sleep(Duration::from_millis(5)).await;
        }
        first.kill().unwrap();
        first.wait().unwrap();
        node.serve_restart().await;
        while node.dir().join("restarted").exists() {
            sleep(Duration::from_millis(5)).await;
        }
        let restarts = node.restarts;
        node.success(&["install"]).await;
        assert_eq!(node.restarts, restarts, "the restart was done, so it is not done again");
        node.success(&["uninstall"]).await;
        Containerd::stop(node.ctd).await
    }
}

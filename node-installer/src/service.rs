//! Makes containerd read its configuration again.

use std::{path::Path, time::Duration};

use tracing::info;

use crate::{
    cri::Cri,
    detect::RestartBy,
    error::{Error, Result},
    host::Host,
};

/// A k3s server restarts its control plane along with containerd.
const RESTART: Duration = Duration::from_secs(300);
/// How long to wait for containers that are being created to be started first.
const CALM: Duration = Duration::from_secs(20);
/// How long the runtime may take to be ready afterwards: with a thousand pods containerd loads for a while.
pub const READY: Duration = Duration::from_secs(180);
/// The longest time from the list of running containers to a runtime that is ready again.
pub const LONGEST: Duration = CALM.saturating_add(RESTART).saturating_add(READY);

/// What a restart came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restarted {
    /// containerd has read its configuration, or will by itself.
    Done,
    /// The operator must restart it.
    Awaited(&'static str),
}

/// Restarts containerd and waits until its runtime is ready again. Containers live on: containerd's unit, and those of
/// the distributions that ship their own, end the daemon alone (`KillMode=process`).
///
/// # Errors
/// Where the service manager refuses or containerd does not come up.
pub async fn restart(host: &Host, how: &RestartBy, cri: &Cri) -> Result<Restarted> {
    let run = |program: &'static str, args: Vec<String>| async move {
        cri.wait_calm(CALM).await;
        info!("restarting containerd: {how}");
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        host.run(Path::new(program), &args, RESTART).await?.success()
    };
    match how {
        RestartBy::Unit(unit) => {
            require_process_kill_mode(host, unit).await?;
            run("systemctl", vec!["restart".into(), unit.clone()]).await?;
        }
        RestartBy::Command(command) => {
            run("/bin/sh", vec!["-c".into(), command.clone()]).await?;
        }
        RestartBy::ByItself => {}
        RestartBy::Operator(what) => return Ok(Restarted::Awaited(what)),
    }
    cri.wait_ready(READY).await?;
    Ok(Restarted::Done)
}

/// A unit that ends every process of its control group would end all pods of the node. Nobody ships such a unit; an
/// override can still make one.
async fn require_process_kill_mode(host: &Host, unit: &str) -> Result<()> {
    let args = ["show", "--property=KillMode", "--value", unit];
    let mode = host
        .run(Path::new("systemctl"), &args, Duration::from_secs(30))
        .await?
        .success()?;
    match mode.trim() {
        "process" | "none" => Ok(()),
        mode => Err(Error::Refused {
            host: unit.into(),
            why: format!("its KillMode is {mode:?}, so that a restart would end every pod of the node"),
            instead: format!("set KillMode=process with `systemctl edit {unit}`, and install again"),
        }),
    }
}

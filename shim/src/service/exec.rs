//! Exec: further processes in a container, registered by the Exec call and run by Start.

use std::sync::Arc;

use containerd_shim_protos::api::ExecProcessRequest;
use containerd_shim_protos::events::task::TaskExecAdded;
use containerd_shim_protos::topics;
use oci_spec::runtime::Process as ProcessSpec;

use super::container::{Container, Exit, Status};
use super::lifecycle::{not_in, signal_number};
use super::process::{Exec, ExecStart};
use super::reservation::ExecClaim;
use super::state::Target;
use super::{Service, blocking};
use crate::bundle::Bundle;
use crate::cli::check_name;
use crate::fault::{Fault, Result};
use crate::stdio::{self, Relay, StreamNames, StreamOwner};
use crate::zygote::wire::{self, Request};

impl Service {
    /// Registers a process; nothing runs before Start.
    pub(super) fn add_exec(&self, request: ExecProcessRequest) -> Result<()> {
        let (id, exec_id) = (request.id.as_str(), request.exec_id.as_str());
        check_name("exec id", exec_id)?;
        let process = parse(&request.spec.value)?;
        let mut state = self.state.lock();
        let container = state.container_mut(id)?;
        runs(id, container)?;
        if container.execs.contains_key(exec_id) {
            return Err(Fault::exists(format!(
                "process {exec_id} exists already in container {id}"
            )));
        }
        let names = StreamNames {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal || process.terminal().unwrap_or(false),
        };
        let exec = Exec::new(names, request.spec.value.clone());
        container.execs.insert(exec_id.to_owned(), exec);
        self.state.events().publish(
            topics::TASK_EXEC_ADDED_EVENT_TOPIC,
            &TaskExecAdded {
                container_id: id.to_owned(),
                exec_id: exec_id.to_owned(),
                ..Default::default()
            },
        );
        Ok(())
    }

    /// Runs a registered process; answers its pid. After a failure it is registered still.
    pub(super) async fn start_exec(&self, id: &str, exec_id: &str) -> Result<u32> {
        let (claim, context) = self.begin_exec(id, exec_id)?;
        self.run_exec(id, exec_id, context).await?;
        claim.started()
    }

    fn begin_exec(&self, id: &str, exec_id: &str) -> Result<(ExecClaim, ExecContext)> {
        let mut state = self.state.lock();
        let container = state.container_mut(id)?;
        let init = runs(id, container)?;
        let bundle = Arc::clone(&container.bundle);
        let exec = container.exec_mut(exec_id)?;
        if exec.start != ExecStart::NotAsked {
            return Err(Fault::precondition(format!(
                "process {exec_id} of container {id} was started already"
            )));
        }
        exec.start = ExecStart::Preparing;
        let context = ExecContext {
            init,
            bundle,
            spec: exec.spec.clone(),
            names: exec.process.names.clone(),
        };
        Ok((ExecClaim::new(&self.state, id, exec_id), context))
    }

    async fn run_exec(&self, id: &str, exec_id: &str, context: ExecContext) -> Result<()> {
        let process = parse(&context.spec)?;
        let owner = StreamOwner {
            namespace: Arc::clone(&self.namespace),
            id: exec_id.to_owned(),
            uid: match context.bundle.has_user_namespace() {
                true => 0,
                false => process.user().uid(),
            },
            ends_with_process: true,
        };
        let (names, init) = (context.names, context.init);
        let section = wire::carry(&section_of(process, &names)?)?;
        // On a thread that may wait: where the output goes may hang.
        let opened = blocking::run(move || stdio::open(&names, &owner)).await??;
        let (streams, mut relay) = opened;
        relay.ready().await?;
        let exec = wire::Exec {
            id: id.to_owned(),
            init,
            bundle: context.bundle.path().to_owned(),
            http_limits: self.config.http.clone(),
        };
        let target = Target::Exec {
            container: id.to_owned(),
            exec_id: exec_id.to_owned(),
        };
        let request = |op| Request::Exec { op, exec };
        self.begin_hand_over(id, exec_id, relay)?;
        self.make_process(target, request, Some(&section), streams.as_ref())
            .await
    }

    /// The container may have ended, or been paused, while files were opened. From here on its end waits for the exec's.
    fn begin_hand_over(&self, id: &str, exec_id: &str, relay: Relay) -> Result<()> {
        let mut state = self.state.lock();
        let container = state.container_mut(id)?;
        runs(id, container)?;
        let exec = container.exec_mut(exec_id)?;
        exec.process.relay = relay;
        exec.start = ExecStart::HandedOver;
        Ok(())
    }

    /// Sends a signal to the process, and to none of its container's others.
    pub(super) async fn kill_exec(&self, id: &str, exec_id: &str, signal: u32) -> Result<()> {
        let signal = signal_number(signal)?;
        let pid = {
            let state = self.state.lock();
            match state.container(id)?.exec(exec_id)?.process.status() {
                Status::Created { pid } | Status::Running { pid } => pid,
                Status::Creating => {
                    return Err(Fault::precondition(format!(
                        "process {exec_id} of container {id} is not running"
                    )));
                }
                Status::Stopped { .. } => {
                    return Err(Fault::not_found(format!(
                        "process {exec_id} of container {id} already finished"
                    )));
                }
            }
        };
        let request = |op| Request::Kill { op, pid, signal };
        self.zygote.ask(None, request, &[]).await
    }

    /// Forgets a process that has ended or never ran; answers its pid and end.
    pub(super) async fn delete_exec(&self, id: &str, exec_id: &str) -> Result<(i32, Option<Exit>)> {
        let exec = {
            let mut state = self.state.lock();
            let container = state.container_mut(id)?;
            let exec = container.exec(exec_id)?;
            if exec.start == ExecStart::HandedOver || exec.process.living_pid().is_some() {
                return Err(Fault::precondition(format!(
                    "process {exec_id} of container {id} is running: kill it first"
                )));
            }
            container.execs.remove(exec_id)
        };
        let Some(exec) = exec else { return Ok((0, None)) };
        let status = exec.process.status();
        exec.process.relay.finish().await;
        Ok((status.pid().unwrap_or(0), status.exit()))
    }
}

/// What a Start needs to know of an exec and its container.
struct ExecContext {
    init: i32,
    bundle: Arc<Bundle>,
    spec: Vec<u8>,
    names: StreamNames,
}

/// The process section as the zygote takes it: whether it has a terminal is the call's to say.
fn section_of(mut process: ProcessSpec, names: &StreamNames) -> Result<Vec<u8>> {
    process.set_terminal(Some(names.terminal));
    serde_json::to_vec(&process).map_err(|error| Fault::internal(format!("cannot pass the process on: {error}")))
}

/// Pid of the first process of a container in which something can be executed: one that is created or runs.
fn runs(id: &str, container: &Container) -> Result<i32> {
    if container.paused {
        return Err(Fault::precondition(format!(
            "container {id} is paused: resume it first"
        )));
    }
    container
        .living_pid()
        .ok_or_else(|| not_in(id, "running", container.status()))
}

/// Checks the process section of an OCI spec. Source: runc `validateProcessSpec`.
fn parse(json: &[u8]) -> Result<ProcessSpec> {
    let process: ProcessSpec = serde_json::from_slice(json)
        .map_err(|error| Fault::invalid(format!("the process is not a valid OCI process: {error}")))?;
    if !process.cwd().is_absolute() {
        return Err(Fault::invalid(format!(
            "process.cwd \"{}\" is not an absolute path",
            process.cwd().display()
        )));
    }
    let args = process.args().as_deref().unwrap_or_default();
    if args.first().is_none_or(String::is_empty) {
        return Err(Fault::invalid("process.args is empty: name a command to execute"));
    }
    Ok(process)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_needs_a_command_and_an_absolute_directory() {
        let json = |cwd: &str, args: &str| {
            format!(r#"{{"user":{{"uid":0,"gid":0}},"cwd":"{cwd}","args":{args}}}"#).into_bytes()
        };
        assert!(parse(&json("/", r#"["sh"]"#)).is_ok());
        assert!(parse(&json("", r#"["sh"]"#)).unwrap_err().message.contains("cwd"));
        for args in ["[]", r#"[""]"#] {
            assert!(parse(&json("/", args)).unwrap_err().message.contains("args"));
        }
        assert!(parse(b"").unwrap_err().message.contains("OCI process"));
    }
}

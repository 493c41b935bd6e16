//! A further process in a container that runs: what `kubectl exec` and `ctr task exec` do.

use containerd_client::services::v1::{
    CloseIoRequest, DeleteProcessRequest, ExecProcessRequest, GetContainerRequest, GetRequest, KillRequest,
    ResizePtyRequest, StartRequest, WaitRequest,
};
use containerd_client::types::v1::{Process, Status};
use prost_types::Any;
use serde_json::{Value, json};

use crate::{
    Error, Output, Result, deadline,
    session::Session,
    stdio::{InputPipe, OutputPipe, Pipes},
    task::{Exit, time},
};

/// Type of a process section in a request. Source: containerd's typeurl registration.
const PROCESS: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

/// A process to be: the container's own process section with another command, as containerd's clients make it.
#[derive(Debug)]
pub struct ExecBuilder {
    session: Session,
    container: String,
    id: String,
    args: Vec<String>,
    edits: Vec<(String, Value)>,
    env: Vec<String>,
    tty: bool,
    stdin: Option<Vec<u8>>,
    stdout: Option<String>,
}

impl ExecBuilder {
    pub(crate) fn new(session: Session, container: &str, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            id: session.home().unique("x"),
            session,
            container: container.to_owned(),
            args: args.into_iter().map(Into::into).collect(),
            edits: Vec::new(),
            env: Vec::new(),
            tty: false,
            stdin: None,
            stdout: None,
        }
    }

    /// Has this name instead of a unique one.
    pub fn id(mut self, id: &str) -> Self {
        self.id = id.into();
        self
    }

    /// Replaces a field of the process section.
    pub fn field(mut self, name: &str, value: Value) -> Self {
        self.edits.push((name.into(), value));
        self
    }

    /// Adds to the container's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push(format!("{name}={value}"));
        self
    }

    /// The working directory.
    pub fn cwd(self, dir: &str) -> Self {
        self.field("cwd", dir.into())
    }

    /// User, group and further groups.
    pub fn user(self, uid: u32, gid: u32, groups: &[u32]) -> Self {
        self.field("user", json!({ "uid": uid, "gid": gid, "additionalGids": groups }))
    }

    /// Has a terminal.
    pub fn tty(mut self) -> Self {
        self.tty = true;
        self
    }

    /// Has this as its standard input; without this call it has none.
    pub fn stdin(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(data.into());
        self
    }

    /// Has this URI as its standard output.
    pub fn stdout(mut self, uri: &str) -> Self {
        self.stdout = Some(uri.into());
        self
    }

    /// Registers the process; it does not run before [`Exec::start`].
    ///
    /// # Errors
    /// The runtime's refusal.
    pub async fn add(self) -> Result<Exec> {
        let Self { session, container, .. } = self;
        let request = session.request(GetContainerRequest { id: container.clone() });
        let mut containers = session.client().containers();
        let call = containers.get(request);
        let record = session.call("containers.Get", &container, call).await?.container;
        let spec = record.and_then(|record| record.spec).unwrap_or_default();
        let spec: Value = serde_json::from_slice(&spec.value)
            .map_err(|error| Error::Setup(format!("spec of {container:?}: {error}")))?;
        let mut process = spec["process"].clone();
        process["args"] = json!(self.args);
        process["terminal"] = self.tty.into();
        if let Some(env) = process["env"].as_array_mut() {
            env.extend(self.env.into_iter().map(Value::from));
        }
        for (name, value) in self.edits {
            process[name] = value;
        }
        let pipes = Pipes::new(&session, self.tty, self.stdin).await?;
        let names = pipes.names();
        let request = session.request(ExecProcessRequest {
            container_id: container.clone(),
            exec_id: self.id.clone(),
            terminal: self.tty,
            stdin: names.stdin,
            stdout: self.stdout.unwrap_or(names.stdout),
            stderr: names.stderr,
            spec: Some(Any {
                type_url: PROCESS.into(),
                value: process.to_string().into_bytes(),
            }),
        });
        let mut tasks = session.client().tasks();
        let call = tasks.exec(request);
        session.call("tasks.Exec", &self.id, call).await?;
        Ok(Exec {
            session,
            container,
            id: self.id,
            pipes,
        })
    }

    /// Registers the process and starts it. A process that cannot be started is deleted again.
    ///
    /// # Errors
    /// The first call that failed.
    pub async fn start(self) -> Result<Exec> {
        let exec = self.add().await?;
        match exec.start().await {
            Ok(_) => Ok(exec),
            Err(error) => {
                exec.delete_only().await?;
                Err(error)
            }
        }
    }

    /// Runs the process to its end.
    ///
    /// # Errors
    /// The first call that failed.
    pub async fn run(self) -> Result<Output> {
        let mut exec = self.start().await?;
        if exec.pipes.stdin.is_some() {
            exec.close_stdin().await?;
        }
        let code = exec.wait().await?.code;
        let deleted = exec.delete().await?.code;
        if code != deleted {
            return Err(Error::Setup(format!(
                "process {:?}: Wait answered exit status {code}, Delete {deleted}",
                exec.id
            )));
        }
        Ok(Output {
            code,
            stdout: exec.stdout().text(),
            stderr: exec.stderr().map(OutputPipe::text).unwrap_or_default(),
        })
    }
}

/// A process that was executed in a container. Dropping it does not end it.
#[derive(Debug)]
pub struct Exec {
    session: Session,
    container: String,
    id: String,
    pipes: Pipes,
}

impl Exec {
    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it writes to standard output.
    pub fn stdout(&self) -> &OutputPipe {
        &self.pipes.stdout
    }

    /// What it writes to standard error; `None` with a terminal.
    pub fn stderr(&self) -> Option<&OutputPipe> {
        self.pipes.stderr.as_ref()
    }

    /// Its standard input, where it has one.
    pub fn stdin(&mut self) -> Option<&mut InputPipe> {
        self.pipes.stdin.as_mut()
    }

    /// Starts it; answers its process id.
    ///
    /// # Errors
    /// The runtime's refusal.
    pub async fn start(&self) -> Result<u32> {
        let request = self.session.request(StartRequest {
            container_id: self.container.clone(),
            exec_id: self.id.clone(),
        });
        let mut tasks = self.session.client().tasks();
        let call = tasks.start(request);
        Ok(self.session.call("tasks.Start", &self.id, call).await?.pid)
    }

    /// Waits for its end, at most [`deadline::EXIT`].
    ///
    /// # Errors
    /// [`Error::Deadline`], or the runtime's refusal.
    pub async fn wait(&self) -> Result<Exit> {
        let request = self.session.request(WaitRequest {
            container_id: self.container.clone(),
            exec_id: self.id.clone(),
        });
        let mut tasks = self.session.client().tasks();
        let call = tasks.wait(request);
        let call = self.session.call_for(deadline::EXIT, "tasks.Wait", &self.id, call);
        let answer = call.await?;
        Ok(Exit {
            code: answer.exit_status,
            at: time(answer.exited_at),
        })
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// The runtime's refusal.
    pub async fn kill(&self, signal: u32) -> Result<()> {
        let request = self.session.request(KillRequest {
            container_id: self.container.clone(),
            exec_id: self.id.clone(),
            signal,
            // containerd's Go client says so when it deletes by force: it must not reach the container's others.
            all: true,
        });
        let mut tasks = self.session.client().tasks();
        let call = tasks.kill(request);
        self.session.call("tasks.Kill", &self.id, call).await
    }

    /// Deletes it, and waits until its output has come to its end.
    ///
    /// # Errors
    /// The runtime's refusal. [`Error::Deadline`] where the runtime keeps an output open.
    pub async fn delete(&self) -> Result<Exit> {
        let exit = self.delete_only().await?;
        self.pipes.wait_closed().await?;
        Ok(exit)
    }

    /// Deletes it, whatever its output does.
    ///
    /// # Errors
    /// The runtime's refusal.
    pub async fn delete_only(&self) -> Result<Exit> {
        let request = self.session.request(DeleteProcessRequest {
            container_id: self.container.clone(),
            exec_id: self.id.clone(),
        });
        let mut tasks = self.session.client().tasks();
        let call = tasks.delete_process(request);
        let answer = self.session.call("tasks.DeleteProcess", &self.id, call).await?;
        Ok(Exit {
            code: answer.exit_status,
            at: time(answer.exited_at),
        })
    }

    /// What containerd says of it.
    ///
    /// # Errors
    /// `NotFound` after its deletion.
    pub async fn state(&self) -> Result<Process> {
        let request = self.session.request(GetRequest {
            container_id: self.container.clone(),
            exec_id: self.id.clone(),
        });
        let mut tasks = self.session.client().tasks();
        let call = tasks.get(request);
        let answer = self.session.call("tasks.Get", &self.id, call).await?;
        answer
            .process
            .ok_or_else(|| Error::Setup(format!("tasks.Get of {:?}: an empty answer", self.id)))
    }

    /// Whether it is created, running, stopped.
    ///
    /// # Errors
    /// As [`Exec::state`].
    pub async fn status(&self) -> Result<Status> {
        self.state().await.map(|process| process.status())
    }

    /// Tells the runtime that no more input will come, after closing the writing end.
    ///
    /// # Errors
    /// The runtime's refusal.
    pub async fn close_stdin(&mut self) -> Result<()> {
        if let Some(stdin) = &mut self.pipes.stdin {
            stdin.close();
        }
        self.close_io().await
    }

    /// Tells the runtime that no more input will come, though the writing end stays open.
    ///
    /// # Errors
    /// The runtime's refusal.
    pub async fn close_io(&self) -> Result<()> {
        let request = self.session.request(CloseIoRequest {
            container_id: self.container.clone(),
            exec_id: self.id.clone(),
            stdin: true,
        });
        let mut tasks = self.session.client().tasks();
        let call = tasks.close_io(request);
        self.session.call("tasks.CloseIO", &self.id, call).await
    }

    /// Changes the size of its terminal.
    ///
    /// # Errors
    /// The runtime's refusal.
    pub async fn resize(&self, width: u32, height: u32) -> Result<()> {
        let request = self.session.request(ResizePtyRequest {
            container_id: self.container.clone(),
            exec_id: self.id.clone(),
            width,
            height,
        });
        let mut tasks = self.session.client().tasks();
        let call = tasks.resize_pty(request);
        self.session.call("tasks.ResizePty", &self.id, call).await
    }
}

//! A task: the running (or created, or ended) side of a container.

use std::time::{Duration, SystemTime};

use containerd_client::{
    services::v1::{
        CreateTaskRequest, DeleteResponse, DeleteTaskRequest, GetRequest, KillRequest, ListPidsRequest, MetricsRequest,
        ResizePtyRequest, StartRequest, WaitRequest,
    },
    types::{
        Metric, Mount,
        v1::{Process, ProcessInfo},
    },
};

use crate::{
    Error, ExecBuilder, Result, deadline,
    session::Session,
    stats::Stats,
    stdio::{InputPipe, OutputPipe, Pipes},
};

pub use containerd_client::types::v1::Status;

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit status: the guest's own, or 128 and the number of the signal that ended it.
    pub code: u32,
    /// When, by the shim's word.
    pub at: Option<SystemTime>,
}

/// A task, with its standard streams. Dropping it does not end it.
#[derive(Debug)]
pub struct Task {
    session: Session,
    id: String,
    pid: u32,
    pipes: Pipes,
}

impl Task {
    pub(crate) async fn create(
        session: &Session,
        id: &str,
        rootfs: Vec<Mount>,
        terminal: bool,
        input: Option<Vec<u8>>,
        edit: impl FnOnce(&mut CreateTaskRequest),
    ) -> Result<Self> {
        let pipes = Pipes::new(session, terminal, input).await?;
        let names = pipes.names();
        let mut request = CreateTaskRequest {
            container_id: id.to_owned(),
            rootfs,
            stdin: names.stdin,
            stdout: names.stdout,
            stderr: names.stderr,
            terminal,
            ..Default::default()
        };
        edit(&mut request);
        let mut tasks = session.client().tasks();
        let call = tasks.create(session.request(request));
        let pid = session.call("tasks.Create", id, call).await?.pid;
        Ok(Self {
            session: session.clone(),
            id: id.to_owned(),
            pid,
            pipes,
        })
    }

    /// Its container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Process id of the container's first process, as the runtime said when it created the task.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The connection, for raw requests.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// A further process in its container, to be configured and run.
    pub fn exec(&self, args: impl IntoIterator<Item = impl Into<String>>) -> ExecBuilder {
        ExecBuilder::new(self.session.clone(), &self.id, args)
    }

    /// Changes the size of its terminal.
    ///
    /// # Errors
    /// The runtime's refusal.
    pub async fn resize(&self, width: u32, height: u32) -> Result<()> {
        let request = self.session.request(ResizePtyRequest {
            container_id: self.id.clone(),
            width,
            height,
            ..Default::default()
        });
        let mut tasks = self.session.client().tasks();
        let call = tasks.resize_pty(request);
        self.session.call("tasks.ResizePty", &self.id, call).await
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

    /// Starts it; answers the first process's id. Standard input given to the builder ends here.
    ///
    /// # Errors
    /// The runtime's refusal.
    pub async fn start(&mut self) -> Result<u32> {
        let request = self.session.request(StartRequest {
            container_id: self.id.clone(),
            ..Default::default()
        });
        let mut tasks = self.session.client().tasks();
        let call = tasks.start(request);
        let pid = self.session.call("tasks.Start", &self.id, call).await?.pid;
        Ok(pid)
    }

    /// Tells the runtime that no more input will come, after closing the writing end.
    ///
    /// # Errors
    /// The runtime's refusal.
    pub async fn close_stdin(&mut self) -> Result<()> {
        if let Some(stdin) = &mut self.pipes.stdin {
            stdin.close();
        }
        let request = self.session.request(containerd_client::services::v1::CloseIoRequest {
            container_id: self.id.clone(),
            stdin: true,
            ..Default::default()
        });
        let mut tasks = self.session.client().tasks();
        let call = tasks.close_io(request);
        self.session.call("tasks.CloseIO", &self.id, call).await
    }

    /// Waits for its end, at most [`deadline::EXIT`].
    ///
    /// # Errors
    /// [`Error::Deadline`], or the runtime's refusal.
    pub async fn wait(&self) -> Result<Exit> {
        self.wait_for(deadline::EXIT).await
    }

    /// Waits for its end, at most `limit`.
    ///
    /// # Errors
    /// As [`Task::wait`].
    pub async fn wait_for(&self, limit: Duration) -> Result<Exit> {
        let request = self.session.request(WaitRequest {
            container_id: self.id.clone(),
            ..Default::default()
        });
        let mut tasks = self.session.client().tasks();
        let call = tasks.wait(request);
        let exit = self.session.call_for(limit, "tasks.Wait", &self.id, call);
        let exit = exit.await?;
        Ok(Exit {
            code: exit.exit_status,
            at: time(exit.exited_at),
        })
    }

    /// Sends a signal to its first process.
    ///
    /// # Errors
    /// The runtime's refusal: `NotFound` for a task that has ended.
    pub async fn kill(&self, signal: u32) -> Result<()> {
        self.signal(signal, false).await
    }

    /// Sends a signal to all its processes.
    ///
    /// # Errors
    /// As [`Task::kill`].
    pub async fn kill_all(&self, signal: u32) -> Result<()> {
        self.signal(signal, true).await
    }

    async fn signal(&self, signal: u32, all: bool) -> Result<()> {
        let request = self.session.request(KillRequest {
            container_id: self.id.clone(),
            signal,
            all,
            ..Default::default()
        });
        let mut tasks = self.session.client().tasks();
        let call = tasks.kill(request);
        self.session.call("tasks.Kill", &self.id, call).await
    }

    /// Deletes it, and waits until its output has come to its end.
    ///
    /// # Errors
    /// The runtime's refusal: `FailedPrecondition` while it runs. [`Error::Deadline`] where the runtime keeps an
    /// output open.
    pub async fn delete(&self) -> Result<Exit> {
        let exit = self.delete_only().await?;
        self.pipes.wait_closed().await?;
        Ok(exit)
    }

    /// Deletes it, whatever its output does: for a runtime that has not opened it, and for measuring.
    ///
    /// # Errors
    /// The runtime's refusal.
    pub async fn delete_only(&self) -> Result<Exit> {
        let request = self.session.request(DeleteTaskRequest {
            container_id: self.id.clone(),
        });
        let mut tasks = self.session.client().tasks();
        let call = tasks.delete(request);
        let answer = self.session.call("tasks.Delete", &self.id, call).await?;
        let DeleteResponse {
            exit_status, exited_at, ..
        } = answer;
        Ok(Exit {
            code: exit_status,
            at: time(exited_at),
        })
    }

    /// Ends it by SIGKILL and deletes it.
    ///
    /// # Errors
    /// The first call that failed. A task that has ended already is fine.
    pub async fn kill_and_delete(&self) -> Result<Exit> {
        match self.kill(9).await {
            Err(error) if error.code() != Some(tonic::Code::NotFound) => return Err(error),
            _ => {}
        }
        self.wait().await?;
        self.delete().await
    }

    /// What containerd says of it: process id, status, exit status, streams.
    ///
    /// # Errors
    /// `NotFound` after its deletion.
    pub async fn state(&self) -> Result<Process> {
        let request = self.session.request(GetRequest {
            container_id: self.id.clone(),
            ..Default::default()
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
    /// As [`Task::state`].
    pub async fn status(&self) -> Result<Status> {
        self.state().await.map(|process| process.status())
    }

    /// Ids of all its processes.
    ///
    /// # Errors
    /// The runtime's refusal.
    pub async fn pids(&self) -> Result<Vec<u32>> {
        Ok(self.processes().await?.iter().map(|process| process.pid).collect())
    }

    /// All its processes, with what the runtime says of each.
    ///
    /// # Errors
    /// The runtime's refusal.
    pub async fn processes(&self) -> Result<Vec<ProcessInfo>> {
        let request = self.session.request(ListPidsRequest {
            container_id: self.id.clone(),
        });
        let mut tasks = self.session.client().tasks();
        let call = tasks.list_pids(request);
        let answer = self.session.call("tasks.ListPids", &self.id, call).await?;
        Ok(answer.processes)
    }

    /// Its metrics as the runtime encoded them. [`Task::stats`] decodes them.
    ///
    /// # Errors
    /// The runtime's refusal, and where containerd has no metrics of it: a runtime's error is only logged.
    pub async fn metrics(&self) -> Result<Metric> {
        let request = self.session.request(MetricsRequest {
            filters: vec![format!("id=={}", self.id)],
        });
        let mut tasks = self.session.client().tasks();
        let call = tasks.metrics(request);
        let answer = self.session.call("tasks.Metrics", &self.id, call).await?;
        let mine = answer.metrics.into_iter().find(|metric| metric.id == self.id);
        mine.ok_or_else(|| Error::Setup(format!("no metrics of task {:?}", self.id)))
    }

    /// Its use of memory, processor and processes.
    ///
    /// # Errors
    /// As [`Task::metrics`], and where they are of no known type.
    pub async fn stats(&self) -> Result<Stats> {
        Stats::decode(&self.metrics().await?)
    }
}

pub(crate) fn time(stamp: Option<prost_types::Timestamp>) -> Option<SystemTime> {
    stamp.and_then(|stamp| SystemTime::try_from(stamp).ok())
}

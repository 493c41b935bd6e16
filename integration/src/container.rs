//! A container that exists in containerd: its record and its snapshot, and the tasks made of it.

use containerd_client::services::v1::{
    CreateTaskRequest, DeleteContainerRequest,
    snapshots::{MountsRequest, RemoveSnapshotRequest},
};

use crate::{Error, Result, Task, session::Session, task::Exit};

/// What a container that ended has left as its result.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit status: the guest's own, or 128 and the number of the signal that ended it.
    pub code: u32,
    /// Standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
}

/// A container that exists in containerd. It stays until [`Container::remove`], also when this value is dropped.
#[derive(Debug)]
pub struct Container {
    pub(crate) session: Session,
    pub(crate) id: String,
    pub(crate) tty: bool,
    pub(crate) stdin: Option<Vec<u8>>,
}

impl Container {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The connection, for raw requests.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Has the runtime create the task; the guest does not run before [`Task::start`].
    ///
    /// # Errors
    /// The runtime's refusal, as [`Error::Call`].
    pub async fn task(&self) -> Result<Task> {
        self.task_with(|_| {}).await
    }

    /// As [`Container::task`], with any change to the request (options, stdio, rootfs) before it is sent.
    ///
    /// # Errors
    /// As [`Container::task`].
    pub async fn task_with(&self, edit: impl FnOnce(&mut CreateTaskRequest)) -> Result<Task> {
        let request = self.session.request(MountsRequest {
            snapshotter: self.session.snapshotter.into(),
            key: self.id.clone(),
        });
        let mut snapshots = self.session.client().snapshots();
        let call = snapshots.mounts(request);
        let mounts = self.session.call("snapshots.Mounts", &self.id, call).await?;
        let stdin = self.stdin.clone();
        Task::create(&self.session, &self.id, mounts.mounts, self.tty, stdin, edit).await
    }

    /// Creates the task, starts it, waits for its end and deletes it; the container stays.
    ///
    /// # Errors
    /// The first call that failed; the task is deleted then too.
    pub async fn run_to_end(&self) -> Result<Output> {
        let mut task = self.task().await?;
        let ended = async {
            task.start().await?;
            task.wait().await
        };
        let ended: Result<Exit> = ended.await;
        if ended.is_err() {
            // The first failure is what counts; what this cannot take away, the search for leftovers names.
            let _ = task.kill(9).await;
            let _ = task.wait().await;
        }
        let deleted = task.delete().await;
        let code = ended?.code;
        let deleted = deleted?.code;
        if code != deleted {
            return Err(Error::Setup(format!(
                "task {:?}: Wait answered exit status {code}, Delete {deleted}",
                self.id
            )));
        }
        Ok(Output {
            code,
            stdout: task.stdout().text(),
            stderr: task.stderr().map(crate::stdio::OutputPipe::text).unwrap_or_default(),
        })
    }

    /// Removes the record and the snapshot. The task must have been deleted.
    ///
    /// # Errors
    /// containerd's refusal.
    pub async fn remove(self) -> Result<()> {
        let request = self.session.request(DeleteContainerRequest { id: self.id.clone() });
        let mut containers = self.session.client().containers();
        let call = containers.delete(request);
        self.session.call("containers.Delete", &self.id, call).await?;
        self.remove_snapshot().await
    }

    pub(crate) async fn remove_snapshot(&self) -> Result<()> {
        let request = self.session.request(RemoveSnapshotRequest {
            snapshotter: self.session.snapshotter.into(),
            key: self.id.clone(),
        });
        let mut snapshots = self.session.client().snapshots();
        let call = snapshots.remove(request);
        self.session.call("snapshots.Remove", &self.id, call).await
    }
}

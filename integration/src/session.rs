//! What everything that talks to one private containerd shares: the channel, the namespace and the paths.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use containerd_client::Client;
use tonic::{Request, Status, transport::Channel};

use crate::{Error, Result, deadline, deadline::within};

/// A lock whose holder panicked is still good here: a test that fails must be able to report.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The paths and names of one instance. Every one of them contains the instance's name, so that whatever is left
/// behind can be told from what belongs to others.
#[derive(Debug)]
pub struct Home {
    /// Directory of everything: `/tmp/tdm-XXXXXX`.
    pub dir: PathBuf,
    /// `XXXXXX`.
    pub name: String,
    /// Ids given to containers so far, for the search for leftovers.
    pub(crate) ids: Mutex<Vec<String>>,
    /// Process id of containerd, 0 while there is none.
    pub(crate) daemon: AtomicU32,
    counter: AtomicU32,
}

impl Home {
    pub(crate) fn new(dir: PathBuf, name: String) -> Self {
        Self {
            dir,
            name,
            ids: Mutex::default(),
            daemon: AtomicU32::new(0),
            counter: AtomicU32::new(1),
        }
    }

    /// containerd's gRPC socket; its ttrpc socket has `.ttrpc` appended.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("c.sock")
    }

    /// containerd's persistent data.
    pub fn root(&self) -> PathBuf {
        self.dir.join("r")
    }

    /// containerd's volatile data.
    pub fn state(&self) -> PathBuf {
        self.dir.join("s")
    }

    /// The shim's `/run/tandem`.
    pub fn shim_run(&self) -> PathBuf {
        self.dir.join("t")
    }

    /// The shims that containerd finds, as links.
    pub fn bin(&self) -> PathBuf {
        self.dir.join("bin")
    }

    /// FIFOs of containers.
    pub fn io(&self) -> PathBuf {
        self.dir.join("io")
    }

    /// Network namespaces that a test made.
    pub fn netns(&self) -> PathBuf {
        self.dir.join("netns")
    }

    /// containerd's log, and what shims wrote into it.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// The cgroup above all of the instance's containers, in every hierarchy.
    pub fn cgroup(&self) -> String {
        format!("/tandem-test-{}", self.name)
    }

    /// The bundle that containerd makes for a container.
    pub fn bundle(&self, namespace: &str, id: &str) -> PathBuf {
        let tasks = Path::new("io.containerd.runtime.v2.task");
        self.state().join(tasks).join(namespace).join(id)
    }

    /// An id for a container, as containers get by default.
    pub fn unique_id(&self) -> String {
        self.unique("c")
    }

    /// A name that no other container or object of any instance has.
    pub fn unique(&self, prefix: &str) -> String {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        format!("{prefix}{number}-{}", self.name)
    }
}

/// A connection to one private containerd, in one containerd namespace. Cheap to clone; it survives a restart of
/// the daemon.
#[derive(Clone, Debug)]
pub struct Session {
    pub(crate) home: Arc<Home>,
    pub(crate) channel: Channel,
    pub(crate) namespace: String,
    pub(crate) snapshotter: &'static str,
}

impl Session {
    /// The instance's paths and names.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Raw clients of all of containerd's services; wrap messages by [`Session::request`].
    pub fn client(&self) -> Client {
        Client::from(self.channel.clone())
    }

    /// The containerd namespace of this session.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Wraps a message for a call in this session's namespace.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        // A namespace that is not ASCII is the caller's typing error; containerd then reports its absence.
        if let Ok(namespace) = self.namespace.parse() {
            request.metadata_mut().insert("containerd-namespace", namespace);
        }
        request
    }

    /// Waits for a call, at most [`deadline::CALL`], and names it in the error.
    ///
    /// # Errors
    /// [`Error::Call`] with containerd's status, or [`Error::Deadline`].
    pub async fn call<T>(
        &self,
        call: &'static str,
        object: &str,
        future: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T> {
        self.call_for(deadline::CALL, call, object, future).await
    }

    pub(crate) async fn call_for<T>(
        &self,
        limit: Duration,
        call: &'static str,
        object: &str,
        future: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T> {
        let answer = within(format!("{call} of {object:?}"), limit, future).await?;
        answer.map(tonic::Response::into_inner).map_err(|status| Error::Call {
            call,
            object: object.to_owned(),
            status: Box::new(status),
        })
    }
}

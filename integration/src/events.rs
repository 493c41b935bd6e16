//! containerd's events, collected in the order in which they come.

use std::time::SystemTime;

use containerd_client::{
    events as wire,
    services::v1::{PublishRequest, SubscribeRequest},
    types::Envelope,
};
use prost::Message;
use prost_types::Any;
use tokio::{sync::watch, task::JoinHandle};

use crate::{Error, Result, deadline, deadline::within, session::Session};

/// Topic of the harness's own event, by which it knows that a subscription is in force.
const MARKER: &str = "/tandem-test/subscribed";

/// What an event of a task is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The task was created.
    Create,
    /// It was started.
    Start,
    /// A process of it ended.
    Exit,
    /// It was deleted.
    Delete,
    /// The kernel ended a process for want of memory.
    Oom,
    /// A further process was created.
    ExecAdded,
    /// A further process was started.
    ExecStarted,
    /// It was paused.
    Paused,
    /// It was resumed.
    Resumed,
}

/// An event of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// To which container.
    pub container: String,
    /// The further process it is about; empty for the first.
    pub exec: String,
    /// Process id, 0 where the event has none.
    pub pid: u32,
    /// Exit status of [`EventKind::Exit`] and [`EventKind::Delete`].
    pub code: u32,
    /// When it was published.
    pub at: Option<SystemTime>,
}

/// A subscription to an instance's task events. It lives through restarts of containerd (what happens while that is
/// down is containerd's to keep).
#[derive(Debug)]
pub struct Events {
    seen: watch::Receiver<Seen>,
    collector: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    events: Vec<Event>,
    markers: u32,
}

impl Events {
    pub(crate) async fn subscribe(session: Session) -> Result<Self> {
        let (sender, seen) = watch::channel(Seen::default());
        let collector = tokio::spawn(collect(session.clone(), sender));
        let events = Self { seen, collector };
        events.sync(&session).await?;
        Ok(events)
    }

    /// Waits until the subscription is in force again, after a restart of containerd.
    ///
    /// # Errors
    /// [`Error::Deadline`].
    pub async fn resubscribed(&self, session: &Session) -> Result<()> {
        self.sync(session).await
    }

    /// Publishes markers until one comes back. containerd does not tell when a subscription is in force.
    async fn sync(&self, session: &Session) -> Result<()> {
        let before = self.seen.borrow().markers;
        let published = async {
            while self.seen.borrow().markers == before {
                let request = session.request(PublishRequest {
                    topic: MARKER.into(),
                    event: Some(Any {
                        type_url: "containerd.events.TaskPaused".into(),
                        ..Default::default()
                    }),
                });
                let mut events = session.client().events();
                let call = events.publish(request);
                session.call("events.Publish", MARKER, call).await?;
                tokio::time::sleep(deadline::POLL).await;
            }
            Ok(())
        };
        within("a subscription to events", deadline::BOOT, published).await?
    }

    /// The events of a container so far, in the order in which they came.
    pub fn of(&self, container: &str) -> Vec<Event> {
        let seen = self.seen.borrow();
        let mine = seen.events.iter().filter(|event| event.container == container);
        mine.cloned().collect()
    }

    /// Only what the events of a container are about.
    pub fn kinds_of(&self, container: &str) -> Vec<EventKind> {
        self.of(container).iter().map(|event| event.kind).collect()
    }

    /// Waits for an event of a container, at most [`deadline::SOON`]; one that has come already counts.
    ///
    /// # Errors
    /// [`Error::Deadline`].
    pub async fn wait_for(&self, container: &str, kind: EventKind) -> Result<Event> {
        let find = |seen: &Seen| {
            let mut events = seen.events.iter();
            let fits = |event: &&Event| event.container == container && event.kind == kind;
            events.find(fits).cloned()
        };
        let mut seen = self.seen.clone();
        let what = format!("event {kind:?} of {container}");
        let found = within(what, deadline::SOON, seen.wait_for(|seen| find(seen).is_some()));
        let found = found.await?.map(|seen| find(&seen));
        found
            .ok()
            .flatten()
            .ok_or_else(|| Error::Setup("the subscription to events has ended".into()))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.collector.abort();
    }
}

/// Subscribes again whenever the stream ends, as it does when containerd stops.
async fn collect(session: Session, sender: watch::Sender<Seen>) {
    loop {
        let request = session.request(SubscribeRequest::default());
        if let Ok(stream) = session.client().events().subscribe(request).await {
            let mut stream = stream.into_inner();
            while let Ok(Some(envelope)) = stream.message().await {
                if envelope.namespace == session.namespace {
                    sender.send_modify(|seen| note(seen, envelope));
                }
            }
        }
        tokio::time::sleep(deadline::POLL).await;
    }
}

fn note(seen: &mut Seen, envelope: Envelope) {
    if envelope.topic == MARKER {
        seen.markers += 1;
    } else if let Some(event) = decode(envelope) {
        seen.events.push(event);
    }
}

fn decode(envelope: Envelope) -> Option<Event> {
    let at = envelope.timestamp.and_then(|stamp| stamp.try_into().ok());
    let bytes = envelope.event.unwrap_or_default().value;
    let event = |kind, container, exec, pid, code| Event {
        kind,
        container,
        exec,
        pid,
        code,
        at,
    };
    let none = String::new;
    // By topic, which is what containerd routes by: a shim that sends a wrong one is found out.
    let event = match envelope.topic.as_str() {
        "/tasks/create" => {
            let it = message::<wire::TaskCreate>(&bytes)?;
            event(EventKind::Create, it.container_id, none(), it.pid, 0)
        }
        "/tasks/start" => {
            let it = message::<wire::TaskStart>(&bytes)?;
            event(EventKind::Start, it.container_id, none(), it.pid, 0)
        }
        "/tasks/exit" => {
            let it = message::<wire::TaskExit>(&bytes)?;
            let exec = if it.id == it.container_id { none() } else { it.id };
            event(EventKind::Exit, it.container_id, exec, it.pid, it.exit_status)
        }
        "/tasks/delete" => {
            let it = message::<wire::TaskDelete>(&bytes)?;
            let exec = if it.id == it.container_id { none() } else { it.id };
            event(EventKind::Delete, it.container_id, exec, it.pid, it.exit_status)
        }
        "/tasks/oom" => {
            let it = message::<wire::TaskOom>(&bytes)?;
            event(EventKind::Oom, it.container_id, none(), 0, 0)
        }
        "/tasks/exec-added" => {
            let it = message::<wire::TaskExecAdded>(&bytes)?;
            event(EventKind::ExecAdded, it.container_id, it.exec_id, 0, 0)
        }
        "/tasks/exec-started" => {
            let it = message::<wire::TaskExecStarted>(&bytes)?;
            event(EventKind::ExecStarted, it.container_id, it.exec_id, it.pid, 0)
        }
        "/tasks/paused" => {
            let it = message::<wire::TaskPaused>(&bytes)?;
            event(EventKind::Paused, it.container_id, none(), 0, 0)
        }
        "/tasks/resumed" => {
            let it = message::<wire::TaskResumed>(&bytes)?;
            event(EventKind::Resumed, it.container_id, none(), 0, 0)
        }
        _ => return None,
    };
    Some(event)
}

fn message<M: Message + Default>(bytes: &[u8]) -> Option<M> {
    M::decode(bytes).ok()
}

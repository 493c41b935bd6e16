//! Task events: one queue, forwarded in order, retried for as long as containerd is away.
//!
//! containerd restarts under its running pods; an exit event lost then leaves a pod "Running" for ever. So
//! an event leaves the queue only when containerd has taken it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use containerd_shim_protos::protobuf::well_known_types::{any::Any, timestamp::Timestamp};
use containerd_shim_protos::protobuf::{MessageField, MessageFull};
use containerd_shim_protos::shim::{event::Envelope, events::ForwardRequest};
use containerd_shim_protos::shim_async::{Client, EventsClient};
use containerd_shim_protos::ttrpc::{Code, Error, context};
use tokio::sync::Notify;

/// What containerd may take to answer before the connection is given up and made anew.
const ANSWER: Duration = Duration::from_secs(5);
/// First pause after a failure; doubled up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(20);
/// Longest pause, so that a restarted containerd hears from the shim soon.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Handle on the queue; cheap to clone.
#[derive(Clone)]
pub struct Events {
    queue: Arc<Queue>,
    namespace: String,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<VecDeque<Envelope>>,
    changed: Notify,
    drained: Notify,
}

impl Events {
    /// Starts forwarding to containerd's ttrpc socket at `address` (`TTRPC_ADDRESS`) on the current runtime.
    pub fn forward_to(address: String, namespace: String) -> Self {
        let queue = Arc::new(Queue::default());
        tokio::spawn(forward(Arc::clone(&queue), address));
        Self { queue, namespace }
    }

    /// Queues an event; its place in the order is decided now.
    pub fn publish<M: MessageFull>(&self, topic: &str, event: &M) {
        let value = match event.write_to_bytes() {
            Ok(value) => value,
            Err(error) => {
                tracing::error!(topic, %error, "event cannot be encoded");
                return;
            }
        };
        let envelope = Envelope {
            topic: topic.to_owned(),
            namespace: self.namespace.clone(),
            timestamp: MessageField::some(timestamp(SystemTime::now())),
            event: MessageField::some(Any {
                type_url: M::descriptor().full_name().to_owned(),
                value,
                ..Default::default()
            }),
            ..Default::default()
        };
        self.queue.lock().push_back(envelope);
        self.queue.changed.notify_one();
    }

    /// Waits until containerd has taken every event, but no longer than `patience`.
    pub async fn drain(&self, patience: Duration) {
        let drained = async {
            loop {
                let notified = self.queue.drained.notified();
                if self.queue.lock().is_empty() {
                    return;
                }
                notified.await;
            }
        };
        if tokio::time::timeout(patience, drained).await.is_err() {
            tracing::warn!("events were still queued when the shim ended");
        }
    }
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Envelope>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn forward(queue: Arc<Queue>, address: String) {
    let mut client: Option<EventsClient> = None;
    let mut pause = MIN_PAUSE;
    loop {
        let Some(envelope) = queue.lock().front().cloned() else {
            queue.drained.notify_waiters();
            queue.changed.notified().await;
            continue;
        };
        match send(&mut client, &address, envelope).await {
            Outcome::Taken => {
                queue.lock().pop_front();
                pause = MIN_PAUSE;
            }
            Outcome::Retry(error) => {
                tracing::warn!(%error, "containerd did not take an event, trying again");
                client = None;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }
}

enum Outcome {
    Taken,
    Retry(Error),
}

async fn send(client: &mut Option<EventsClient>, address: &str, envelope: Envelope) -> Outcome {
    if client.is_none() {
        match Client::connect(&format!("unix://{address}")).await {
            Ok(connected) => *client = Some(EventsClient::new(connected)),
            Err(error) => return Outcome::Retry(error),
        }
    }
    let Some(connected) = client.as_ref() else {
        return Outcome::Retry(Error::Others("not connected".into()));
    };
    let topic = envelope.topic.clone();
    let request = ForwardRequest {
        envelope: MessageField::some(envelope),
        ..Default::default()
    };
    let context = context::with_duration(ANSWER);
    match connected.forward(context, &request).await {
        Ok(_) => Outcome::Taken,
        // containerd answered and will answer the same again: an event it refuses must not hold up the rest.
        Err(Error::RpcStatus(status)) if matches!(status.code(), Code::INVALID_ARGUMENT | Code::UNIMPLEMENTED) => {
            tracing::error!(topic, message = status.message(), "containerd refused an event");
            Outcome::Taken
        }
        Err(error) => Outcome::Retry(error),
    }
}

/// A protobuf timestamp of `time`.
pub fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use containerd_shim_protos::api::Empty;
    use containerd_shim_protos::events::task::TaskStart;
    use containerd_shim_protos::shim_async::{Events as EventsService, create_events};
    use containerd_shim_protos::ttrpc::asynchronous::{Server, TtrpcContext};

    #[derive(Clone, Default)]
    struct Containerd(Arc<Mutex<Vec<String>>>);

    #[async_trait]
    impl EventsService for Containerd {
        async fn forward(
            &self,
            _: &TtrpcContext,
            request: ForwardRequest,
        ) -> containerd_shim_protos::ttrpc::Result<Empty> {
            self.0.lock().unwrap().push(request.envelope().topic.clone());
            Ok(Empty::new())
        }
    }

    async fn serve(address: &str, containerd: &Containerd) -> Server {
        let mut server = Server::new()
            .bind(&format!("unix://{address}"))
            .unwrap()
            .register_service(create_events(Arc::new(containerd.clone())));
        server.start().await.unwrap();
        server
    }

    #[tokio::test]
    async fn events_arrive_once_and_in_order_over_a_restart_of_containerd() {
        let dir = tempfile::tempdir().unwrap();
        let address = dir.path().join("ttrpc").to_str().unwrap().to_owned();
        let containerd = Containerd::default();
        let events = Events::forward_to(address.clone(), "test".into());
        // containerd is not there yet.
        events.publish("/1", &TaskStart::new());
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut server = serve(&address, &containerd).await;
        events.drain(Duration::from_secs(5)).await;
        server.shutdown().await.unwrap();
        drop(server);
        std::fs::remove_file(&address).ok();
        // It is away: these wait.
        events.publish("/2", &TaskStart::new());
        events.publish("/3", &TaskStart::new());
        tokio::time::sleep(Duration::from_millis(50)).await;
        let _server = serve(&address, &containerd).await;
        events.drain(Duration::from_secs(5)).await;
        assert_eq!(*containerd.0.lock().unwrap(), ["/1", "/2", "/3"]);
    }
}

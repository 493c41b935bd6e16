//! Publishes events to containerd, in order, without making a call wait for them.

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{MessageDyn, MessageField, MessageFull};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::{Client, EventsClient};
use containerd_shim_protos::ttrpc::context::Context;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::service::timestamp;
use crate::verbs::Arguments;

/// Takes events.
pub struct Events {
    namespace: String,
    /// `None` is the end.
    queue: UnboundedSender<Option<Envelope>>,
}

impl Events {
    /// Queues `event` under `topic`, with the time of now.
    pub fn send<E: MessageFull>(&self, topic: &str, event: &E) {
        let envelope = Envelope {
            timestamp: MessageField::some(timestamp()),
            namespace: self.namespace.clone(),
            topic: topic.to_owned(),
            event: MessageField::some(Any {
                type_url: event.descriptor_dyn().full_name().to_owned(),
                value: event.write_to_bytes().unwrap_or_default(),
                ..Default::default()
            }),
            ..Default::default()
        };
        // Fails only where there is no containerd to publish to.
        drop(self.queue.send(Some(envelope)));
    }

    /// Ends the publisher once all events before this are sent.
    pub fn end(&self) {
        drop(self.queue.send(None));
    }
}

/// Starts the publisher; the handle ends when every event has been sent.
pub fn publisher(arguments: &Arguments) -> (Events, JoinHandle<()>) {
    let (queue, events) = unbounded_channel();
    let address = std::env::var("TTRPC_ADDRESS").unwrap_or_else(|_| format!("{}.ttrpc", arguments.containerd));
    let published = tokio::spawn(publish(address, events));
    (
        Events {
            namespace: arguments.namespace.clone(),
            queue,
        },
        published,
    )
}

/// An event that containerd does not take is lost: nobody restarts containerd under a benchmark.
async fn publish(address: String, mut events: UnboundedReceiver<Option<Envelope>>) {
    let Ok(client) = Client::connect(&format!("unix://{address}")).await else {
        return;
    };
    let client = EventsClient::new(client);
    while let Some(Some(envelope)) = events.recv().await {
        let request = ForwardRequest {
            envelope: MessageField::some(envelope),
            ..Default::default()
        };
        drop(client.forward(Context::default(), &request).await);
    }
}

//! The Kubernetes side: the labels that send pods to the node, events for people, and the question whether Tandem is
//! still wanted on this node.

mod intent;
mod labels;
mod node;
mod retire;
mod selector;

pub use intent::{Intent, intent};
pub use labels::{READY, READY_ALIAS, VERSION};
pub use node::NodeClient;
pub use retire::{RetireOptions, retire};

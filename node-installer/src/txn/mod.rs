//! Changes of files that survive a crash at any point.
//!
//! The order is always: copies of what will be replaced, then the journal with every change (before, after), then the
//! changes, each one atomic. So whatever instant the power goes, each file is either as before or as after, the journal
//! tells which it should be, and the copy to go back to exists. No state is inferred from how far the journal got.

mod apply;
mod durable;
mod journal;
mod record;
mod state;
mod store;
mod writer;

pub use apply::{DesiredPath, DesiredState, compare, prepare};
pub use durable::{remove_tree_if_empty, write_atomic};
pub use journal::{Journal, Operation, Phase};
pub use record::{Record, Version};
pub use state::{Change, Role, State, changes_config, digest, digest_of_file};
pub use store::Store;
pub use writer::Writer;

/// Version of the format of journal and record.
const FORMAT: u32 = 1;

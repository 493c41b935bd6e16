//! What the cache keeps on disk: entries, and beside them what its processes agree by.

pub(crate) mod collect;
mod detached;
pub(crate) mod entry;
pub(crate) mod failures;
pub(crate) mod lock;
pub(crate) mod slots;
pub(crate) mod stamp;

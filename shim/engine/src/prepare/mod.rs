//! Checks of a guest before it runs, so that what cannot run is refused while its container is created.

mod component;
mod core;
mod imports;

pub(crate) use self::component::prepare as component;
pub(crate) use self::core::prepare as core;

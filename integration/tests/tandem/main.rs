//! Tandem as its users see it, on both generations of containerd: real guests, real images, real processes.
//! Every test ends by asserting that nothing is left behind (`Containerd::stop`).

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod bootstrap;
#[cfg(test)]
mod cache;
#[cfg(test)]
mod confinement;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod environment;
#[cfg(test)]
mod exec;
#[cfg(test)]
mod exec_ends;
#[cfg(test)]
mod exits;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod http;
#[cfg(test)]
mod hung_volumes;
#[cfg(test)]
mod hybrid;
#[cfg(test)]
mod images;
#[cfg(test)]
mod killing;
#[cfg(test)]
mod kinds;
#[cfg(test)]
mod placement;
#[cfg(test)]
mod pods;
#[cfg(test)]
mod races;
#[cfg(test)]
mod resources;
#[cfg(test)]
mod restarts;
#[cfg(test)]
mod security;
#[cfg(test)]
mod shim;
#[cfg(test)]
mod soak;
#[cfg(test)]
mod stdio;
#[cfg(test)]
mod support;
#[cfg(test)]
mod task_api;
#[cfg(test)]
mod terminal;
#[cfg(test)]
mod terminal_ctr;

//! The node installer on real nodes: a private containerd of each generation with pods that run, the installer's own
//! program, real restarts, real crashes.

#[cfg(test)]
mod agent;
#[cfg(test)]
mod api;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod cri;
#[cfg(test)]
mod end_to_end;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod node;
#[cfg(test)]
mod pod;
#[cfg(test)]
mod trace;

//! The installer on fake roots of every kind of host, with the real containerd as judge.

#[cfg(test)]
mod dry_runs;
#[cfg(test)]
mod hosts;
#[cfg(test)]
mod root;

//! The installer on fake roots of every kind of host, with the real containerd as judge.

#[cfg(test)]
mod hosts;

//! What users of a cluster see of Tandem: pods, Deployments, Jobs and `kubectl` against a real kubelet.
//!
//!     TANDEM_CLUSTER=integration/cluster/local cargo test --release -p tandem-integration --test kubernetes
//!
//! The cluster is one that `$TANDEM_CLUSTER up` brought up, with Tandem installed and the images of
//! `tandem-cluster-images` in its registry. Tests drive it by `kubectl` and by the manifests in
//! `integration/cluster/manifests`, as users do; each has a namespace of its own. Where a test ends in `::wasm`,
//! `::linux` and `::runc`, the same manifest ran with a guest and with a Linux program under Tandem, and with that
//! program under runc.

mod accounts;
mod chart;
mod configuration;
mod density;
mod deployments;
mod eviction;
mod examples;
mod harness;
mod hybrid;
mod installation;
mod jobs;
mod kustomize;
mod languages;
mod manifests;
mod node_life;
mod reasons;
mod resources;
mod security;
mod streams;
mod unchanged;
mod volumes;

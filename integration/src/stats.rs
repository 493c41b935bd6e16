//! The metrics of a task, which are cgroup v1's or v2's as the machine is; only what tests look at is decoded.

use containerd_client::types::Metric;
use prost::Message;

use crate::{Error, Result};

/// What a task uses, in the same units for both kinds of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// The metrics came as cgroup v2's.
    pub unified: bool,
    /// Processor time, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory in use, in bytes.
    pub memory: u64,
    /// Limit of memory, in bytes.
    pub memory_limit: u64,
    /// Number of processes and threads.
    pub pids: u64,
}

impl Stats {
    /// Decodes metrics.
    ///
    /// # Errors
    /// [`Error::Setup`] names a type that is neither cgroup's, or what is wrong with the encoding.
    pub fn decode(metric: &Metric) -> Result<Self> {
        let data = metric.data.clone().unwrap_or_default();
        let broken = |cause| Error::Setup(format!("metrics of {:?}: {cause}", metric.id));
        let bytes = data.value.as_slice();
        match data.type_url.rsplit('/').next() {
            Some("io.containerd.cgroups.v1.Metrics") => {
                let metrics = v1::Metrics::decode(bytes).map_err(broken)?;
                let memory = metrics.memory.and_then(|memory| memory.usage).unwrap_or_default();
                Ok(Self {
                    unified: false,
                    cpu_ns: metrics.cpu.and_then(|cpu| cpu.usage).unwrap_or_default().total,
                    memory: memory.usage,
                    memory_limit: memory.limit,
                    pids: metrics.pids.unwrap_or_default().current,
                })
            }
            Some("io.containerd.cgroups.v2.Metrics") => {
                let metrics = v2::Metrics::decode(bytes).map_err(broken)?;
                let memory = metrics.memory.unwrap_or_default();
                Ok(Self {
                    unified: true,
                    cpu_ns: metrics.cpu.unwrap_or_default().usage_usec * 1000,
                    memory: memory.usage,
                    memory_limit: memory.usage_limit,
                    pids: metrics.pids.unwrap_or_default().current,
                })
            }
            _ => Err(Error::Setup(format!(
                "metrics of {:?} are of unknown type {:?}",
                metric.id, data.type_url
            ))),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct Pids {
    #[prost(uint64, tag = "1")]
    current: u64,
}

/// The used fields of cgroup v1's metrics (containerd/cgroups, `cgroup1/stats/metrics.proto`).
mod v1 {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Metrics {
        #[prost(message, tag = "2")]
        pub pids: Option<super::Pids>,
        #[prost(message, tag = "3")]
        pub cpu: Option<Cpu>,
        #[prost(message, tag = "4")]
        pub memory: Option<Memory>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Cpu {
        #[prost(message, tag = "1")]
        pub usage: Option<CpuUsage>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct CpuUsage {
        #[prost(uint64, tag = "1")]
        pub total: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Memory {
        #[prost(message, tag = "33")]
        pub usage: Option<MemoryEntry>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct MemoryEntry {
        #[prost(uint64, tag = "1")]
        pub limit: u64,
        #[prost(uint64, tag = "2")]
        pub usage: u64,
    }
}

/// The used fields of cgroup v2's metrics (containerd/cgroups, `cgroup2/stats/metrics.proto`).
mod v2 {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Metrics {
        #[prost(message, tag = "1")]
        pub pids: Option<super::Pids>,
        #[prost(message, tag = "2")]
        pub cpu: Option<Cpu>,
        #[prost(message, tag = "4")]
        pub memory: Option<Memory>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Cpu {
        #[prost(uint64, tag = "1")]
        pub usage_usec: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Memory {
        #[prost(uint64, tag = "32")]
        pub usage: u64,
        #[prost(uint64, tag = "33")]
        pub usage_limit: u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::Any;

    fn metric(type_url: &str, value: Vec<u8>) -> Metric {
        Metric {
            id: "c".into(),
            data: Some(Any {
                type_url: type_url.into(),
                value,
            }),
            ..Default::default()
        }
    }

    #[test]
    fn processor_time_is_in_nanoseconds_for_both_kinds_of_metrics() {
        let metrics = v2::Metrics {
            cpu: Some(v2::Cpu { usage_usec: 7 }),
            ..Default::default()
        };
        let metric2 = metric("io.containerd.cgroups.v2.Metrics", metrics.encode_to_vec());
        assert_eq!(Stats::decode(&metric2).unwrap().cpu_ns, 7000);
        let metrics = v1::Metrics {
            cpu: Some(v1::Cpu {
                usage: Some(v1::CpuUsage { total: 7000 }),
            }),
            ..Default::default()
        };
        let metric1 = metric("io.containerd.cgroups.v1.Metrics", metrics.encode_to_vec());
        assert_eq!(Stats::decode(&metric1).unwrap().cpu_ns, 7000);
    }

    #[test]
    fn metrics_of_an_unknown_type_are_refused_by_name() {
        let error = Stats::decode(&metric("what", Vec::new())).unwrap_err();
        assert!(error.message().contains("what"));
    }
}

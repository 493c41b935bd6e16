//! A registry on loopback, which stands in for all the registries that the suite names.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use tandem_integration::{Result, deadline, image::Registry as Pushed};
use tokio::process::Child;

use crate::child;

/// Debian's and Ubuntu's package of the reference implementation.
const PROGRAM: &str = "docker-registry";
/// In a network namespace of one's own every port is free.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);

/// A running registry, which ends with this value.
#[derive(Debug)]
pub struct Registry {
    process: Child,
}

impl Registry {
    /// Starts one that keeps its images below `dir`.
    ///
    /// # Errors
    /// Where the program is missing or does not listen.
    pub async fn start(dir: &Path) -> Result<Self> {
        let config = dir.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {:?}}}}}\nhttp: {{addr: \"{ADDRESS}\"}}\n",
            dir.join("data"),
        );
        child::write(&config, &text)?;
        let mut command = child::command(PROGRAM);
        command.arg("serve").arg(&config);
        let process = child::spawn(command, &dir.join("log"))?;
        let registry = Self { process };
        let listens = || std::net::TcpStream::connect(ADDRESS).ok();
        deadline::until("a listening registry", deadline::BOOT, listens).await?;
        Ok(registry)
    }

    /// Where images are pushed to.
    pub fn pushed(&self) -> Pushed {
        Pushed::at(&ADDRESS.to_string())
    }

    /// Ends it.
    pub async fn stop(mut self) {
        // It keeps nothing that is worth a shutdown in order.
        let _ = self.process.kill().await;
    }

    /// The text of containerd's `hosts.toml`: what the registry of any name is reached by.
    pub fn hosts() -> String {
        format!("server = \"http://{ADDRESS}\"\n[host.\"http://{ADDRESS}\"]\ncapabilities = [\"pull\", \"resolve\"]\n")
    }
}

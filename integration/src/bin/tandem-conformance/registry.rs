//! A registry on loopback, which stands in for all the registries that the suite names.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use tandem_integration::{
    Error, Result, deadline,
    http::{Response, send},
    image::{Blob, Layout, media},
};
use tokio::{net::TcpStream, process::Child};

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

    /// Ends it.
    pub async fn stop(mut self) {
        // It keeps nothing that is worth a shutdown in order.
        let _ = self.process.kill().await;
    }

    /// The text of containerd's `hosts.toml`: what the registry of any name is reached by.
    pub fn hosts() -> String {
        format!("server = \"http://{ADDRESS}\"\n[host.\"http://{ADDRESS}\"]\ncapabilities = [\"pull\", \"resolve\"]\n")
    }

    /// Stores an image under its name, without the name's registry.
    ///
    /// # Errors
    /// Where the registry refuses a blob or a manifest.
    pub async fn push(&self, image: &Layout) -> Result<()> {
        let name = Name::of(&image.name)?;
        let (manifests, content): (Vec<&Blob>, Vec<&Blob>) = image.blobs.values().partition(|blob| is_manifest(blob));
        for blob in content {
            self.upload(&name, blob).await?;
        }
        // An index is refused before the manifests that it refers to are there.
        let (indexes, single): (Vec<&Blob>, Vec<&Blob>) =
            manifests.into_iter().partition(|m| m.media_type == media::INDEX);
        for manifest in single.into_iter().chain(indexes) {
            let reference = if manifest.digest == image.target {
                &name.reference
            } else {
                &manifest.digest
            };
            let path = format!("/v2/{}/manifests/{reference}", name.repository);
            let request = Request::builder().method(Method::PUT).uri(path);
            let request = request.header(header::CONTENT_TYPE, &manifest.media_type);
            expect_created(exchange(request, manifest.data.clone()).await?, &image.name)?;
        }
        Ok(())
    }

    async fn upload(&self, name: &Name, blob: &Blob) -> Result<()> {
        let path = format!("/v2/{}/blobs/uploads/", name.repository);
        let opened = exchange(Request::builder().method(Method::POST).uri(path), Bytes::new()).await?;
        let location = opened
            .headers
            .get(header::LOCATION)
            .and_then(|place| place.to_str().ok());
        let location: http::Uri = location.and_then(|place| place.parse().ok()).ok_or_else(|| {
            Error::Setup(format!(
                "the registry takes no blob of {}: {}",
                name.repository,
                opened.text()
            ))
        })?;
        let query = location.query().map(|query| format!("{query}&")).unwrap_or_default();
        let place = format!("{}?{query}digest={}", location.path(), blob.digest);
        let request = Request::builder().method(Method::PUT).uri(place);
        let request = request.header(header::CONTENT_TYPE, "application/octet-stream");
        expect_created(exchange(request, blob.data.clone()).await?, &name.repository)
    }
}

fn is_manifest(blob: &Blob) -> bool {
    [media::MANIFEST, media::INDEX].contains(&blob.media_type.as_str())
}

async fn exchange(request: http::request::Builder, body: Bytes) -> Result<Response> {
    let request = request.body(Full::new(body));
    let request = request.map_err(|cause| Error::Setup(format!("request to the registry: {cause}")))?;
    let stream = TcpStream::connect(ADDRESS).await;
    let stream = stream.map_err(|cause| Error::Setup(format!("cannot reach the registry: {cause}")))?;
    send(stream, request).await
}

fn expect_created(response: Response, image: &str) -> Result<()> {
    if response.status == http::StatusCode::CREATED {
        return Ok(());
    }
    let text = response.text();
    Err(Error::Setup(format!(
        "the registry refuses {image}: {} {text}",
        response.status
    )))
}

/// An image's name in a registry.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    repository: String,
    /// Tag or digest.
    reference: String,
}

impl Name {
    fn of(name: &str) -> Result<Self> {
        let (_, path) = name.split_once('/').unwrap_or_default();
        let parts = path.split_once('@').or_else(|| path.rsplit_once(':'));
        let (repository, reference) =
            parts.ok_or_else(|| Error::Setup(format!("{name}: neither registry/path:tag nor registry/path@digest")))?;
        Ok(Self {
            repository: repository.into(),
            reference: reference.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_of_a_name_does_not_count() {
        let name = |text| Name::of(text).map(|name| (name.repository, name.reference)).unwrap();
        assert_eq!(name("r.test/a/b:1"), ("a/b".into(), "1".into()));
        assert_eq!(name("r.test/a@sha256:0f"), ("a".into(), "sha256:0f".into()));
        assert!(Name::of("r.test/a").is_err());
    }
}

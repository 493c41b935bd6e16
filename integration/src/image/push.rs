//! Pushes images into a registry, by the OCI distribution protocol over plain HTTP.

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header, request};
use http_body_util::Full;
use tokio::net::TcpStream;

use super::{Blob, Layout, media};
use crate::{
    Error, Result,
    http::{Response, send},
};

/// A registry that anybody may push to.
#[derive(Clone, Debug)]
pub struct Registry {
    address: String,
}

impl Registry {
    /// The one at `address`, which is `host:port`.
    pub fn at(address: &str) -> Self {
        Self {
            address: address.into(),
        }
    }

    /// Stores an image under its name. The registry of the name does not count, this one is asked.
    ///
    /// # Errors
    /// Where the registry cannot be reached, or refuses a blob or a manifest.
    pub async fn push(&self, image: &Layout) -> Result<()> {
        let name = Name::of(&image.name)?;
        let (manifests, content): (Vec<&Blob>, Vec<&Blob>) = image.blobs.values().partition(|blob| is_manifest(blob));
        for blob in content {
            if !self.has(&name, blob).await? {
                self.upload(&name, blob).await?;
            }
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
            expect_created(self.exchange(request, manifest.data.clone()).await?, &image.name)?;
        }
        Ok(())
    }

    async fn has(&self, name: &Name, blob: &Blob) -> Result<bool> {
        let path = format!("/v2/{}/blobs/{}", name.repository, blob.digest);
        let request = Request::builder().method(Method::HEAD).uri(path);
        Ok(self.exchange(request, Bytes::new()).await?.status == StatusCode::OK)
    }

    async fn upload(&self, name: &Name, blob: &Blob) -> Result<()> {
        let path = format!("/v2/{}/blobs/uploads/", name.repository);
        let request = Request::builder().method(Method::POST).uri(path);
        let opened = self.exchange(request, Bytes::new()).await?;
        let location = opened
            .headers
            .get(header::LOCATION)
            .and_then(|place| place.to_str().ok());
        let location: Uri = location.and_then(|place| place.parse().ok()).ok_or_else(|| {
            Error::Setup(format!(
                "the registry {} takes no blob of {}: {}",
                self.address,
                name.repository,
                opened.text()
            ))
        })?;
        let query = location.query().map(|query| format!("{query}&")).unwrap_or_default();
        let place = format!("{}?{query}digest={}", location.path(), blob.digest);
        let request = Request::builder().method(Method::PUT).uri(place);
        let request = request.header(header::CONTENT_TYPE, "application/octet-stream");
        expect_created(self.exchange(request, blob.data.clone()).await?, &name.repository)
    }

    async fn exchange(&self, request: request::Builder, body: Bytes) -> Result<Response> {
        let request = request.body(Full::new(body));
        let request = request.map_err(|cause| Error::Setup(format!("request to the registry: {cause}")))?;
        let stream = TcpStream::connect(&self.address).await;
        let stream =
            stream.map_err(|cause| Error::Setup(format!("cannot reach the registry {}: {cause}", self.address)))?;
        send(stream, request).await
    }
}

fn is_manifest(blob: &Blob) -> bool {
    [media::MANIFEST, media::INDEX].contains(&blob.media_type.as_str())
}

fn expect_created(response: Response, image: &str) -> Result<()> {
    if response.status == StatusCode::CREATED {
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

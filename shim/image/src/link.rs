//! The connection to containerd, and what its answers mean.

use std::path::Path;

use containerd_client::services::v1 as api;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::tonic::metadata::{Ascii, MetadataValue};
use containerd_client::tonic::transport::{self, Channel};
use containerd_client::tonic::{Code, Request, Response, Status, Streaming};

use crate::{Digest, ErrorKind, ImageError};

/// A connection that speaks for one namespace.
#[derive(Debug)]
pub struct Link {
    /// To make clients of, one per call: a clone is a reference.
    pub channel: Channel,
    namespace: MetadataValue<Ascii>,
}

/// A blob that is being read from the content service.
pub struct Blob {
    digest: Digest,
    first: Option<Vec<u8>>,
    rest: Streaming<api::ReadContentResponse>,
}

impl Link {
    /// Connects to the unix socket.
    pub async fn connect(address: &Path, namespace: &str) -> Result<Self, ImageError> {
        let namespace = namespace.parse().map_err(|_| ImageError::Namespace(namespace.into()))?;
        let channel = containerd_client::connect(address)
            .await
            .map_err(|e| ImageError::Unreachable {
                address: address.display().to_string(),
                reason: causes(&e),
            })?;
        Ok(Self { channel, namespace })
    }

    /// A request in the link's namespace.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request
            .metadata_mut()
            .insert("containerd-namespace", self.namespace.clone());
        request
    }

    /// Starts to read a blob; None if it is not stored.
    pub async fn read(&self, digest: &Digest) -> Result<Option<Blob>, ImageError> {
        let request = self.request(api::ReadContentRequest {
            digest: digest.to_string(),
            ..Default::default()
        });
        let answer = ContentClient::new(self.channel.clone()).read(request).await;
        let Some(mut rest) = found(answer, "Content.Read", &digest.to_string())? else {
            return Ok(None);
        };
        // That the blob is not there may be said by the call or by the stream.
        let first = match rest.message().await {
            Ok(message) => message.map(|message| message.data),
            Err(status) if status.code() == Code::NotFound => return Ok(None),
            Err(status) => return Err(failed("Content.Read", &digest.to_string(), &status)),
        };
        Ok(Some(Blob {
            digest: *digest,
            first,
            rest,
        }))
    }

    /// Digests of the content whose labels match one of these filters, the first `limit` of them.
    pub async fn list(&self, filters: Vec<String>, limit: usize) -> Result<Vec<Digest>, ImageError> {
        let object = filters.join(" or ");
        let failed = |status| failed("Content.List", &object, &status);
        let request = self.request(api::ListContentRequest { filters });
        let mut stream = ContentClient::new(self.channel.clone())
            .list(request)
            .await
            .map_err(failed)?
            .into_inner();
        let mut digests = Vec::new();
        while let Some(answer) = stream.message().await.map_err(failed)? {
            let infos = answer.info.into_iter();
            digests.extend(infos.filter_map(|info| Digest::try_from(info.digest).ok()));
            digests.truncate(limit);
        }
        Ok(digests)
    }
}

impl Blob {
    /// The next part; None at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ImageError> {
        if self.first.is_some() {
            return Ok(self.first.take());
        }
        match self.rest.message().await {
            Ok(message) => Ok(message.map(|message| message.data)),
            Err(status) => Err(failed("Content.Read", &self.digest.to_string(), &status)),
        }
    }
}

/// An answer, or None where containerd says that there is no such object.
pub fn found<T>(
    answer: Result<Response<T>, Status>,
    call: &'static str,
    object: &str,
) -> Result<Option<T>, ImageError> {
    match answer {
        Ok(answer) => Ok(Some(answer.into_inner())),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(failed(call, object, &status)),
    }
}

/// The error for a call that failed.
pub fn failed(call: &'static str, object: &str, status: &Status) -> ImageError {
    let broken = std::error::Error::source(status).is_some_and(|source| source.is::<transport::Error>());
    let kind = match status.code() {
        _ if broken => ErrorKind::Unavailable,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => ErrorKind::Unavailable,
        Code::NotFound => ErrorKind::NotFound,
        Code::InvalidArgument => ErrorKind::InvalidArgument,
        Code::FailedPrecondition => ErrorKind::FailedPrecondition,
        _ => ErrorKind::Internal,
    };
    ImageError::Call {
        call,
        object: object.into(),
        reason: format!("{:?}: {}", status.code(), status.message()),
        kind,
    }
}

/// An error with all of its causes: the transport's own text hides the reason.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_of_a_failed_call_follows_its_code() {
        for (code, kind) in [
            (Code::NotFound, ErrorKind::NotFound),
            (Code::Unavailable, ErrorKind::Unavailable),
            (Code::DeadlineExceeded, ErrorKind::Unavailable),
            (Code::FailedPrecondition, ErrorKind::FailedPrecondition),
            (Code::Unknown, ErrorKind::Internal),
        ] {
            let error = failed("Containers.Get", "c1", &Status::new(code, "because"));
            assert_eq!(error.kind(), kind);
            let text = error.to_string();
            assert!(
                ["Containers.Get", "c1", "because"]
                    .iter()
                    .all(|part| text.contains(part))
            );
        }
    }

    #[test]
    fn a_socket_that_is_not_there_and_a_bad_namespace_are_named() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let nowhere = Path::new("/nonexistent/containerd.sock");
        let error = runtime.block_on(Link::connect(nowhere, "ns")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("/nonexistent/containerd.sock: "), "{error}");
        assert!(error.to_string().contains("No such file"), "{error}");
        let error = runtime.block_on(Link::connect(nowhere, "a\nb")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}

//! From a container's id to its module: the order of the questions, and what follows from the answers.

use crate::evidence::Evidence;
use crate::layer;
use crate::manifest::{self, Config, Descriptor, Document, MAX_MANIFESTS, Manifest};
use crate::platform::{self, Rank};
use crate::resolver::{Resolution, WasmLayer};
use crate::source::{Container, Source};
use crate::{Digest, ImageError};

/// Deepest nesting of indexes followed. Two levels exist in the field.
const MAX_DEPTH: usize = 4;

/// The config of an application as `spin registry push` stores it.
const SPIN_CONFIG: &str = "application/vnd.fermyon.spin.application.v1+config";

/// Finds the module of a container's image. The rules are in the crate's documentation.
pub async fn resolve(source: &impl Source, id: &str) -> Result<Resolution, ImageError> {
    let container = source.container(id).await?;
    if container.image.is_empty() {
        return Ok(Resolution::NoWasm { image: String::new() });
    }
    let (target, evidence) = question(source, &container).await?;
    let search = Search {
        source,
        id,
        container: &container,
        evidence,
    };
    let named = match &target {
        Some(target) => search.in_target(target).await?,
        None => None,
    };
    match named {
        Some(found) => Ok(found),
        None => search.elsewhere(target.is_some()).await,
    }
}

/// What the image's name stands for now, and what the container can be recognised by.
async fn question(source: &impl Source, container: &Container) -> Result<(Option<Descriptor>, Evidence), ImageError> {
    match &container.cri_image_id {
        // CRI keeps a record of every image under its id, and that name is never moved.
        Some(id) => {
            let mut target = source.target(&id.to_string()).await?;
            if target.is_none() {
                target = source.target(&container.image).await?;
            }
            Ok((target, Evidence::Config(*id)))
        }
        None => tokio::try_join!(source.target(&container.image), source.evidence(container)),
    }
}

struct Search<'a, S> {
    source: &'a S,
    id: &'a str,
    container: &'a Container,
    evidence: Evidence,
}

impl<S: Source> Search<'_, S> {
    /// Looks for the container's image in what its name stands for. None if nothing there fits the container.
    async fn in_target(&self, target: &Descriptor) -> Result<Option<Resolution>, ImageError> {
        match self.document(&target.digest).await? {
            // A manifest that was not chosen among several: its platform does not matter.
            Some(Document::Manifest(manifest)) => {
                let Some(config) = self.config(&manifest).await? else {
                    return Err(self.missing(&manifest.config.digest));
                };
                if self.evidence.fits(&manifest, &config, true) {
                    self.module(&manifest, &config).map(Some)
                } else {
                    Ok(None)
                }
            }
            Some(Document::Index(children)) => {
                let candidates = self.flatten(children).await?;
                if candidates.is_empty() {
                    return Err(self.malformed(&target.digest, "an index without images".into()));
                }
                self.in_index(candidates).await
            }
            None => Ok(None),
        }
    }

    /// Looks for the container's image among those of an index, the most wanted platform first.
    async fn in_index(&self, mut candidates: Vec<(Rank, Descriptor)>) -> Result<Option<Resolution>, ImageError> {
        candidates.sort_by_key(|(rank, _)| *rank);
        let only = candidates.len() == 1;
        let mut platforms = Vec::new();
        let mut any_runnable = false;
        let mut absent = None;
        for (rank, descriptor) in &candidates {
            let (platform, runnable) = match self.image_of(descriptor).await? {
                Ok((manifest, config)) => {
                    let platform = descriptor.platform.clone().unwrap_or_else(|| config.platform.clone());
                    let runnable = only || Rank::of(Some(&platform), platform::host_arch()).runnable();
                    if self.evidence.fits(&manifest, &config, runnable) {
                        return self.module(&manifest, &config).map(Some);
                    }
                    (platform, runnable)
                }
                // An index is often pulled for one platform only.
                Err(digest) => {
                    if rank.runnable() && absent.is_none() {
                        absent = Some(digest);
                    }
                    (descriptor.platform.clone().unwrap_or_default(), rank.runnable())
                }
            };
            any_runnable |= runnable;
            platforms.push(platform.to_string());
        }
        match (&self.evidence, absent) {
            // Evidence that is exact says that none of these is the image; it may be elsewhere.
            (Evidence::Config(_) | Evidence::Parent(Some(_)), _) => Ok(None),
            (_, Some(digest)) => Err(self.missing(&digest)),
            (_, None) if any_runnable => Ok(None),
            (_, None) => Err(ImageError::NoMatchingPlatform {
                image: self.container.image.clone(),
                platforms,
                host: format!("linux/{}", platform::host_arch()),
            }),
        }
    }

    /// Manifest and config of one image; else the digest of what is not stored.
    async fn image_of(&self, descriptor: &Descriptor) -> Result<Result<(Manifest, Config), Digest>, ImageError> {
        match self.document(&descriptor.digest).await? {
            Some(Document::Manifest(manifest)) => Ok(match self.config(&manifest).await? {
                Some(config) => Ok((manifest, config)),
                None => Err(manifest.config.digest),
            }),
            Some(Document::Index(_)) => {
                Err(self.malformed(&descriptor.digest, "an index that is referred to as a manifest".into()))
            }
            None => Ok(Err(descriptor.digest)),
        }
    }

    /// All images of an index, nested indexes included.
    async fn flatten(&self, children: Vec<Descriptor>) -> Result<Vec<(Rank, Descriptor)>, ImageError> {
        let mut flat = Vec::new();
        let mut open: Vec<(usize, Descriptor)> = children.into_iter().rev().map(|child| (1, child)).collect();
        while let Some((depth, descriptor)) = open.pop() {
            if flat.len() + open.len() > MAX_MANIFESTS || depth > MAX_DEPTH {
                let reason = format!("indexes nested over {MAX_DEPTH} deep or with over {MAX_MANIFESTS} manifests");
                return Err(self.malformed(&descriptor.digest, reason));
            }
            if is_index(&descriptor.media_type) {
                if let Some(Document::Index(children)) = self.document(&descriptor.digest).await? {
                    open.extend(children.into_iter().rev().map(|child| (depth + 1, child)));
                }
                continue;
            }
            let rank = Rank::of(descriptor.platform.as_ref(), platform::host_arch());
            if is_manifest(&descriptor.media_type) && rank != Rank::NoImage {
                flat.push((rank, descriptor));
            }
        }
        Ok(flat)
    }

    /// Looks for the container's image in all content of the node, as its name no longer leads to it.
    async fn elsewhere(&self, name_exists: bool) -> Result<Resolution, ImageError> {
        let configs = match &self.evidence {
            Evidence::Config(config) => vec![*config],
            Evidence::Parent(Some(chain)) => self.source.configs_of_chain(&self.container.snapshotter, chain).await?,
            Evidence::Parent(None) | Evidence::Nothing => Vec::new(),
        };
        let mut found: Vec<Resolution> = Vec::new();
        for config_digest in &configs {
            for digest in self.source.manifests_of_config(config_digest).await? {
                let Some(Document::Manifest(manifest)) = self.document(&digest).await? else {
                    continue;
                };
                if manifest.config.digest != *config_digest {
                    continue;
                }
                let Some(config) = self.config(&manifest).await? else {
                    continue;
                };
                if !self.evidence.fits(&manifest, &config, true) {
                    continue;
                }
                let resolution = self.module(&manifest, &config)?;
                if !found.iter().any(|other| other.digest() == resolution.digest()) {
                    found.push(resolution);
                }
            }
        }
        let (image, container) = (self.container.image.clone(), self.id.to_owned());
        match (found.pop(), found.is_empty()) {
            (Some(only), true) => Ok(only),
            (Some(last), false) => {
                found.push(last);
                let digests = found.iter().filter_map(Resolution::digest).cloned().collect();
                Err(ImageError::Ambiguous {
                    image,
                    container,
                    digests,
                })
            }
            (None, _) if name_exists => Err(ImageError::Retagged {
                image,
                container,
                expected: self.evidence.to_string(),
            }),
            (None, _) => Err(ImageError::ImageGone { image, container }),
        }
    }

    /// A manifest or an index; None if it is not stored.
    async fn document(&self, digest: &Digest) -> Result<Option<Document>, ImageError> {
        let Some(bytes) = self.source.document(&self.container.image, digest).await? else {
            return Ok(None);
        };
        manifest::parse_document(&bytes)
            .map(Some)
            .map_err(|reason| self.malformed(digest, reason))
    }

    /// The config of an image; None if it is not stored.
    async fn config(&self, manifest: &Manifest) -> Result<Option<Config>, ImageError> {
        let Descriptor { media_type, digest, .. } = &manifest.config;
        if !manifest::has_config(media_type) {
            return Ok(Some(Config::default()));
        }
        let Some(bytes) = self.source.document(&self.container.image, digest).await? else {
            return Ok(None);
        };
        manifest::parse_config(media_type, &bytes)
            .map(Some)
            .map_err(|reason| self.malformed(digest, reason))
    }

    fn missing(&self, digest: &Digest) -> ImageError {
        ImageError::ContentMissing {
            image: self.container.image.clone(),
            digest: *digest,
        }
    }

    fn malformed(&self, digest: &Digest, reason: String) -> ImageError {
        ImageError::Malformed {
            image: self.container.image.clone(),
            digest: *digest,
            reason,
        }
    }

    fn module(&self, manifest: &Manifest, config: &Config) -> Result<Resolution, ImageError> {
        let image = self.container.image.clone();
        Ok(match layer::module(&image, manifest, config)? {
            None => Resolution::NoWasm { image },
            Some(layer) => Resolution::Module(WasmLayer {
                digest: layer.digest,
                size: layer.size,
                media_type: layer.media_type.clone(),
                image,
                spin: manifest.config.media_type == SPIN_CONFIG,
            }),
        })
    }
}

fn is_index(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.oci.image.index.v1+json" | "application/vnd.docker.distribution.manifest.list.v2+json"
    )
}

fn is_manifest(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.oci.image.manifest.v1+json" | "application/vnd.docker.distribution.manifest.v2+json"
    )
}

#[cfg(test)]
mod tests;

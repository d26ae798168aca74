//! Manifests, indexes and configurations: fetched, verified, and the right one chosen.

use crate::answer::body;
use crate::host::{Host, Request, pull_scope};
use crate::{Credentials, Platform, RegistryError, Remote, RemoteLayer};
use bytes::Bytes;
use gantry_oci::manifest::{Descriptor, ImageIndex, ImageManifest, Manifest};
use gantry_oci::media_type::{DOCKER_CONFIG, OCI_CONFIG};
use gantry_oci::{Digest, Reference};
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::{Method, Response};
use std::time::Instant;

/// What we can read, best first.
pub(crate) const READABLE: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.1";

/// Largest manifest that is read, bytes (the distribution project's own limit).
pub(crate) const LARGEST_MANIFEST: usize = 4 << 20;
/// Largest configuration that is read, bytes.
pub(crate) const LARGEST_CONFIG: u64 = 8 << 20;
/// An index may name an index; deeper is a trap.
const DEEPEST: usize = 3;

pub(crate) async fn resolve(
    host: &Host,
    reference: &Reference,
    platform: &Platform,
    credentials: Option<&Credentials>,
) -> Result<Remote, RegistryError> {
    let fetch = Fetch::new(host, reference, credentials);
    let (digest, mut bytes) = fetch.named().await?;
    let mut index = None;
    for _ in 0..DEEPEST {
        match parse(&bytes)? {
            Manifest::Image(manifest) => {
                is_image(&manifest.config.media_type)?;
                let config = fetch.config(&manifest.config).await?;
                return Ok(Remote {
                    digest,
                    manifest: bytes,
                    index,
                    config,
                    layers: layers(*manifest),
                });
            }
            Manifest::Index(list) => {
                let chosen = choose(&list, platform)
                    .ok_or_else(|| RegistryError::NoPlatform(platform.to_string()))?;
                let next = fetch.manifest(&chosen.digest).await?;
                // Only what the reference names is kept: the way down can be found again from it.
                index.get_or_insert(std::mem::replace(&mut bytes, next));
            }
        }
    }
    Err(RegistryError::Protocol(format!(
        "the manifest list of {} is nested too deep",
        reference.familiar()
    )))
}

/// Whether a manifest is an image's, by its configuration's media type.
// COMPAT: moby's validateMediaType (distribution/pull_v2.go): also what registries wrote there before there were types.
fn is_image(media_type: &str) -> Result<(), RegistryError> {
    let class = match media_type {
        OCI_CONFIG | DOCKER_CONFIG => return Ok(()),
        "application/octet-stream" | "application/json" | "text/html" | "" => return Ok(()),
        "application/vnd.docker.plugin.v1+json" => "plugin",
        _ => "unknown",
    };
    Err(RegistryError::Invalid(format!(
        "Encountered remote {media_type:?}({class}) when fetching"
    )))
}

/// The digest of what a tag stands for, where the registry tells it without sending the document: that costs nothing of
/// what it allows its clients. Only a registry that is not there is an error.
pub(crate) async fn digest(
    host: &Host,
    reference: &Reference,
    credentials: Option<&Credentials>,
) -> Result<Option<Digest>, RegistryError> {
    let scopes = [pull_scope(&reference.path)];
    let tag = reference.tag.as_deref().unwrap_or("latest");
    let path = format!("manifests/{tag}");
    let mut request = Request::get(reference, &path, &scopes, credentials);
    request.method = Method::HEAD;
    let readable = HeaderValue::from_static(READABLE);
    request.headers.insert(ACCEPT, readable);
    let answer = host.ask(&request).await;
    let response = match answer.map_err(|why| why.pulling(reference)) {
        Ok(response) => response,
        Err(lost @ RegistryError::Unreachable(_)) => return Err(lost),
        Err(_) => return Ok(None),
    };
    let told = response.headers().get("docker-content-digest");
    Ok(told.and_then(|value| Digest::parse(value.to_str().ok()?).ok()))
}

/// Documents of one repository.
pub(crate) struct Fetch<'a> {
    host: &'a Host,
    reference: &'a Reference,
    scopes: [String; 1],
    credentials: Option<&'a Credentials>,
}

impl<'a> Fetch<'a> {
    pub(crate) fn new(
        host: &'a Host,
        reference: &'a Reference,
        credentials: Option<&'a Credentials>,
    ) -> Self {
        Self {
            host,
            reference,
            scopes: [pull_scope(&reference.path)],
            credentials,
        }
    }

    /// An answer's headers and body.
    pub(crate) async fn bytes(
        &self,
        path: &str,
        accept: Option<&'static str>,
        limit: usize,
    ) -> Result<(HeaderMap, Bytes), RegistryError> {
        let mut request = Request::get(self.reference, path, &self.scopes, self.credentials);
        if let Some(accept) = accept {
            request
                .headers
                .insert(ACCEPT, HeaderValue::from_static(accept));
        }
        let mut response = self.answer(&request).await?;
        let headers = std::mem::take(response.headers_mut());
        let url = response.url().to_string();
        Ok((headers, body(&url, response, limit).await?))
    }

    /// Asks again where the registry stumbles, but not where it is silent.
    async fn answer(&self, request: &Request<'_>) -> Result<Response, RegistryError> {
        let (options, began) = (&self.host.options, Instant::now());
        let mut failures = 0;
        loop {
            let why = match self.host.ask(request).await {
                Ok(response) => return Ok(response),
                Err(why) => why,
            };
            failures += 1;
            let passing = why.is_passing() && began.elapsed() < options.idle_timeout;
            let error = why.pulling(self.reference);
            let lost = matches!(error, RegistryError::Unreachable(_));
            if !passing || lost || failures >= options.attempts {
                return Err(error);
            }
            tracing::info!(%error, "a document is asked for again");
            tokio::time::sleep(options.pause_before(failures)).await;
        }
    }

    /// What the reference names; a digest counts before a tag.
    pub(crate) async fn named(&self) -> Result<(Digest, Bytes), RegistryError> {
        if let Some(digest) = &self.reference.digest {
            return Ok((digest.clone(), self.manifest(digest).await?));
        }
        let tag = self.reference.tag.as_deref().unwrap_or("latest");
        let (bytes, told) = self.manifest_bytes(tag).await?;
        let digest = Digest::of(&bytes);
        match told {
            Some(told) if told != digest => Err(mismatch(&told, &digest)),
            _ => Ok((digest, bytes)),
        }
    }

    async fn manifest(&self, digest: &Digest) -> Result<Bytes, RegistryError> {
        let (bytes, _) = self.manifest_bytes(digest.as_str()).await?;
        let found = Digest::of(&bytes);
        if found == *digest {
            Ok(bytes)
        } else {
            Err(mismatch(digest, &found))
        }
    }

    /// The bytes and the digest that the registry gives for them.
    async fn manifest_bytes(&self, name: &str) -> Result<(Bytes, Option<Digest>), RegistryError> {
        let path = format!("manifests/{name}");
        let (headers, bytes) = self.bytes(&path, Some(READABLE), LARGEST_MANIFEST).await?;
        let told = headers.get("docker-content-digest");
        let told = told.and_then(|value| Digest::parse(value.to_str().ok()?).ok());
        Ok((bytes, told))
    }

    async fn config(&self, descriptor: &Descriptor) -> Result<Bytes, RegistryError> {
        if descriptor.size > LARGEST_CONFIG {
            return Err(RegistryError::Protocol(format!(
                "the configuration {} is larger than {LARGEST_CONFIG} bytes",
                descriptor.digest
            )));
        }
        let path = format!("blobs/{}", descriptor.digest);
        let (_, bytes) = self.bytes(&path, None, LARGEST_CONFIG as usize).await?;
        let found = Digest::of(&bytes);
        if found != descriptor.digest {
            // COMPAT: moby's words (distribution/pull_v2.go, pullSchema2Config).
            return Err(RegistryError::Protocol(format!(
                "image config verification failed for digest {}",
                descriptor.digest
            )));
        }
        Ok(bytes)
    }
}

pub(crate) fn mismatch(expected: &Digest, found: &Digest) -> RegistryError {
    tracing::warn!(%expected, %found, "a manifest has another digest");
    RegistryError::Protocol(format!(
        "manifest verification failed for digest {expected}"
    ))
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Manifest, RegistryError> {
    Manifest::parse(bytes).map_err(|error| {
        let mut text = format!("the registry's manifest is broken: {error}");
        if let Some(source) = std::error::Error::source(&error) {
            text.push_str(&format!(": {source}"));
        }
        RegistryError::Protocol(text)
    })
}

fn layers(manifest: ImageManifest) -> Vec<RemoteLayer> {
    let layers = manifest.layers.into_iter().map(|layer| RemoteLayer {
        digest: layer.digest,
        size: layer.size,
        media_type: layer.media_type,
    });
    layers.collect()
}

/// The entry for a platform: the same variant first, then one that the machine can run as well.
fn choose<'a>(index: &'a ImageIndex, wanted: &Platform) -> Option<&'a Descriptor> {
    let candidates = index.manifests.iter().filter(|entry| {
        entry
            .platform
            .as_ref()
            .is_some_and(|p| p.os == wanted.os && p.architecture == wanted.architecture)
    });
    let rank = |entry: &Descriptor| {
        let variant = entry.platform.as_ref().and_then(|p| p.variant.as_deref());
        rank(&wanted.architecture, wanted.variant.as_deref(), variant)
    };
    candidates
        .filter_map(|entry| Some((rank(entry)?, entry)))
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, entry)| entry)
}

/// How well a variant fits, 0 best; `None`: it does not run there.
fn rank(architecture: &str, wanted: Option<&str>, offered: Option<&str>) -> Option<u32> {
    let number = |variant: Option<&str>| match (variant, architecture) {
        (None | Some(""), "arm") => Some(7),
        (None | Some(""), "arm64") => Some(8),
        (None | Some(""), "amd64") => Some(1),
        (None | Some(""), _) => Some(0),
        (Some(text), _) => text.strip_prefix('v')?.parse::<u32>().ok(),
    };
    match (number(wanted), number(offered)) {
        (Some(wanted), Some(offered)) => wanted.checked_sub(offered),
        _ => (wanted == offered).then_some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::rank;

    #[test]
    fn variants() {
        assert_eq!(rank("arm", Some("v7"), Some("v7")), Some(0));
        assert_eq!(rank("arm", Some("v7"), Some("v6")), Some(1));
        assert_eq!(rank("arm", Some("v6"), Some("v7")), None);
        assert_eq!(rank("arm64", None, Some("v8")), Some(0));
        assert_eq!(rank("amd64", None, None), Some(0));
        assert_eq!(rank("amd64", None, Some("v3")), None);
        assert_eq!(rank("amd64", Some("v3"), None), Some(2));
        assert_eq!(rank("mips", None, Some("odd")), None);
    }
}

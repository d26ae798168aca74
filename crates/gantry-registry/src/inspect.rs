//! What a registry has under a name, without fetching the image: documents as they are, in the registry's own words
//! where there are none.

use crate::answer::{Unanswered, body};
use crate::document::{LARGEST_CONFIG, LARGEST_MANIFEST, READABLE, mismatch, parse};
use crate::host::{Host, Request, pull_scope};
use crate::{Credentials, Registry, RegistryError, passed_over};
use bytes::Bytes;
use gantry_oci::manifest::{Descriptor, Manifest, Platform};
use gantry_oci::media_type::DOCKER_MANIFEST;
use gantry_oci::{Digest, Reference};
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};

/// A manifest or an index, as a registry has it.
#[derive(Debug, Clone)]
pub struct Document {
    /// Of the bytes; the same that was asked for, where that was a digest.
    pub digest: Digest,
    pub media_type: String,
    pub bytes: Bytes,
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub struct Inspection {
    pub digest: Digest,
    pub media_type: String,
    /// Bytes.
    pub size: u64,
    pub platforms: Vec<Platform>,
}

impl Registry {
    /// What a reference stands for, and for which platforms.
    pub async fn inspect(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Inspection, RegistryError> {
        for mirror in self.mirrors(reference).await {
            match inspect(&Asking::of(&mirror, reference, credentials)).await {
                Ok(found) => return Ok(found),
                Err(why) => passed_over(reference, &why),
            }
        }
        let host = self.host(&reference.domain).await?;
        inspect(&Asking::of(&host, reference, credentials)).await
    }

    /// The manifest or index that a reference stands for.
    pub async fn document(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Document, RegistryError> {
        let host = self.host(&reference.domain).await?;
        Asking::of(&host, reference, credentials).document().await
    }

    /// Whether the registry is spoken to without TLS.
    pub async fn is_plain(&self, reference: &Reference) -> Result<bool, RegistryError> {
        let host = self.host(&reference.domain).await?;
        Ok(host.base().await?.starts_with("http://"))
    }

    /// A manifest's configuration.
    pub async fn configuration(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        credentials: Option<&Credentials>,
    ) -> Result<Bytes, RegistryError> {
        let host = self.host(&reference.domain).await?;
        let asking = Asking::of(&host, reference, credentials);
        asking.configuration(descriptor).await
    }
}

async fn inspect(asking: &Asking<'_>) -> Result<Inspection, RegistryError> {
    let document = asking.document().await?;
    let platforms = match parse(&document.bytes)? {
        Manifest::Index(index) => {
            let entries = index.manifests.into_iter();
            entries
                .map(|entry| entry.platform.unwrap_or_default())
                .collect()
        }
        // COMPAT: of a single OCI manifest Docker does not tell the platform.
        Manifest::Image(image) if document.media_type == DOCKER_MANIFEST => {
            let config = asking.configuration(&image.config).await;
            let platform = config
                .ok()
                .and_then(|config| serde_json::from_slice::<Platform>(&config).ok());
            platform.into_iter().collect()
        }
        Manifest::Image(_) => Vec::new(),
    };
    Ok(Inspection {
        size: document.bytes.len() as u64,
        digest: document.digest,
        media_type: document.media_type,
        platforms,
    })
}

/// Questions about one repository.
struct Asking<'a> {
    host: &'a Host,
    reference: &'a Reference,
    scopes: [String; 1],
    credentials: Option<&'a Credentials>,
}

impl<'a> Asking<'a> {
    fn of(
        host: &'a Host,
        reference: &'a Reference,
        credentials: Option<&'a Credentials>,
    ) -> Asking<'a> {
        Asking {
            host,
            reference,
            scopes: [pull_scope(&reference.path)],
            credentials,
        }
    }

    async fn document(&self) -> Result<Document, RegistryError> {
        let name = match (&self.reference.digest, &self.reference.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, tag) => tag.as_deref().unwrap_or("latest"),
        };
        let path = format!("manifests/{name}");
        let (headers, bytes) = self.get(&path, Some(READABLE), LARGEST_MANIFEST).await?;
        let digest = Digest::of(&bytes);
        let told = headers.get("docker-content-digest");
        let told = told.and_then(|value| Digest::parse(value.to_str().ok()?).ok());
        let expected = self.reference.digest.clone().or(told);
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(mismatch(&expected, &digest));
        }
        Ok(Document {
            media_type: media_type(&bytes, &headers),
            digest,
            bytes,
        })
    }

    async fn configuration(&self, descriptor: &Descriptor) -> Result<Bytes, RegistryError> {
        if descriptor.size > LARGEST_CONFIG {
            return Err(RegistryError::Protocol(format!(
                "the configuration {} is larger than {LARGEST_CONFIG} bytes",
                descriptor.digest
            )));
        }
        let path = format!("blobs/{}", descriptor.digest);
        let (_, bytes) = self.get(&path, None, LARGEST_CONFIG as usize).await?;
        if Digest::of(&bytes) != descriptor.digest {
            return Err(RegistryError::Protocol(format!(
                "image config verification failed for digest {}",
                descriptor.digest
            )));
        }
        Ok(bytes)
    }

    async fn get(
        &self,
        path: &str,
        accept: Option<&'static str>,
        limit: usize,
    ) -> Result<(HeaderMap, Bytes), RegistryError> {
        let mut request = Request::get(self.reference, path, &self.scopes, self.credentials);
        if let Some(accept) = accept {
            let accept = HeaderValue::from_static(accept);
            request.headers.insert(ACCEPT, accept);
        }
        let response = self.host.ask(&request).await;
        let mut response = response.map_err(Unanswered::plain)?;
        let headers = std::mem::take(response.headers_mut());
        let url = response.url().to_string();
        Ok((headers, body(&url, response, limit).await?))
    }
}

impl Unanswered {
    /// The registry's words as they are.
    fn plain(self) -> RegistryError {
        match self {
            Self::Refused(refusal) => {
                let cause = refusal.cause();
                match (refusal.code.as_str(), refusal.status) {
                    ("", status) => RegistryError::Protocol(format!(
                        "received unexpected HTTP status: {status}"
                    )),
                    (_, StatusCode::NOT_FOUND) => RegistryError::NotFound(cause),
                    (_, StatusCode::UNAUTHORIZED) => RegistryError::Unauthorized(cause),
                    (_, StatusCode::FORBIDDEN) => RegistryError::Denied(cause),
                    (_, StatusCode::TOO_MANY_REQUESTS) => RegistryError::TooMany(cause),
                    _ => RegistryError::Protocol(cause),
                }
            }
            Self::Ungranted(refusal) => {
                RegistryError::Denied(format!("Get {:?}: {}", refusal.url, refusal.cause()))
            }
            Self::Failed(error) => error,
        }
    }
}

/// What the document says it is, else what the registry says.
fn media_type(bytes: &[u8], headers: &HeaderMap) -> String {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        media_type: String,
    }
    if let Ok(head) = serde_json::from_slice::<Head>(bytes) {
        return head.media_type;
    }
    let told = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let told = told.unwrap_or_default().split(';').next();
    told.unwrap_or_default().trim().to_owned()
}

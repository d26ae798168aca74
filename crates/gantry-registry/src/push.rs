//! A repository that is pushed to.

use crate::answer::Unanswered;
use crate::host::{Host, Payload, Request, Target, pull_scope};
use crate::upload::{self, ATTEMPTS, Upload};
use crate::{Credentials, RegistryError};
use bytes::Bytes;
use gantry_oci::{Digest, Reference};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

/// A repository that is pushed to, see [`crate::Registry::push`].
#[derive(Debug)]
pub struct Push {
    pub(crate) host: Arc<Host>,
    /// Behind the host's name.
    pub(crate) repository: String,
    scopes: [String; 1],
    credentials: Option<Credentials>,
}

/// A blob that goes to a registry.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    pub source: Source,
}

/// Where a blob's bytes come from; they may be read more than once.
#[derive(Debug, Clone)]
pub enum Source {
    Bytes(Bytes),
    File(Arc<File>),
}

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// Bytes that are on their way.
    At(u64),
    /// The next try begins after a pause.
    Waiting(Duration),
}

impl Push {
    /// Finds out how the registry is spoken to.
    pub(crate) async fn open(
        host: Arc<Host>,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Self, RegistryError> {
        host.base().await?;
        Ok(Self {
            host,
            repository: reference.path.clone(),
            scopes: [format!("repository:{}:pull,push", reference.path)],
            credentials: credentials.cloned(),
        })
    }

    pub(crate) fn request(&self, method: Method, target: Target) -> Request<'_> {
        Request {
            method,
            target,
            headers: HeaderMap::new(),
            payload: Payload::Nothing,
            patient: false,
            scopes: &self.scopes,
            credentials: self.credentials.as_ref(),
        }
    }

    /// Whether the repository has a blob of this digest and size. A registry that does not say has none.
    pub async fn has(&self, digest: &Digest, size: u64) -> Result<bool, RegistryError> {
        let path = format!("{}/blobs/{digest}", self.repository);
        let request = self.request(Method::HEAD, Target::Path(path));
        match self.host.ask(&request).await {
            Ok(response) => {
                let told = response.headers().get(CONTENT_LENGTH);
                let told = told.and_then(|value| value.to_str().ok()?.parse().ok());
                Ok(told.is_none_or(|told: u64| told == size))
            }
            Err(Unanswered::Failed(error)) => Err(error),
            Err(Unanswered::Refused(refusal) | Unanswered::Ungranted(refusal)) => {
                let why = refusal.cause();
                tracing::debug!(%digest, why, "the registry does not show a blob");
                Ok(false)
            }
        }
    }

    /// Takes a blob over from another repository of the same registry (`from`, without the host); says whether
    /// that was possible.
    pub async fn mount(&self, digest: &Digest, from: &str) -> Result<bool, RegistryError> {
        let path = format!(
            "{}/blobs/uploads/?mount={digest}&from={from}",
            self.repository
        );
        let scopes = [self.scopes[0].clone(), pull_scope(from)];
        let mut request = self.request(Method::POST, Target::Path(path));
        request.scopes = &scopes;
        match self.host.ask(&request).await {
            Ok(response) if response.status() == StatusCode::CREATED => Ok(true),
            Ok(response) => {
                // The registry has begun an upload instead.
                if let Ok(location) = upload::location(&response) {
                    upload::cancel(&self.host, self, location).await;
                }
                Ok(false)
            }
            Err(Unanswered::Failed(error)) => Err(error),
            Err(Unanswered::Refused(refusal) | Unanswered::Ungranted(refusal)) => {
                let why = refusal.cause();
                tracing::debug!(%digest, from, why, "the registry does not mount a blob");
                Ok(false)
            }
        }
    }

    /// Sends a blob. A broken connection is made again and the upload taken up where it ended, within bounds.
    pub async fn upload(
        &self,
        blob: &Outgoing,
        tell: &(dyn Fn(Sending) + Sync),
    ) -> Result<(), RegistryError> {
        let upload = Upload {
            push: self,
            blob,
            tell,
        };
        upload.run().await
    }

    /// Names a manifest (a tag, or its own digest), whose blobs are all there.
    pub async fn put_manifest(
        &self,
        name: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<(), RegistryError> {
        let path = format!("{}/manifests/{name}", self.repository);
        let mut request = self.request(Method::PUT, Target::Path(path));
        let kind = HeaderValue::from_str(media_type)
            .map_err(|_| RegistryError::Protocol(format!("{media_type:?} is no media type")))?;
        request.headers.insert(CONTENT_TYPE, kind);
        request.payload = Payload::Bytes(bytes.clone());
        request.patient = true;
        let options = &self.host.options;
        let mut failures = 0;
        loop {
            let asked = self.host.ask(&request);
            let asked = tokio::time::timeout(options.commit_timeout, asked).await;
            let failure = match asked {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(failure)) => failure,
                Err(_) => {
                    let text = format!("the registry does not answer about the manifest {name}");
                    return Err(RegistryError::Protocol(text));
                }
            };
            failures += 1;
            if !failure.is_passing() || failures >= ATTEMPTS {
                return Err(failure.pushing());
            }
            tokio::time::sleep(options.pause_before(failures)).await;
        }
    }
}

//! Signatures as cosign stores them: an image of the repository, named `sha256-<hex>.sig` after the digest that was
//! signed, whose layers are the signed payloads (sigstore/cosign, specs/SIGNATURE_SPEC.md). Nothing is verified here but
//! digests: what a signature is worth is for the caller to say.

use crate::document::Fetch;
use crate::host::Host;
use crate::{Credentials, Registry, RegistryError, passed_over};
use bytes::Bytes;
use gantry_oci::manifest::{Descriptor, Manifest};
use gantry_oci::{Digest, Reference};

const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Payloads are a few hundred bytes.
const LARGEST_PAYLOAD: u64 = 64 << 10;
/// Signatures of one image that are looked at.
const MOST_SIGNATURES: usize = 64;

/// One signature.
#[derive(Debug, Clone)]
pub struct Signature {
    /// What was signed, byte by byte.
    pub payload: Bytes,
    /// The signature in base64, as the registry has it.
    pub signature: String,
}

impl Registry {
    /// The signatures that a repository has for a digest; none where nobody signed it.
    pub async fn signatures(
        &self,
        reference: &Reference,
        digest: &Digest,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<Signature>, RegistryError> {
        for mirror in self.mirrors(reference).await {
            match of(&mirror, reference, digest, credentials).await {
                Ok(found) if !found.is_empty() => return Ok(found),
                Ok(_) => {}
                Err(why) => passed_over(reference, &why),
            }
        }
        let host = self.host(&reference.domain).await?;
        of(&host, reference, digest, credentials).await
    }
}

async fn of(
    host: &Host,
    reference: &Reference,
    digest: &Digest,
    credentials: Option<&Credentials>,
) -> Result<Vec<Signature>, RegistryError> {
    let named = Reference {
        tag: Some(format!("sha256-{}.sig", digest.hex())),
        digest: None,
        ..reference.clone()
    };
    let fetch = Fetch::new(host, &named, credentials);
    let bytes = match fetch.named().await {
        Ok((_, bytes)) => bytes,
        Err(RegistryError::NotFound(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let manifest = match Manifest::parse(&bytes) {
        Ok(Manifest::Image(manifest)) => manifest,
        Ok(Manifest::Index(_)) => return Ok(Vec::new()),
        Err(error) => {
            return Err(RegistryError::Protocol(format!(
                "the signatures of {digest} are broken: {error}"
            )));
        }
    };
    let mut found = Vec::new();
    for layer in manifest.layers.iter().take(MOST_SIGNATURES) {
        if let Some(signature) = signature(layer) {
            let payload = fetch.payload(layer).await?;
            found.push(Signature { payload, signature });
        }
    }
    Ok(found)
}

fn signature(layer: &Descriptor) -> Option<String> {
    if layer.media_type != PAYLOAD || layer.size > LARGEST_PAYLOAD {
        return None;
    }
    layer.annotations.as_ref()?.get(SIGNATURE).cloned()
}

impl Fetch<'_> {
    async fn payload(&self, layer: &Descriptor) -> Result<Bytes, RegistryError> {
        let path = format!("blobs/{}", layer.digest);
        let (_, bytes) = self.bytes(&path, None, LARGEST_PAYLOAD as usize).await?;
        if Digest::of(&bytes) != layer.digest {
            return Err(RegistryError::Protocol(format!(
                "a signature's payload has another digest than {}",
                layer.digest
            )));
        }
        Ok(bytes)
    }
}

//! Manifests and indexes, OCI and Docker schema 2.

use crate::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Manifests in an index, and layers in a manifest, beyond which a document is refused.
pub const MOST_ENTRIES: usize = 1024;

/// What a document points to (OCI image spec, descriptor.md).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// What a manifest in an index is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
    #[serde(
        default,
        rename = "os.version",
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    #[serde(default, rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// An image's manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// An index of manifests.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    pub manifests: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// One document of the `manifests` endpoint of a registry or of an OCI layout.
#[derive(Clone, Debug)]
pub enum Manifest {
    Image(Box<ImageManifest>),
    Index(Box<ImageIndex>),
}

/// Why bytes are no manifest that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("the manifest is not valid JSON of its kind")]
    Json(#[source] serde_json::Error),
    #[error("unsupported manifest: {0}")]
    Unsupported(String),
    #[error("the manifest has {0} entries, more than {MOST_ENTRIES}")]
    TooMany(usize),
}

impl Manifest {
    /// Parses by `mediaType`, or by what is in it where that is missing.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Head {
            #[serde(default)]
            schema_version: u32,
            #[serde(default)]
            media_type: String,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let head: Head = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        if head.schema_version != 2 {
            return Err(ManifestError::Unsupported(format!(
                "schema version {} (2 is expected; images of schema 1 have to be pushed again by their owner)",
                head.schema_version
            )));
        }
        let many = |n: usize| {
            if n > MOST_ENTRIES {
                Err(ManifestError::TooMany(n))
            } else {
                Ok(())
            }
        };
        let index = crate::media_type::is_index(&head.media_type)
            || (head.media_type.is_empty() && head.manifests.is_some());
        if index {
            let index: ImageIndex = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
            many(index.manifests.len())?;
            return Ok(Self::Index(Box::new(index)));
        }
        if !head.media_type.is_empty() && !crate::media_type::is_manifest(&head.media_type) {
            return Err(ManifestError::Unsupported(format!(
                "media type {}",
                head.media_type
            )));
        }
        let image: ImageManifest = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        many(image.layers.len())?;
        Ok(Self::Image(Box::new(image)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart_with_and_without_a_media_type() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let entry = format!(r#"{{"mediaType":"x","digest":"{digest}","size":1}}"#);
        let image = format!(r#"{{"schemaVersion":2,"config":{entry},"layers":[]}}"#);
        assert!(matches!(
            Manifest::parse(image.as_bytes()),
            Ok(Manifest::Image(_))
        ));
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#);
        assert!(matches!(
            Manifest::parse(index.as_bytes()),
            Ok(Manifest::Index(_))
        ));
        for bad in [
            "",
            "{}",
            r#"{"schemaVersion":1}"#,
            r#"{"schemaVersion":2,"mediaType":"y"}"#,
        ] {
            assert!(Manifest::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let many = vec![entry.as_str(); MOST_ENTRIES + 1].join(",");
        let flood = format!(r#"{{"schemaVersion":2,"manifests":[{many}]}}"#);
        assert!(matches!(
            Manifest::parse(flood.as_bytes()),
            Err(ManifestError::TooMany(_))
        ));
    }
}

//! Content digests (OCI image spec, descriptor.md, "Digests"). Only `sha256` is taken.
use serde::{Deserialize, Serialize};

/// A verified-form `sha256:<64 hex>` digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// Why a text is no digest.
#[derive(Debug, thiserror::Error)]
#[error("invalid digest {0:?}: sha256 and 64 hexadecimal digits are expected")]
pub struct DigestError(pub String);

impl Digest {
    /// Parses `sha256:<64 lower-case hex>`.
    pub fn parse(_text: &str) -> Result<Self, DigestError> {
        todo!()
    }
    /// The digest of some bytes.
    pub fn of(_bytes: &[u8]) -> Self {
        todo!()
    }
    /// The 64 hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.0[7..]
    }
    /// `sha256:<hex>`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
impl TryFrom<String> for Digest {
    type Error = DigestError;
    fn try_from(text: String) -> Result<Self, DigestError> {
        Self::parse(&text)
    }
}
impl From<Digest> for String {
    fn from(d: Digest) -> String {
        d.0
    }
}

/// A running SHA-256.
#[derive(Debug, Default)]
pub struct Sha256(sha2::Sha256);
impl Sha256 {
    pub fn update(&mut self, bytes: &[u8]) {
        sha2::Digest::update(&mut self.0, bytes);
    }
    pub fn finish(self) -> Digest {
        todo!()
    }
}

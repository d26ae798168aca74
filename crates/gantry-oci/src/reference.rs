//! Image references as Docker writes them (distribution/reference grammar).

/// A normalized reference: `busybox` is `docker.io/library/busybox`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// `docker.io`, `127.0.0.1:5000`, ...
    pub domain: String,
    /// `library/busybox`
    pub path: String,
    pub tag: Option<String>,
    pub digest: Option<crate::Digest>,
}

/// Why a text is no reference; the text is Docker's
/// (`invalid reference format: repository name (library/UPPER) must be lowercase`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReferenceError(pub String);

impl Reference {
    /// Parses the familiar or the full form.
    pub fn parse(_text: &str) -> Result<Self, ReferenceError> {
        todo!()
    }
    /// `busybox`, `me/app`, `127.0.0.1:5000/app`: the name as people write it, without tag and digest.
    pub fn familiar_name(&self) -> String {
        todo!()
    }
    /// The familiar name with tag and digest where given.
    pub fn familiar(&self) -> String {
        todo!()
    }
    /// `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }
    /// With `:latest` where neither tag nor digest is given.
    pub fn or_latest(self) -> Self {
        todo!()
    }
}

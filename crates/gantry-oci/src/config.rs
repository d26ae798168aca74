//! The image configuration as Docker writes it: the OCI one and what Docker adds.
use serde::{Deserialize, Serialize};

/// An image's configuration document. Fields that this type does not know are kept in the stored
/// bytes, which stay the truth: the image ID is their digest.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub architecture: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub os: String,
    // the owner of this crate completes this
}

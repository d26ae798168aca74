//! `POST /containers/{id}/update`.
//!
//! Docker's part are the limits and the restart policy, as in `HostConfig`; what is empty or 0 stays. Gantry's own part is
//! below `GantryUpdate`.

use crate::container::{HostConfig, Map, Mount, PortMap};
use serde::{Deserialize, Serialize};

/// The body.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateBody {
    /// Limits and the restart policy; its other fields are not looked at.
    #[serde(flatten)]
    pub host_config: HostConfig,
    /// Bytes; before API 1.42 only.
    pub kernel_memory: i64,
    #[serde(skip_serializing_if = "Changes::is_empty")]
    pub gantry_update: Changes,
}

/// Beyond Docker: what else of a container can be changed. Labels, mounts and published ports change at once, the rest at
/// the next start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Changes {
    /// `NAME=value`, set or replaced.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Names that go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env_remove: Vec<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub labels: Map,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels_remove: Vec<String>,
    /// Options of the container's log driver; an empty value takes one away.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub log_options: Map,
    /// Mounted at once where the container runs, and at each start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Destinations of mounts that go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts_remove: Vec<String>,
    /// Published at once where the container runs, and at each start.
    #[serde(skip_serializing_if = "PortMap::is_empty")]
    pub ports: PortMap,
    /// Published ports that go, before the new ones come; an empty `HostIp` or `HostPort` stands for any.
    #[serde(skip_serializing_if = "PortMap::is_empty")]
    pub ports_remove: PortMap,
}

impl Changes {
    /// Whether nothing is to change.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateResponse {
    pub warnings: Option<Vec<String>>,
}

//! `diff`: what a container changed of its image.

use crate::containers::Containers;
use crate::error::Result;
use gantry_api::files::FilesystemChange;
use std::sync::Arc;

impl Containers {
    /// What the writable layer changes, by path; `None` (the API's `null`) without any.
    pub async fn changes(self: &Arc<Self>, name: &str) -> Result<Option<Vec<FilesystemChange>>> {
        let id = self.find(name)?.id.clone();
        let store = self.context.store.clone();
        let changes = crate::blocking(move || store.snapshots.changes(&id)).await??;
        let told = changes.into_iter().map(|change| FilesystemChange {
            path: change.path,
            kind: change.kind as u8,
        });
        let told: Vec<_> = told.collect();
        Ok((!told.is_empty()).then_some(told))
    }
}

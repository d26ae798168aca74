//! How many blobs move at a time, of all pulls and pushes together.

use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::Semaphore;

/// `max-concurrent-downloads` and `max-concurrent-uploads`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferLimits {
    pub downloads: usize,
    pub uploads: usize,
}

impl Default for TransferLimits {
    /// Docker's.
    fn default() -> Self {
        Self {
            downloads: 3,
            uploads: 5,
        }
    }
}

/// The limits; changed, they count for what begins from then on.
#[derive(Debug)]
pub(super) struct Transfers(RwLock<Both>);

#[derive(Debug)]
struct Both {
    downloads: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
}

impl Transfers {
    pub(super) fn new(limits: TransferLimits) -> Self {
        Self(RwLock::new(limits.into()))
    }

    pub(super) fn limit(&self, limits: TransferLimits) {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *held = limits.into();
    }

    pub(super) fn downloads(&self) -> Arc<Semaphore> {
        let held = self.0.read().unwrap_or_else(PoisonError::into_inner);
        held.downloads.clone()
    }

    pub(super) fn uploads(&self) -> Arc<Semaphore> {
        let held = self.0.read().unwrap_or_else(PoisonError::into_inner);
        held.uploads.clone()
    }
}

impl From<TransferLimits> for Both {
    fn from(limits: TransferLimits) -> Self {
        let of = |count: usize| Arc::new(Semaphore::new(count.clamp(1, Semaphore::MAX_PERMITS)));
        Self {
            downloads: of(limits.downloads),
            uploads: of(limits.uploads),
        }
    }
}

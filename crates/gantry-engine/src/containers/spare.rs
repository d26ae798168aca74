//! One network namespace made ahead: making one waits for the kernel's lock on all networks, which the clearing away of
//! others may hold for many milliseconds. It is held by a descriptor alone, so it goes with the daemon.

use super::lock;
use gantry_network::plane::NetworkError;
use gantry_network::sandbox::Sandbox;
use std::sync::Mutex;

/// The namespace for the next start; none until there has been a first one.
#[derive(Debug, Default)]
pub(crate) struct Spare(Mutex<Option<Sandbox>>);

impl Spare {
    /// The one that was made ahead, or a new one.
    pub(super) fn take(&self) -> Result<Sandbox, NetworkError> {
        match lock(&self.0).take() {
            Some(ready) => Ok(ready),
            None => Sandbox::new(),
        }
    }

    /// Makes one for the next start; failing is no harm, as that start makes its own then.
    pub(super) fn fill(&self) {
        if lock(&self.0).is_none()
            && let Ok(made) = Sandbox::new()
        {
            *lock(&self.0) = Some(made);
        }
    }
}

//! Network namespaces made ahead: making one waits for the kernel's lock on all networks, which the clearing away of
//! others may hold for many milliseconds. They are held by descriptors alone, so they go with the daemon.

use super::lock;
use gantry_network::dns::Sockets;
use gantry_network::plane::NetworkError;
use gantry_network::sandbox::Sandbox;
use std::os::fd::AsFd as _;
use std::sync::Mutex;

/// A namespace, and the name server's sockets in it where there is to be one.
pub(super) type Prepared = (Sandbox, Option<Sockets>);

/// The namespaces for the next start: one without a name server and one with it, each from the first start on that
/// has needed such a one.
#[derive(Debug, Default)]
pub(crate) struct Spare([Mutex<Slot>; 2]);

#[derive(Debug, Default)]
struct Slot {
    wanted: bool,
    ready: Option<Prepared>,
}

impl Spare {
    /// The one that was made ahead, or a new one.
    pub(super) fn take(&self, named: bool) -> Result<Prepared, NetworkError> {
        let mut slot = lock(&self.0[usize::from(named)]);
        slot.wanted = true;
        let ready = slot.ready.take();
        drop(slot);
        ready.map_or_else(|| prepare(named), Ok)
    }

    /// Makes those for the next start; failing is no harm, as that start makes its own then.
    pub(super) fn fill(&self) {
        for (named, slot) in [(false, &self.0[0]), (true, &self.0[1])] {
            let missing = {
                let slot = lock(slot);
                slot.wanted && slot.ready.is_none()
            };
            if missing && let Ok(made) = prepare(named) {
                lock(slot).ready = Some(made);
            }
        }
    }
}

fn prepare(named: bool) -> Result<Prepared, NetworkError> {
    let sandbox = Sandbox::new()?;
    if !named {
        return Ok((sandbox, None));
    }
    let netns = sandbox.netns.as_fd().try_clone_to_owned();
    let netns = netns.map_err(|error| NetworkError::Kernel {
        what: "holding a network namespace".to_owned(),
        source: error,
    })?;
    Ok((sandbox, Some(Sockets::open(netns)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_needed_is_made_ahead() {
        let spare = Spare::default();
        let ready = || [0, 1].map(|n| lock(&spare.0[n]).ready.is_some());
        spare.fill();
        assert_eq!(ready(), [false, false], "none until there has been a start");
        let (_, sockets) = spare.take(true).expect("a namespace");
        assert!(sockets.is_some());
        spare.fill();
        assert_eq!(ready(), [false, true]);
        let (_, sockets) = spare.take(false).expect("a namespace");
        assert!(sockets.is_none());
        spare.fill();
        assert_eq!(ready(), [true, true]);
        assert!(spare.take(true).expect("a namespace").1.is_some());
        assert_eq!(ready(), [true, false]);
    }
}

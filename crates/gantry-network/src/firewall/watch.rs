//! Watching the rules of the machine: what somebody else deletes of ours is put back.
use super::Firewall;
use crate::error::NetworkError;
use crate::netlink::Events;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Others' programs change rules in several steps: it is looked when they have been quiet that long ...
const QUIET: Duration = Duration::from_millis(50);
/// ... or have not for that long.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(500);
/// After that many the next change is waited for.
const ATTEMPTS: usize = 10;

/// A thread that watches, until this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Its end wakes the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Firewall {
    /// Puts back what others delete, as soon as they do. To be called in the network namespace of the firewall.
    pub(crate) fn watch(self: &Arc<Self>) -> Result<Watch, NetworkError> {
        let what = "watching the rules of the machine";
        let start = || -> io::Result<Watch> {
            let (stop, stopped) = UnixStream::pair()?;
            let events = Events::nftables()?;
            let firewall = Arc::clone(self);
            let thread = std::thread::Builder::new()
                .name("firewall".into())
                .spawn(move || firewall.follow(&events, &stopped))?;
            Ok(Watch {
                stop: Some(stop),
                thread: Some(thread),
            })
        };
        if !self.is_on() {
            return Ok(Watch {
                stop: None,
                thread: None,
            });
        }
        let watch = start().map_err(NetworkError::kernel(what))?;
        // What happened before it watched.
        self.reconcile()?;
        Ok(watch)
    }

    fn follow(&self, events: &Events, stopped: &UnixStream) {
        while let Some(woken) = wait(events, stopped, None) {
            if woken == Woken::Event && !self.is_foreign(events) {
                continue;
            }
            self.ask_again();
            let first = Instant::now();
            while first.elapsed() < PATIENCE {
                match wait(events, stopped, Some(QUIET)) {
                    None => return,
                    Some(Woken::Time) => break,
                    Some(Woken::Event) if self.is_foreign(events) => self.ask_again(),
                    Some(Woken::Event) => {}
                }
            }
            for _ in 0..ATTEMPTS {
                let Err(error) = self.reconcile_after_others() else {
                    break;
                };
                tracing::warn!(%error, "restoring the firewall");
                if wait(events, stopped, Some(PAUSE_AFTER_ERROR)).is_none() {
                    return;
                }
                drop(events.authors());
            }
        }
    }

    /// Whether somebody else had part in what has changed.
    fn is_foreign(&self, events: &Events) -> bool {
        match events.authors() {
            Ok(Some(authors)) => authors.iter().any(|author| *author != self.netlink.port),
            Ok(None) | Err(_) => true,
        }
    }

    /// Whom the host's own firewall has let in may not be let in any more. At once: who comes after the change is not to
    /// wait twice.
    fn ask_again(&self) {
        if let Err(error) = self.forget_admissions() {
            tracing::warn!(%error, "clients of published ports");
        }
    }

    fn reconcile_after_others(&self) -> Result<(), NetworkError> {
        if self.reconcile()? {
            tracing::info!("rules of ours that somebody had changed were put back");
        }
        Ok(())
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Woken {
    Event,
    Time,
}

/// Waits for something to read, for as long as is said. None: the thread is to end.
fn wait(events: &Events, stopped: &UnixStream, patience: Option<Duration>) -> Option<Woken> {
    let mut descriptors = [
        PollFd::from_borrowed_fd(events.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(stopped.as_fd(), PollFlags::IN),
    ];
    let patience = patience.map(|time| Timespec {
        tv_sec: time.as_secs() as i64,
        tv_nsec: i64::from(time.subsec_nanos()),
    });
    match poll(&mut descriptors, patience.as_ref()) {
        Err(rustix::io::Errno::INTR) | Ok(0) => Some(Woken::Time),
        Err(error) => {
            tracing::warn!(%error, "the firewall is no longer watched");
            None
        }
        Ok(_) if !descriptors[1].revents().is_empty() => None,
        Ok(_) => Some(Woken::Event),
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

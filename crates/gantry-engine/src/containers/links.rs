//! Links that outlive their container: looked for some time after its end, off everybody's way.

use crate::context::Context;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// So long the kernel has to clear a namespace away by itself, which it mostly does within 30 ms.
const PATIENCE: Duration = Duration::from_secs(2);

/// Links of released endpoints, with the time of the release.
#[derive(Debug, Default)]
pub(crate) struct Released {
    links: Mutex<Vec<(Instant, String)>>,
    wake: Notify,
}

impl Released {
    /// Notes a link.
    pub(super) fn note(&self, link: &str) {
        super::lock(&self.links).push((Instant::now(), link.to_owned()));
        self.wake.notify_one();
    }

    /// Takes those out whose time is over.
    fn due(&self) -> Vec<String> {
        let mut links = super::lock(&self.links);
        let later = links
            .iter()
            .position(|(since, _)| since.elapsed() < PATIENCE);
        let due = later.unwrap_or(links.len());
        links.drain(..due).map(|(_, link)| link).collect()
    }

    fn is_empty(&self) -> bool {
        super::lock(&self.links).is_empty()
    }
}

/// Whether a link is there, in the daemon's own network, whatever sysfs is mounted. Takes no lock of the network's
/// (netdevice(7), `SIOCGIFINDEX`).
fn exists(link: &str) -> bool {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
    let kind = (AddressFamily::INET, SocketType::DGRAM);
    match socket_with(kind.0, kind.1, SocketFlags::CLOEXEC, None) {
        Ok(socket) => netdevice::name_to_index(&socket, link).is_ok(),
        Err(_) => true,
    }
}

/// Deletes links that linger, as long as the daemon lives.
pub(crate) async fn clear(context: Arc<Context>) {
    loop {
        context.released.wake.notified().await;
        while !context.released.is_empty() {
            tokio::time::sleep(PATIENCE).await;
            let mut links = context.released.due();
            links.retain(|link| exists(link));
            if links.is_empty() {
                continue;
            }
            let plane = context.plane.clone();
            match crate::blocking(move || plane.clear(&links)).await {
                Ok(Err(error)) => {
                    tracing::warn!(%error, "cannot delete links of containers that are gone")
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot look for links of containers that are gone")
                }
                Ok(Ok(())) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_told_from_what_is_none() {
        assert!(exists("lo"));
        assert!(!exists("no-such-link"));
    }
}

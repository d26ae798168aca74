//! Published ports that the kernel cannot lead to a container: a process of its own, `gantry-proxy`, accepts there and
//! carries the bytes.
//!
//! Those are ports at IPv6 addresses of the host for a container that has IPv4 alone, ports at ::1 (Linux does not lead
//! packets from there to a container), and all ports where the engine is to leave the firewall alone. The rest of
//! the packets of published ports never come to a process.
//!
//! There is one such process for all ports, from the first of them to the last. It outlives the daemon, and what it
//! carries goes on: the daemon binds the sockets and gives them over, and the next daemon asks for them again.
//!
//! | file | does |
//! |---|---|
//! | `wire` | what daemon and proxy say to each other |
//! | `client` | the daemon's side: which ports there are to be, and a thread that sees to it |
//! | `process` | the proxy's life |
//! | `tcp`, `udp` | what it carries |

mod client;
mod process;
mod tcp;
mod udp;
mod wire;

#[cfg(test)]
mod tests;

pub use client::ProxyOptions;
pub(crate) use client::{Kept, Proxy};
pub use process::proxy_main;

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

/// After a failure to accept or to receive (no descriptors left).
const REST: Duration = Duration::from_millis(100);

/// Where clients come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Frontend {
    pub(crate) protocol: Protocol,
    pub(crate) address: SocketAddr,
}

/// What can be carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// None: it cannot be carried.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "tcp" => Some(Self::Tcp),
            "udp" => Some(Self::Udp),
            _ => None,
        }
    }
}

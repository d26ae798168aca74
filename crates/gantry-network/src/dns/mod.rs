//! The name server at 127.0.0.11 of every container on a network of the user's.
//!
//! It is the daemon that answers: a UDP and a TCP socket are opened inside the container's network namespace, at ports that
//! the kernel chooses, and a small nftables table in there leads 127.0.0.11:53 to them. Port 53 itself stays free for the
//! container. After the death of a daemon the next one opens the same ports again, so that clients that keep
//! their socket (nginx) go on.
//!
//! | file | does |
//! |---|---|
//! | `sockets` | opens them in a namespace, with the rules |
//! | `question` | reads what came, as far as it must be understood |
//! | `answer` | what the names of containers answer; everything else is forwarded |
//! | `forward` | asks the servers outside |
//! | `serve` | the loops |
//!
//! What may be asked for is a [`Directory`]'s business, which the engine has.

mod answer;
mod forward;
mod question;
mod serve;
mod sockets;

#[cfg(test)]
mod tests;

pub use serve::{Handle, Resolver};
pub use sockets::Sockets;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where containers find the name server.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// What the names of containers are, from the place of the one that asks. Called for every query: it must not wait.
pub trait Directory: Send + Sync {
    /// The addresses of a name (without a final dot). None: it is not ours, so that others are to be asked; empty: it is
    /// ours, and has none of this family.
    fn addresses(&self, container: &str, name: &str, v6: bool) -> Option<Vec<IpAddr>>;

    /// The name of an address, without a final dot; None: it is not ours.
    fn name_of(&self, container: &str, address: IpAddr) -> Option<String>;

    /// What else there is for that container.
    fn outside(&self, container: &str) -> Outside;
}

/// What a query is answered with from here alone; None: others are to be asked, or it is no query.
pub fn answered(
    directory: &dyn Directory,
    container: &str,
    query: &[u8],
    by_tcp: bool,
) -> Option<Vec<u8>> {
    match answer::decide(directory, container, query, by_tcp) {
        answer::Decision::Answer(answer) => Some(answer),
        answer::Decision::Forward(_) | answer::Decision::Ignore => None,
    }
}

/// The names that are not ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outside {
    /// In the order in which they are asked.
    pub upstreams: Vec<Upstream>,
    /// Names without a dot are not passed on (somebody has chosen an `ndots`).
    pub keeps_short_names: bool,
}

/// A server to forward to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upstream {
    /// Port 53, but for tests.
    pub address: SocketAddr,
    /// It is asked as the host would ask it, not as the container.
    pub from_host: bool,
}

/// As Docker writes them in resolv.conf: `host(127.0.0.53)`, `10.0.0.1`.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from_host {
            true => write!(f, "host({})", self.address.ip()),
            false => write!(f, "{}", self.address.ip()),
        }
    }
}

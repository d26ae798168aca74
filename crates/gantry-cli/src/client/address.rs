//! Where the daemon is: `-H`, `$GANTRY_HOST`, `$DOCKER_HOST`, or the default socket.

use std::fmt;
use std::io;

use tokio::net::{TcpStream, UnixStream};

use super::Pipe;
use super::tls::Tls;
use crate::cx::Cx;

/// Where the daemon listens unless told otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/gantry/gantry.sock";

const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

/// An address of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// The default socket: a daemon is started where none listens.
    Default,
    Unix(String),
    Tcp {
        host: String,
        port: u16,
    },
}

impl Address {
    pub(crate) fn find(cx: &Cx, tls: bool) -> Result<Address, String> {
        if let [_, _, ..] = cx.globals.host.items.as_slice() {
            return Err("specify only one -H".to_owned());
        }
        if let Some(context) = cx
            .globals
            .context
            .as_deref()
            .filter(|name| *name != "default")
        {
            return Err(format!(
                "context \"{context}\": context not found: only \"default\" is known; use -H"
            ));
        }
        let named = cx.globals.host.last().cloned().or_else(|| {
            let of = |name| std::env::var(name).ok().filter(|host| !host.is_empty());
            of("GANTRY_HOST").or_else(|| of("DOCKER_HOST"))
        });
        match named {
            Some(host) => Address::parse(&host, tls),
            None => Ok(Address::Default),
        }
    }

    pub(crate) fn parse(text: &str, tls: bool) -> Result<Address, String> {
        let wrong = || format!("unable to parse docker host `{text}`");
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        match scheme {
            "unix" if rest.is_empty() => Ok(Address::Unix(DEFAULT_SOCKET.to_owned())),
            "unix" => Ok(Address::Unix(rest.to_owned())),
            "tcp" | "http" | "https" => {
                let rest = rest.trim_end_matches('/');
                if rest.contains('/') {
                    return Err(wrong());
                }
                let default = if tls { TLS_PORT } else { PLAIN_PORT };
                let (host, port) = match rest.rsplit_once(':') {
                    Some((host, port)) if !port.contains(']') => {
                        (host, port.parse().map_err(|_| wrong())?)
                    }
                    _ => (rest, default),
                };
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let host = if host.is_empty() { "localhost" } else { host };
                Ok(Address::Tcp {
                    host: host.to_owned(),
                    port,
                })
            }
            "fd" | "npipe" | "ssh" => Err(format!(
                "a client cannot connect to {scheme}:// (use unix:// or tcp://)"
            )),
            _ => Err(wrong()),
        }
    }

    pub(super) fn is_default(&self) -> bool {
        *self == Address::Default
    }

    /// The `Host` header.
    pub(super) fn http_host(&self) -> String {
        match self {
            Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Address::Tcp { host, port } => format!("{host}:{port}"),
            Address::Default | Address::Unix(_) => "localhost".to_owned(),
        }
    }

    pub(super) async fn connect(&self, tls: Option<&Tls>) -> io::Result<Box<dyn Pipe>> {
        match self {
            Address::Default => Ok(Box::new(UnixStream::connect(DEFAULT_SOCKET).await?)),
            Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                match tls {
                    None => Ok(Box::new(stream)),
                    Some(tls) => Ok(Box::new(tls.connect(host, stream).await?)),
                }
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Default => write!(f, "unix://{DEFAULT_SOCKET}"),
            Address::Unix(path) => write!(f, "unix://{path}"),
            Address::Tcp { .. } => write!(f, "tcp://{}", self.http_host()),
        }
    }
}

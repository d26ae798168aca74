//! Where clients connect: unix sockets, TCP (with TLS or without), sockets handed over by systemd.

mod activation;
mod tls;

pub use activation::from_environment;
pub use tls::TlsOptions;

use crate::socket::{Socket, Stream};
use rustix::fs::{Gid, Mode};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener, UnixSocket, UnixStream};
use tokio_rustls::TlsAcceptor;

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("{what}: {path}")]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot listen on {address}")]
    Tcp {
        address: String,
        #[source]
        source: io::Error,
    },
    /// Another daemon answers on the socket.
    #[error("{0} is in use: another daemon listens there")]
    InUse(PathBuf),
    /// `/etc/group` has no such group.
    #[error("group {0} not found")]
    NoGroup(String),
    #[error("no sockets were handed over by systemd: LISTEN_FDS is not set for this process")]
    NoActivation,
    #[error("TLS: {0}")]
    Tls(String),
}

/// Connections that may wait to be taken.
const BACKLOG: u32 = 1024;

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
    tls: Option<TlsAcceptorDebug>,
    /// The file of a unix socket that we made, removed with the listener.
    file: Option<PathBuf>,
}

#[derive(Debug)]
enum Kind {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// `TlsAcceptor` says nothing of itself.
struct TlsAcceptorDebug(TlsAcceptor);

impl std::fmt::Debug for TlsAcceptorDebug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsAcceptor")
    }
}

impl Listener {
    /// Listens on a unix socket of mode 0660. Its group is `group` (a name or a number), where given: `docker`
    /// and `gantry` need not exist, any other must. A socket that nobody answers on is replaced.
    pub fn unix(path: &Path, group: Option<&str>) -> Result<Self, ListenError> {
        let io = |what| {
            let path = path.to_owned();
            move |source| ListenError::Io { what, path, source }
        };
        let gid = group.map(find_group).transpose()?.flatten();
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(io("cannot make the socket's folder"))?;
        }
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io("cannot look at the socket")(error)),
            Ok(found) if !found.file_type().is_socket() => {
                let source = io::Error::from(io::ErrorKind::AlreadyExists);
                return Err(io("cannot listen: there is a file that is no socket")(
                    source,
                ));
            }
            Ok(_) => {
                if std::os::unix::net::UnixStream::connect(path).is_ok() {
                    return Err(ListenError::InUse(path.to_owned()));
                }
                std::fs::remove_file(path).map_err(io("cannot remove the old socket"))?;
            }
        }
        let socket = UnixSocket::new_stream().map_err(io("cannot make a socket"))?;
        // The file takes over the socket's mode: nobody else may connect before its group is set.
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600))
            .map_err(|error| io("cannot set the socket's mode")(error.into()))?;
        socket.bind(path).map_err(io("cannot listen"))?;
        let listener = socket.listen(BACKLOG).map_err(io("cannot listen"))?;
        if let Some(gid) = gid {
            rustix::fs::chown(path, None, Some(gid))
                .map_err(|error| io("cannot set the socket's group")(error.into()))?;
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
            .map_err(io("cannot set the socket's mode"))?;
        Ok(Self {
            kind: Kind::Unix(listener),
            tls: None,
            file: Some(path.to_owned()),
        })
    }

    /// Listens on a TCP address (`127.0.0.1:2375`, `[::1]:2376`, `:2376` for all addresses).
    pub async fn tcp(address: &str, tls: Option<&TlsOptions>) -> Result<Self, ListenError> {
        let whole = match address.strip_prefix(':') {
            Some(port) => format!("0.0.0.0:{port}"),
            None => address.to_owned(),
        };
        let listener = TcpListener::bind(&whole)
            .await
            .map_err(|source| ListenError::Tcp {
                address: address.to_owned(),
                source,
            })?;
        Ok(Self {
            kind: Kind::Tcp(listener),
            tls: tls
                .map(TlsOptions::acceptor)
                .transpose()?
                .map(TlsAcceptorDebug),
            file: None,
        })
    }

    /// The address that a TCP listener got.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Tcp(listener) => listener.local_addr().ok(),
            Kind::Unix(_) => None,
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        let socket = match &self.kind {
            Kind::Unix(listener) => Socket::from(listener.accept().await?.0),
            Kind::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                // A client that is gone without a word is noticed after some minutes.
                rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
                rustix::net::sockopt::set_tcp_keepidle(&stream, Duration::from_secs(60))?;
                rustix::net::sockopt::set_tcp_keepintvl(&stream, Duration::from_secs(15))?;
                Socket::from(stream)
            }
        };
        Ok(Accepted {
            socket,
            tls: self.tls.as_ref().map(|tls| tls.0.clone()),
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(file) = self.file.take()
            && let Err(error) = std::fs::remove_file(&file)
        {
            tracing::debug!(%error, file = %file.display(), "cannot remove the socket");
        }
    }
}

/// A connection before its TLS handshake, where it needs one.
pub(crate) struct Accepted {
    socket: Socket,
    tls: Option<TlsAcceptor>,
}

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(30);

impl Accepted {
    pub(crate) async fn establish(self) -> io::Result<(Stream, Socket)> {
        let Some(tls) = self.tls else {
            return Ok((Stream::Plain(self.socket.clone()), self.socket));
        };
        let stream = tokio::time::timeout(HANDSHAKE, tls.accept(self.socket.clone())).await??;
        Ok((Stream::Tls(Box::new(stream)), self.socket))
    }
}

/// The number of a group; none where it may be missing and is.
fn find_group(group: &str) -> Result<Option<Gid>, ListenError> {
    if let Ok(number) = group.parse() {
        return Ok(Some(Gid::from_raw(number)));
    }
    let path = Path::new("/etc/group");
    let groups = std::fs::read_to_string(path).unwrap_or_default();
    let found = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(group)).then(|| fields.nth(1)?.parse().ok())?
    });
    match found {
        Some(number) => Ok(Some(Gid::from_raw(number))),
        None if matches!(group, "docker" | "gantry" | "") => Ok(None),
        None => Err(ListenError::NoGroup(group.to_owned())),
    }
}

/// Whether somebody answers on a unix socket.
pub async fn answers(path: &Path) -> bool {
    UnixStream::connect(path).await.is_ok()
}

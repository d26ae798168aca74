//! Datagrams: each client has a socket towards the container, for as long as answers come.
use super::REST;
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// A client without an answer for so long is forgotten. COMPAT: Docker's `UDPConnTrackTimeout`.
const IDLE: Duration = Duration::from_secs(90);
/// Clients of one port at a time; a further one waits until one is forgotten.
const MOST_CLIENTS: usize = 4096;
/// The longest datagram.
const LONGEST: usize = 65_536;

thread_local! {
    /// Nothing waits while it is used, so that all can share it.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; LONGEST]);
}

/// Who sends, and to which of the host's addresses: answers come from there.
type Client = (SocketAddr, IpAddr);

/// Carries until it is dropped.
pub(super) async fn carry(socket: Arc<UdpSocket>, backend: SocketAddr) {
    if let Err(error) = tell_addresses(&socket) {
        eprintln!("gantry-proxy: {error}");
        return;
    }
    let mut clients: HashMap<Client, Arc<UdpSocket>> = HashMap::new();
    let mut answering = JoinSet::new();
    loop {
        // A flood here is not to keep others waiting: all have one thread.
        tokio::task::coop::consume_budget().await;
        tokio::select! {
            ready = socket.readable() => if ready.is_err() { return },
            Some(ended) = answering.join_next() => {
                if let Ok(client) = ended {
                    clients.remove(&client);
                }
                continue;
            }
        }
        let taken = BUFFER.with_borrow_mut(|buffer| {
            let (length, client) = match receive(&socket, buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                received => received?,
            };
            if let Some(way) = clients.get(&client) {
                // What the container does not take is lost, as datagrams are.
                let _ = way.try_send(&buffer[..length]);
                return Ok(None);
            }
            Ok::<_, io::Error>(Some((client, buffer[..length].to_vec())))
        });
        let first = match taken {
            Ok(first) => first,
            Err(error) => {
                eprintln!("gantry-proxy: cannot receive for {backend}: {error}");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        if let Some((client, datagram)) = first
            && clients.len() < MOST_CLIENTS
            && let Ok(way) = connect(backend).await
        {
            let way = Arc::new(way);
            let _ = way.send(&datagram).await;
            clients.insert(client, way.clone());
            answering.spawn(answer(socket.clone(), client, way));
        }
    }
}

/// Brings answers back until none comes.
async fn answer(socket: Arc<UdpSocket>, client: Client, way: Arc<UdpSocket>) -> Client {
    while let Ok(Ok(())) = tokio::time::timeout(IDLE, way.readable()).await {
        tokio::task::coop::consume_budget().await;
        BUFFER.with_borrow_mut(|buffer| {
            // A refusal (ICMP) is no end: the container's program may yet begin to listen.
            if let Ok(length) = way.try_recv(buffer) {
                let _ = send(&socket, &buffer[..length], client);
            }
        });
    }
    client
}

async fn connect(backend: SocketAddr) -> io::Result<UdpSocket> {
    let any = match backend {
        SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(backend).await?;
    Ok(socket)
}

/// Has each datagram tell which address it was sent to (ip(7), ipv6(7)).
fn tell_addresses(socket: &UdpSocket) -> io::Result<()> {
    match socket.local_addr()? {
        SocketAddr::V4(_) => setsockopt(socket, Ipv4PacketInfo, &true)?,
        SocketAddr::V6(_) => setsockopt(socket, Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Client)> {
    socket.try_io(Interest::READABLE, || {
        let mut space = nix::cmsg_space!(libc::in6_pktinfo);
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let fd = socket.as_raw_fd();
        let message = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut space), flags)?;
        let from = message.address.as_ref().and_then(address);
        let from = from.ok_or_else(|| io::Error::other("a datagram came without a sender"))?;
        let to = message.cmsgs()?.find_map(|part| match part {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                Some(IpAddr::from(info.ipi_addr.s_addr.to_ne_bytes()))
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::from(info.ipi6_addr.s6_addr)),
            _ => None,
        });
        let to = to.ok_or_else(|| io::Error::other("a datagram came without its destination"))?;
        Ok((message.bytes, (from, to)))
    })
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
        (Some(v4), _) => Some(SocketAddr::V4((*v4).into())),
        (_, Some(v6)) => Some(SocketAddr::V6((*v6).into())),
        _ => None,
    }
}

/// Sends from the address that the client knows.
fn send(socket: &UdpSocket, datagram: &[u8], (client, from): Client) -> io::Result<()> {
    let (v4, v6);
    let from = match from {
        IpAddr::V4(address) => {
            v4 = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from_ne_bytes(address.octets()),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            ControlMessage::Ipv4PacketInfo(&v4)
        }
        IpAddr::V6(address) => {
            v6 = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: address.octets(),
                },
                ipi6_ifindex: 0,
            };
            ControlMessage::Ipv6PacketInfo(&v6)
        }
    };
    socket.try_io(Interest::WRITABLE, || {
        let parts = [IoSlice::new(datagram)];
        let to = SockaddrStorage::from(client);
        let flags = MsgFlags::MSG_DONTWAIT;
        sendmsg(socket.as_raw_fd(), &parts, &[from], flags, Some(&to))?;
        Ok(())
    })
}

//! SCTP, by packets made by hand: few kernels have its sockets, and the firewall needs none.
use super::*;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketType, bind, ipproto, recvfrom, sendto, socket,
    sockopt,
};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const CLIENT_PORT: u16 = 4000;
/// What either side wants to see in the other's packets.
const CLIENT_TAG: u32 = 0x1234_5678;
const SERVER_TAG: u32 = 0x8765_4321;

/// A packet with an INIT (or INIT ACK) chunk: RFC 9260, 3.3.2.
fn packet(ports: [u16; 2], tag: u32, kind: u8, own_tag: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(ports.map(u16::to_be_bytes).as_flattened());
    bytes.extend(tag.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend([kind, 0, 0, 20]);
    bytes.extend(own_tag.to_be_bytes());
    // The window, streams out and in, the first number.
    bytes.extend(65536_u32.to_be_bytes());
    bytes.extend([0, 1, 0, 1]);
    bytes.extend(1_u32.to_be_bytes());
    let sum = checksum(&bytes);
    bytes[8..12].copy_from_slice(&sum);
    bytes
}

/// CRC-32C of a packet whose own field for it is zero.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    (!crc).to_le_bytes()
}

/// A raw socket at one of the addresses of where the caller is.
fn raw(own: IpAddr) -> OwnedFd {
    let family = match own {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket(family, SocketType::RAW, Some(ipproto::SCTP)).unwrap();
    bind(&socket, &SocketAddr::new(own, 0)).unwrap();
    socket
}

fn send(socket: &OwnedFd, to: IpAddr, packet: &[u8]) {
    sendto(socket, packet, SendFlags::empty(), &SocketAddr::new(to, 0)).unwrap();
}

/// The next packet, whose checksum must be right, and whom it is from.
fn receive(socket: &OwnedFd, patience: Duration) -> Option<(IpAddr, Vec<u8>)> {
    sockopt::set_socket_timeout(socket, sockopt::Timeout::Recv, Some(patience)).unwrap();
    let mut buffer = [0; 2000];
    let (_, length, from) = recvfrom(socket, &mut buffer[..], RecvFlags::empty()).ok()?;
    let from = SocketAddr::try_from(from.unwrap()).unwrap().ip();
    // Of IPv4 the socket gives the header, too.
    let header = if from.is_ipv4() { 20 } else { 0 };
    let mut packet = buffer[header..length].to_vec();
    let sum: [u8; 4] = packet[8..12].try_into().unwrap();
    packet[8..12].fill(0);
    assert_eq!(checksum(&packet), sum);
    Some((from, packet))
}

fn ports(packet: &[u8]) -> [u16; 2] {
    let number = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    [number(0), number(2)]
}

#[test]
fn a_published_port_leads_to_the_container_and_answers_come_back() {
    on_a_host(|| {
        let outside = outsider();
        let one = bridge(1);
        let firewall = Firewall::open(options(), std::slice::from_ref(&one)).unwrap();
        let server = container(&one, 2);
        publish(&firewall, &server, &everywhere("sctp", 9000));
        for family in [0, 1] {
            let (host, client) = (address(HOST[family]), address(OUTSIDER[family]));
            let far = inside(&outside, || raw(client));
            let near = inside(&server.sandbox, || raw(server.address(family)));
            send(
                &far,
                host,
                &packet([CLIENT_PORT, 9000], 0, INIT, CLIENT_TAG),
            );
            let (from, init) = receive(&near, PATIENCE).expect("the container gets it");
            assert_eq!((from, ports(&init)), (client, [CLIENT_PORT, 80]));
            let answer = packet([80, CLIENT_PORT], CLIENT_TAG, INIT_ACK, SERVER_TAG);
            send(&near, client, &answer);
            let (from, answer) = receive(&far, PATIENCE).expect("the client gets the answer");
            assert_eq!((from, ports(&answer)), (host, [9000, CLIENT_PORT]));
            // A port that is not published.
            send(
                &far,
                host,
                &packet([CLIENT_PORT, 9001], 0, INIT, CLIENT_TAG),
            );
            assert!(receive(&near, REFUSAL_PATIENCE).is_none());
        }
    });
}

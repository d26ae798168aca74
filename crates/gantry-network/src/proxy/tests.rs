//! The proxy on a thread, and the test in the daemon's place. They need nothing but 127.0.0.1 and ::1.
use super::wire::{self, Message};
use super::{Frontend, Protocol, ProxyOptions, process};
use crate::endpoint::{Families, PublishedPort};
use crate::firewall::Targets;
use crate::ports::Ports;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

/// A proxy, and where it listens.
struct Running {
    socket: PathBuf,
    thread: JoinHandle<io::Result<()>>,
}

impl Running {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("gantry-proxy-{}-{number}.sock", std::process::id());
        let socket = std::env::temp_dir().join(name);
        let listener = wire::listen(&socket).unwrap();
        let thread = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(process::serve(listener))
        });
        Self { socket, thread }
    }

    fn connect(&self) -> OwnedFd {
        wire::connect(&self.socket).unwrap()
    }

    /// It ends by itself when the last port is closed and the last daemon has gone.
    fn ends(self, daemon: OwnedFd, last: Frontend) {
        wire::send(daemon.as_fd(), &Message::Close(last), None).unwrap();
        drop(daemon);
        std::fs::remove_file(&self.socket).unwrap();
        self.thread.join().unwrap().unwrap();
    }
}

fn serve(daemon: &OwnedFd, frontend: Frontend, backend: SocketAddr, socket: impl AsFd) {
    let message = Message::Serve { frontend, backend };
    wire::send(daemon.as_fd(), &message, Some(socket.as_fd())).unwrap();
}

fn list(daemon: &OwnedFd) -> Vec<(Frontend, SocketAddr, OwnedFd)> {
    wire::send(daemon.as_fd(), &Message::List, None).unwrap();
    let mut all = Vec::new();
    loop {
        match wire::receive(daemon.as_fd()).unwrap() {
            Some((Message::Serve { frontend, backend }, Some(fd))) => {
                all.push((frontend, backend, fd));
            }
            Some((Message::End, None)) => return all,
            other => panic!("{other:?}"),
        }
    }
}

/// A port at ::1 that is carried to this address of 127.0.0.1.
fn carried_tcp(daemon: &OwnedFd, backend: SocketAddr) -> Frontend {
    let door = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let frontend = Frontend {
        protocol: Protocol::Tcp,
        address: door.local_addr().unwrap(),
    };
    serve(daemon, frontend, backend, door);
    frontend
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A connection through the proxy, both ends.
fn through(frontend: Frontend, backend: &TcpListener) -> (TcpStream, TcpStream) {
    let client = patient(TcpStream::connect(frontend.address).unwrap());
    let (server, _) = backend.accept().unwrap();
    (client, patient(server))
}

fn hear(from: &mut TcpStream) -> String {
    let mut bytes = [0; 5];
    from.read_exact(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn bytes_go_both_ways_and_each_side_ends_by_itself() {
    let proxy = Running::new();
    let daemon = proxy.connect();
    let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let frontend = carried_tcp(&daemon, backend.local_addr().unwrap());
    let (mut client, mut server) = through(frontend, &backend);
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            client.write_all(&sent).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        server.read_to_end(&mut received).unwrap();
        assert!(received == sent);
    });
    server.write_all(b"after").unwrap();
    drop(server);
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "after");
    proxy.ends(daemon, frontend);
}

#[test]
fn a_container_that_does_not_listen_refuses() {
    let proxy = Running::new();
    let daemon = proxy.connect();
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let frontend = carried_tcp(&daemon, nobody.local_addr().unwrap());
    drop(nobody);
    let mut client = patient(TcpStream::connect(frontend.address).unwrap());
    let error = client.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    proxy.ends(daemon, frontend);
}

#[test]
fn the_next_daemon_finds_all_and_what_goes_through_goes_on() {
    let proxy = Running::new();
    let first = proxy.connect();
    let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = backend.local_addr().unwrap();
    let (one, two) = (carried_tcp(&first, at), carried_tcp(&first, at));
    let (mut client, mut server) = through(one, &backend);
    drop(first);
    client.write_all(b"hello").unwrap();
    assert_eq!(hear(&mut server), "hello");

    let second = proxy.connect();
    let mut found = list(&second);
    found.sort_by_key(|(frontend, ..)| *frontend);
    let mut wanted = [one, two];
    wanted.sort();
    let frontends: Vec<_> = found.iter().map(|(frontend, ..)| *frontend).collect();
    assert_eq!(frontends, wanted);
    for (frontend, backend, socket) in found {
        assert_eq!(backend, at);
        let socket = TcpListener::from(socket);
        assert_eq!(socket.local_addr().unwrap(), frontend.address);
    }
    // What is closed ends, with its connections; the other stays.
    wire::send(second.as_fd(), &Message::Close(one), None).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0);
    assert_eq!(server.read(&mut [0; 1]).unwrap_or(0), 0);
    assert!(TcpStream::connect(one.address).is_err());
    let (mut client, mut server) = through(two, &backend);
    server.write_all(b"there").unwrap();
    assert_eq!(hear(&mut client), "there");
    proxy.ends(second, two);
}

#[test]
fn datagrams_come_back_to_who_has_sent_them() {
    let proxy = Running::new();
    let daemon = proxy.connect();
    let backend = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    backend.set_read_timeout(Some(PATIENCE)).unwrap();
    // At all addresses: an answer comes from the one that was asked.
    let door = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
    let port = door.local_addr().unwrap().port();
    let frontend = Frontend {
        protocol: Protocol::Udp,
        address: door.local_addr().unwrap(),
    };
    serve(&daemon, frontend, backend.local_addr().unwrap(), door);
    let clients = [1, 2].map(|number| {
        let client = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.connect((Ipv6Addr::LOCALHOST, port)).unwrap();
        (number, client)
    });
    let large = vec![7; 60_000];
    for _ in 0..3 {
        for (number, client) in &clients {
            client.send(&[*number]).unwrap();
            let mut bytes = vec![0; 65_536];
            let (length, from) = backend.recv_from(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], [*number]);
            backend.send_to(&[*number, 9], from).unwrap();
            assert_eq!(client.recv(&mut bytes).unwrap(), 2);
            assert_eq!(&bytes[..2], [*number, 9]);
            backend.send_to(&large, from).unwrap();
            assert_eq!(client.recv(&mut bytes).unwrap(), large.len());
        }
    }
    proxy.ends(daemon, frontend);
}

#[test]
fn a_port_that_is_carried_no_more_is_held_all_the_same() {
    let proxy = Running::new();
    let options = |is_on| ProxyOptions {
        // It is there: nobody starts another one.
        program: "/nowhere".into(),
        socket: proxy.socket.clone(),
        is_on,
    };
    let led = Families { v4: true, v6: true };
    let targets = Targets {
        v4: Some(Ipv4Addr::LOCALHOST),
        v6: None,
    };
    let free = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let port = PublishedPort {
        container_port: 9,
        protocol: "tcp".into(),
        host_ip: Ipv6Addr::LOCALHOST.into(),
        host_port: free.local_addr().unwrap().port(),
    };
    drop(free);
    let at = SocketAddr::new(port.host_ip, port.host_port);
    let ports = std::slice::from_ref(&port);
    let first = Ports::open(&options(true), led).unwrap();
    first.retake(ports, targets).unwrap();
    // The container does not listen.
    let carried = || TcpStream::connect_timeout(&at, PATIENCE).is_ok();
    assert!(carried());
    let daemon = proxy.connect();
    while list(&daemon).is_empty() {
        std::thread::yield_now();
    }
    drop(first);
    let second = Ports::open(&options(false), led).unwrap();
    second.retake(ports, targets).unwrap();
    second.settle();
    // Nobody else gets the port, and nobody answers there.
    assert!(TcpListener::bind(at).is_err());
    let silent = TcpStream::connect_timeout(&at, Duration::from_millis(300));
    assert_eq!(silent.unwrap_err().kind(), io::ErrorKind::TimedOut);
    second.release(ports);
    TcpListener::bind(at).unwrap();
    drop(second);
    let frontend = Frontend {
        protocol: Protocol::Tcp,
        address: at,
    };
    proxy.ends(daemon, frontend);
}

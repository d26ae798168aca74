//! What tests of the kernel's networks share: a fresh network namespace that plays the host, others for what is outside, and
//! who asks whom. They need root, and the programs `ip` and `nft`.

use crate::link::{self, VethPair};
use crate::netlink::Netlink;
use crate::sandbox::Sandbox;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
pub(crate) const REFUSAL_PATIENCE: Duration = Duration::from_millis(400);

/// The host towards the outside, and a machine there.
pub(crate) const HOST: [&str; 2] = ["198.51.100.1", "2001:db8::1"];
pub(crate) const OUTSIDER: [&str; 2] = ["198.51.100.2", "2001:db8::2"];
/// Their IPv4 addresses once more, for who has no other.
pub(crate) const HOST_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub(crate) const OUTSIDER_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// Runs `test` on a thread in a new network namespace with `lo` up: the host.
pub(crate) fn on_a_host(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let host = scope.spawn(|| {
            // SAFETY: the thread changes nothing but its own network namespace.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.expect("needs root");
            ip("link set lo up");
            test();
        });
        if let Err(panic) = host.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Runs `work` on a thread inside the namespace.
pub(crate) fn inside<T: Send>(sandbox: &Sandbox, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let netns = sandbox.netns.as_fd();
            rustix::thread::move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))
                .unwrap();
            work()
        });
        match thread.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// A machine outside, cabled to the host.
pub(crate) fn outsider() -> Sandbox {
    let outside = Sandbox::new().unwrap();
    let netlink = Netlink::route().unwrap();
    let pair = VethPair {
        host_name: "uplink",
        host_mac: [2, 0, 0, 0, 0, 1],
        master: None,
        group: 0,
        mtu: 1500,
        peer_name: "eth0",
        peer_mac: [2, 0, 0, 0, 0, 2],
        peer_netns: outside.netns.as_fd(),
    };
    netlink.execute(&[link::add_veth(&pair)]).unwrap();
    let set_up = |name: &str, addresses: [&str; 2]| {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "0").unwrap();
        ip(&format!("link set {name} up"));
        ip(&format!("address add {}/24 dev {name}", addresses[0]));
        ip(&format!("address add {}/64 dev {name} nodad", addresses[1]));
    };
    set_up("uplink", HOST);
    inside(&outside, || set_up("eth0", OUTSIDER));
    outside
}

/// A server that answers each TCP connection with the address of its peer.
pub(crate) fn serve(sandbox: &Sandbox, port: u16) {
    let listener = inside(sandbox, || TcpListener::bind(("::", port)).unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            let _ = stream.write_all(peer.ip().to_canonical().to_string().as_bytes());
        }
    });
}

/// Connects from where the caller is; what the server says, which is who it takes us for.
pub(crate) fn ask(
    address: impl Into<IpAddr>,
    port: u16,
    patience: Duration,
) -> std::io::Result<String> {
    let address = SocketAddr::new(address.into(), port);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

pub(crate) fn ask_from(sandbox: &Sandbox, address: impl Into<IpAddr>, port: u16) -> String {
    let address = address.into();
    let answer = inside(sandbox, || ask(address, port, PATIENCE));
    answer.unwrap_or_else(|error| panic!("{address}:{port}: {error}"))
}

pub(crate) fn refused_from(sandbox: &Sandbox, address: impl Into<IpAddr>, port: u16) {
    let address = address.into();
    let answer = inside(sandbox, || ask(address, port, REFUSAL_PATIENCE));
    assert!(answer.is_err(), "{address}:{port} answered {answer:?}");
}

/// Runs the `ip` program where the caller is.
pub(crate) fn ip(arguments: &str) -> String {
    run("ip", arguments)
}

/// The `nft` program, where a test stands for somebody else.
pub(crate) fn nft(arguments: &str) -> String {
    run("nft", arguments)
}

/// Runs a program where the caller is; its arguments are divided by blanks.
pub(crate) fn run(program: &str, arguments: &str) -> String {
    let output = std::process::Command::new(program)
        .args(arguments.split(' '))
        .output()
        .unwrap_or_else(|error| panic!("needs the program {program}: {error}"));
    assert!(output.status.success(), "{program} {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether `done` becomes true within the patience.
pub(crate) fn eventually(mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

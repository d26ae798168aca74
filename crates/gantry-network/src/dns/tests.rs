//! Against real sockets in real namespaces, as root.
use super::*;
use crate::sandbox::{Sandbox, inside};
use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(ADDRESS), 53);

/// Names with their addresses, the same for every container.
#[derive(Default)]
struct Book {
    names: RwLock<HashMap<String, Vec<IpAddr>>>,
    outside: Mutex<Outside>,
}

impl Directory for Book {
    fn addresses(&self, _: &str, name: &str, v6: bool) -> Option<Vec<IpAddr>> {
        let names = self.names.read().expect("names");
        let all = names.get(&name.to_ascii_lowercase())?;
        Some(all.iter().copied().filter(|a| a.is_ipv6() == v6).collect())
    }

    fn name_of(&self, _: &str, address: IpAddr) -> Option<String> {
        let names = self.names.read().expect("names");
        let found = names.iter().find(|(_, all)| all.contains(&address))?;
        Some(format!("{}.net", found.0))
    }

    fn outside(&self, _: &str) -> Outside {
        self.outside.lock().expect("outside").clone()
    }
}

impl Book {
    fn note(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|a| a.parse().expect("address"));
        let mut names = self.names.write().expect("names");
        names.insert(name.into(), addresses.collect());
    }

    fn set_upstreams(&self, upstreams: &[Upstream]) {
        self.outside.lock().expect("outside").upstreams = upstreams.to_vec();
    }
}

/// A namespace that is served.
struct Place {
    netns: OwnedFd,
    book: Arc<Book>,
    resolver: Resolver,
    handle: Option<Handle>,
    runtime: tokio::runtime::Runtime,
}

impl Place {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("runtime");
        let book = Arc::new(Book::default());
        let mut place = Self {
            netns: Sandbox::new().expect("namespace").netns,
            resolver: Resolver::new(book.clone()),
            book,
            handle: None,
            runtime,
        };
        place.serve();
        place
    }

    fn serve(&mut self) {
        let netns = self.netns.try_clone().expect("descriptor");
        let sockets = Sockets::open(netns).expect("sockets");
        let _context = self.runtime.enter();
        self.handle = Some(self.resolver.serve("c", sockets).expect("served"));
    }

    /// A client's socket.
    fn client(&self) -> UdpSocket {
        let bind = || Ok(UdpSocket::bind("127.0.0.1:0")?);
        let socket = inside(&self.netns, bind).expect("socket");
        let patience = Some(Duration::from_secs(8));
        socket.set_read_timeout(patience).expect("timeout");
        socket
    }

    fn ask(&self, name: &str, kind: RecordType) -> Message {
        ask_with(&self.client(), &question(name, kind))
    }

    fn ask_by_tcp(&self, query: &Message) -> Message {
        let connect = || Ok(TcpStream::connect(SERVER)?);
        let mut stream = inside(&self.netns, connect).expect("connected");
        let bytes = query.to_vec().expect("query");
        let length = (bytes.len() as u16).to_be_bytes();
        stream
            .write_all(&[&length, &*bytes].concat())
            .expect("sent");
        let mut length = [0; 2];
        stream.read_exact(&mut length).expect("length");
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer).expect("answer");
        Message::from_vec(&answer).expect("message")
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("name"), kind));
    message
}

fn ask_with(socket: &UdpSocket, query: &Message) -> Message {
    let bytes = query.to_vec().expect("query");
    socket.send_to(&bytes, SERVER).expect("sent");
    let mut buffer = vec![0; 65_535];
    let (length, from) = socket.recv_from(&mut buffer).expect("answer");
    assert_eq!(from, SERVER);
    let answer = Message::from_vec(&buffer[..length]).expect("message");
    assert_eq!(answer.metadata.id, query.metadata.id);
    assert_eq!(answer.queries, query.queries);
    answer
}

fn addresses(message: &Message) -> Vec<IpAddr> {
    let mut list: Vec<IpAddr> = message
        .answers
        .iter()
        .filter_map(|r| r.data.ip_addr())
        .collect();
    list.sort();
    list
}

#[test]
fn names_are_answered() {
    let place = Place::new();
    place.book.note("web", &["10.0.0.2", "10.0.0.3", "fd00::2"]);
    place.book.note("old", &["10.0.0.4"]);
    let answer = place.ask("WeB.", RecordType::A);
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert!(answer.metadata.recursion_available && answer.metadata.recursion_desired);
    let expected: [IpAddr; 2] = [[10, 0, 0, 2].into(), [10, 0, 0, 3].into()];
    assert_eq!(addresses(&answer), expected);
    assert_eq!(answer.answers[0].ttl, 600);
    assert_eq!(answer.answers[0].name.to_ascii(), "WeB.", "as it was asked");
    let v6: IpAddr = "fd00::2".parse().expect("address");
    assert_eq!(addresses(&place.ask("web.", RecordType::AAAA)), [v6]);
    // Ours, without such an address: empty, and nobody else is asked.
    for kind in [RecordType::AAAA, RecordType::MX] {
        let answer = place.ask("old.", kind);
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        assert!(answer.answers.is_empty());
    }
    let answer = place.ask("4.0.0.10.in-addr.arpa.", RecordType::PTR);
    assert!(matches!(&answer.answers[0].data, RData::PTR(p) if p.to_ascii() == "old.net."));
    let reverse = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.";
    let answer = place.ask(reverse, RecordType::PTR);
    assert!(matches!(&answer.answers[0].data, RData::PTR(p) if p.to_ascii() == "web.net."));
    // Not ours, and there is nobody to ask.
    for name in ["nobody.", "example.org.", "9.9.9.9.in-addr.arpa."] {
        let answer = place.ask(name, RecordType::A);
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    }
    place
        .book
        .outside
        .lock()
        .expect("outside")
        .keeps_short_names = true;
    let answer = place.ask("nobody.", RecordType::A);
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    let answer = place.ask("example.org.", RecordType::A);
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn addresses_change_their_places() {
    let place = Place::new();
    place.book.note("web", &["10.0.0.2", "10.0.0.3"]);
    let first = |_| place.ask("web.", RecordType::A).answers[0].data.ip_addr();
    let seen: std::collections::HashSet<_> = (0..64).map(first).collect();
    assert_eq!(seen.len(), 2);
}

#[test]
fn what_is_too_long_comes_by_tcp() {
    let place = Place::new();
    let all: Vec<String> = (0..200).map(|i| format!("10.0.1.{i}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    place.book.note("many", &all);
    let query = question("many.", RecordType::A);
    let cut = ask_with(&place.client(), &query);
    assert!(cut.metadata.truncation);
    assert!(cut.to_vec().expect("bytes").len() <= 512);
    assert!(cut.answers.len() > 25, "{}", cut.answers.len());
    let whole = place.ask_by_tcp(&query);
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 200);
    let mut query = question("many.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    query.set_edns(edns);
    let whole = ask_with(&place.client(), &query);
    assert!(!whole.metadata.truncation && whole.edns.is_some());
    assert_eq!(whole.answers.len(), 200);
}

#[test]
fn the_container_may_have_port_53_itself() {
    let place = Place::new();
    place.book.note("web", &["10.0.0.2"]);
    let bind = || {
        let udp = UdpSocket::bind("0.0.0.0:53")?;
        let tcp = std::net::TcpListener::bind("0.0.0.0:53")?;
        Ok((udp, tcp))
    };
    let (own, _listener) = inside(&place.netns, bind).expect("port 53");
    let web: IpAddr = [10, 0, 0, 2].into();
    assert_eq!(addresses(&place.ask("web.", RecordType::A)), [web]);
    let query = question("web.", RecordType::A);
    assert_eq!(addresses(&place.ask_by_tcp(&query)), [web]);
    // And what is for the container comes to it.
    let client = place.client();
    client.send_to(b"hello", "127.0.0.1:53").expect("sent");
    let mut buffer = [0; 16];
    let (length, from) = own.recv_from(&mut buffer).expect("received");
    assert_eq!(&buffer[..length], b"hello");
    own.send_to(b"yes", from).expect("sent");
    let (length, from) = client.recv_from(&mut buffer).expect("received");
    assert_eq!((&buffer[..length], from.port()), (&b"yes"[..], 53));
}

#[test]
fn a_client_that_keeps_its_socket_outlives_the_daemon() {
    let mut place = Place::new();
    place.book.note("web", &["10.0.0.2"]);
    let client = place.client();
    let query = question("web.", RecordType::A);
    assert_eq!(ask_with(&client, &query).answers.len(), 1);
    // The daemon dies; the next one takes the container up.
    place.handle = None;
    // What is sent meanwhile keeps the kernel's memory of the way awake.
    client.send_to(&query.to_vec().expect("query"), SERVER).ok();
    std::thread::sleep(Duration::from_millis(100));
    place.serve();
    let client = Client(client);
    assert_eq!(client.ask_until_answered(&query).answers.len(), 1);
    assert_eq!(place.ask("web.", RecordType::A).answers.len(), 1);
}

/// A client that asks again, as real ones do.
struct Client(UdpSocket);

impl Client {
    fn ask_until_answered(&self, query: &Message) -> Message {
        let patience = Some(Duration::from_millis(200));
        self.0.set_read_timeout(patience).expect("timeout");
        let mut buffer = [0; 512];
        for _ in 0..10 {
            let _ = self.0.send_to(&query.to_vec().expect("query"), SERVER);
            if let Ok((length, _)) = self.0.recv_from(&mut buffer) {
                return Message::from_vec(&buffer[..length]).expect("message");
            }
        }
        panic!("no answer");
    }
}

/// A server outside, which answers every query with one address and counts them.
struct Server {
    port: u16,
    asked: Arc<AtomicUsize>,
}

impl Server {
    /// One that answers with that code; none: not at all.
    fn start(netns: Option<&OwnedFd>, address: [u8; 4], code: Option<ResponseCode>) -> Self {
        let bind = || {
            let udp = UdpSocket::bind("127.0.0.1:0")?;
            let tcp = std::net::TcpListener::bind(udp.local_addr()?)?;
            Ok((udp, tcp))
        };
        let (udp, tcp) = match netns {
            Some(netns) => inside(netns, bind).expect("sockets"),
            None => bind()
                .map_err(|e: crate::netlink::Refusal| e.error)
                .expect("sockets"),
        };
        let asked = Arc::new(AtomicUsize::new(0));
        let server = Self {
            port: udp.local_addr().expect("address").port(),
            asked: asked.clone(),
        };
        let reply = move |bytes: &[u8]| -> Option<Vec<u8>> {
            asked.fetch_add(1, Ordering::Relaxed);
            let query = Message::from_vec(bytes).expect("query");
            let mut answer = query.clone().into_response();
            answer.metadata.response_code = code?;
            if code == Some(ResponseCode::NoError) {
                let name = query.queries[0].name.clone();
                let data = RData::A(Ipv4Addr::from(address).into());
                answer.add_answer(hickory_proto::rr::Record::from_rdata(name, 7, data));
            }
            answer.to_vec().ok()
        };
        let by_tcp = reply.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                if let Some(answer) = reply(&buffer[..length]) {
                    let _ = udp.send_to(&answer, from);
                }
            }
        });
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.expect("stream");
                let mut length = [0; 2];
                if stream.read_exact(&mut length).is_err() {
                    continue;
                }
                let mut query = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut query).expect("query");
                if let Some(answer) = by_tcp(&query) {
                    let length = (answer.len() as u16).to_be_bytes();
                    let _ = stream.write_all(&[&length, &*answer].concat());
                }
            }
        });
        server
    }

    fn upstream(&self, from_host: bool) -> Upstream {
        Upstream {
            address: ([127, 0, 0, 1], self.port).into(),
            from_host,
        }
    }
}

const WELL: Option<ResponseCode> = Some(ResponseCode::NoError);

#[test]
fn other_names_are_forwarded() {
    let place = Place::new();
    let host = Server::start(None, [192, 0, 2, 1], WELL);
    let within = Server::start(Some(&place.netns), [192, 0, 2, 2], WELL);
    for (upstream, last) in [(host.upstream(true), 1), (within.upstream(false), 2)] {
        place.book.set_upstreams(&[upstream]);
        let expected: IpAddr = [192, 0, 2, last].into();
        let mut query = question("example.org.", RecordType::A);
        query.set_edns(Edns::new());
        let answer = ask_with(&place.client(), &query);
        assert_eq!(addresses(&answer), [expected]);
        assert_eq!(answer.answers[0].ttl, 7, "as it came");
        assert!(answer.edns.is_some());
        assert_eq!(addresses(&place.ask_by_tcp(&query)), [expected]);
        // Kinds that nobody here knows.
        let answer = place.ask("example.org.", RecordType::from(65));
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    }
    assert_eq!(host.asked.load(Ordering::Relaxed), 3);
}

#[test]
fn the_next_server_is_asked() {
    let place = Place::new();
    let well = Server::start(None, [192, 0, 2, 1], WELL);
    let mute = Server::start(None, [192, 0, 2, 2], None);
    let failing = Server::start(None, [192, 0, 2, 3], Some(ResponseCode::ServFail));
    let refusing = Server::start(None, [192, 0, 2, 4], Some(ResponseCode::Refused));
    let closed = Upstream {
        address: ([127, 0, 0, 1], 1).into(),
        from_host: true,
    };
    // What is ours is no server to ask.
    let myself = Upstream {
        address: SERVER,
        from_host: false,
    };
    let started = Instant::now();
    let lists = [
        vec![
            failing.upstream(true),
            refusing.upstream(true),
            well.upstream(true),
        ],
        vec![closed, myself, well.upstream(true)],
        vec![mute.upstream(true), well.upstream(true)],
    ];
    for list in lists {
        place.book.set_upstreams(&list);
        let answer = place.ask("example.org.", RecordType::A);
        assert_eq!(
            addresses(&answer),
            [IpAddr::from([192, 0, 2, 1])],
            "{list:?}"
        );
    }
    assert!(started.elapsed() < Duration::from_secs(4));
    place.book.set_upstreams(&[mute.upstream(true)]);
    let answer = place.ask("example.org.", RecordType::A);
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert!(started.elapsed() < Duration::from_secs(8));
}

#[test]
fn others_do_not_wait_for_a_mute_server() {
    let place = Place::new();
    place.book.note("web", &["10.0.0.2"]);
    let mute = Server::start(None, [192, 0, 2, 2], None);
    place.book.set_upstreams(&[mute.upstream(true)]);
    let client = place.client();
    let query = question("example.org.", RecordType::A)
        .to_vec()
        .expect("query");
    for _ in 0..100 {
        client.send_to(&query, SERVER).expect("sent");
    }
    let started = Instant::now();
    assert_eq!(place.ask("web.", RecordType::A).answers.len(), 1);
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_flood_is_refused() {
    let place = Place::new();
    place.book.note("web", &["10.0.0.2"]);
    let mute = Server::start(None, [192, 0, 2, 2], None);
    place.book.set_upstreams(&[mute.upstream(true)]);
    let client = place.client();
    let quick = Some(Duration::from_millis(1));
    client.set_read_timeout(quick).expect("timeout");
    let query = question("example.org.", RecordType::A).to_vec();
    let query = query.expect("query");
    let mut buffer = [0; 512];
    let mut refused = 0;
    let deadline = Instant::now() + Duration::from_secs(3);
    while refused == 0 && Instant::now() < deadline {
        for _ in 0..100 {
            client.send_to(&query, SERVER).expect("sent");
        }
        while let Ok((length, _)) = client.recv_from(&mut buffer) {
            let answer = Message::from_vec(&buffer[..length]).expect("message");
            assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
            refused += 1;
        }
    }
    assert!(refused > 0, "nothing was refused");
    // What is ours is answered all the same.
    assert_eq!(place.ask("web.", RecordType::A).answers.len(), 1);
}

#[test]
fn what_is_no_query_does_no_harm() {
    let place = Place::new();
    place.book.note("web", &["10.0.0.2"]);
    let client = place.client();
    let good = question("web.", RecordType::A).to_vec().expect("query");
    // Every cut of a query, every bit of one turned, and noise.
    for end in 0..good.len() {
        client.send_to(&good[..end], SERVER).expect("sent");
    }
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        client.send_to(&bad, SERVER).expect("sent");
    }
    for length in [12, 13, 100, 512, 5000, 60_000] {
        let noise: Vec<u8> = (0..length).map(|_| rand::random()).collect();
        client.send_to(&noise, SERVER).expect("sent");
    }
    // A name that points to itself.
    let mut endless = good[..12].to_vec();
    endless.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
    let answer = answer_to(&place, &endless);
    assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
    let mut long = good.clone();
    long.resize(5000, 0);
    let answer = answer_to(&place, &long);
    assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
    let mut update = good.clone();
    update[2] |= 5 << 3;
    let answer = answer_to(&place, &update);
    assert_eq!(answer.metadata.response_code, ResponseCode::NotImp);
    assert_eq!(place.ask("web.", RecordType::A).answers.len(), 1);
}

fn answer_to(place: &Place, bytes: &[u8]) -> Message {
    let client = place.client();
    client.send_to(bytes, SERVER).expect("sent");
    let mut buffer = [0; 512];
    let (length, _) = client.recv_from(&mut buffer).expect("answer");
    Message::from_vec(&buffer[..length]).expect("message")
}

/// moby#12603, moby#20335: names that were there and could not be resolved.
#[test]
fn names_are_found_while_others_come_and_go() {
    const NAMES: usize = 200;
    let place = Place::new();
    for i in 0..NAMES {
        place.book.note(&format!("c{i}"), &[&format!("10.1.0.{i}")]);
    }
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Containers come and go, with their own name servers.
        scope.spawn(|| {
            let _context = place.runtime.enter();
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                let name = format!("guest{}", round % 7);
                place.book.note(&name, &["10.2.0.1"]);
                let netns = Sandbox::new().expect("namespace").netns;
                let sockets = Sockets::open(netns).expect("sockets");
                let served = place.resolver.serve(&name, sockets).expect("served");
                place.book.names.write().expect("names").remove(&name);
                drop(served);
                round += 1;
            }
        });
        let ask = |worker: usize| {
            let client = place.client();
            for i in 0..2500 {
                let i = (i * 7 + worker * 50) % NAMES;
                let query = question(&format!("c{i}."), RecordType::A);
                let expected = IpAddr::from([10, 1, 0, i as u8]);
                assert_eq!(addresses(&ask_with(&client, &query)), [expected]);
            }
        };
        let workers: Vec<_> = (0..4).map(|w| scope.spawn(move || ask(w))).collect();
        let results: Vec<_> = workers.into_iter().map(|w| w.join()).collect();
        stop.store(true, Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok), "a name was not resolved");
    });
}

#[test]
fn a_namespace_goes_with_its_handle() {
    let mut place = Place::new();
    let inode = rustix::fs::fstat(place.netns.as_fd()).expect("stat").st_ino;
    let held = || {
        std::fs::read_dir("/proc/self/fd")
            .expect("descriptors")
            .flatten()
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .filter(|target| target.to_string_lossy() == format!("net:[{inode}]"))
            .count()
    };
    assert_eq!(held(), 2, "the test's and the handle's");
    place.handle = None;
    let deadline = Instant::now() + Duration::from_secs(5);
    while held() > 1 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(held(), 1);
}

#[test]
fn setting_up_is_fast() {
    let place = Place::new();
    let mut times = Vec::new();
    for _ in 0..20 {
        let netns = Sandbox::new().expect("namespace").netns;
        let started = Instant::now();
        let sockets = Sockets::open(netns).expect("sockets");
        let opened = started.elapsed();
        let _context = place.runtime.enter();
        let handle = place.resolver.serve("x", sockets).expect("served");
        times.push((opened, started.elapsed()));
        drop(handle);
    }
    times.sort();
    println!("open, open and serve: {:?}", times[times.len() / 2]);
    assert!(times[times.len() / 2].1 < Duration::from_millis(5));
}

#[test]
fn upstreams_are_written_as_docker_does() {
    let upstream = |from_host| Upstream {
        address: (Ipv6Addr::LOCALHOST, 53).into(),
        from_host,
    };
    assert_eq!(upstream(true).to_string(), "host(::1)");
    assert_eq!(upstream(false).to_string(), "::1");
}

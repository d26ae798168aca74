//! Names: the name server at 127.0.0.11, `/etc/hosts` and `/etc/resolv.conf`, and links.

use gantry_testkit::{Engine, Machine, Options, Ran, busybox_tar, debian_tar, servers_tar};
use std::sync::Arc;
use std::time::Duration;

/// An engine on a machine of its own.
fn site(flags: &[&str]) -> Engine {
    let engine = Engine::with(Options {
        machine: Some(Arc::new(Machine::new())),
        flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        ..Options::default()
    });
    engine.import(&busybox_tar(), "busybox");
    engine
}

/// A client command that must do well; words are divided by blanks.
#[track_caller]
fn ok(engine: &Engine, line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    engine.gantry(&words).ok()
}

/// A container that sleeps.
#[track_caller]
fn sleeps(engine: &Engine, flags: &str) -> String {
    ok(engine, &format!("run -d {flags} busybox sleep 10000"))
}

fn shell(engine: &Engine, container: &str, script: &str) -> Ran {
    engine.gantry(&["exec", container, "sh", "-c", script])
}

/// The addresses that a container is told for a name; empty where there is none.
fn lookup(engine: &Engine, container: &str, name: &str) -> Vec<String> {
    let said = shell(engine, container, &format!("nslookup {name} 127.0.0.11"));
    let (_, answer) = said.stdout.split_once("\n\n").unwrap_or_default();
    answer
        .lines()
        .filter_map(|line| line.strip_prefix("Address: "))
        .map(str::to_owned)
        .collect()
}

fn address(engine: &Engine, container: &str, network: &str) -> String {
    let shown = engine.inspect(container);
    let networks = &shown["NetworkSettings"]["Networks"];
    networks[network]["IPAddress"].as_str().unwrap().to_owned()
}

#[test]
fn containers_on_a_users_network_find_each_other() {
    let engine = site(&[]);
    ok(&engine, "network create --ipv6 --subnet fd00:77::/64 town");
    let id = sleeps(
        &engine,
        "--name web --network town --network-alias www --hostname front",
    );
    sleeps(&engine, "--name asks --network town");
    let web = engine.inspect("web");
    let own = &web["NetworkSettings"]["Networks"]["town"];
    let v4 = own["IPAddress"].as_str().unwrap();
    let v6 = own["GlobalIPv6Address"].as_str().unwrap();
    for name in ["web", "WWW", "front", &id[..12], "web.town", "www.town."] {
        let mut found = lookup(&engine, "asks", name);
        found.sort();
        assert_eq!(found, [v4, v6], "{name}");
    }
    let reverse = shell(&engine, "asks", &format!("nslookup {v4}")).ok();
    assert!(reverse.contains("name = web.town"), "{reverse}");
    let reverse = shell(&engine, "asks", &format!("nslookup {v6}")).ok();
    assert!(reverse.contains("name = web.town"), "{reverse}");
    // By the C library's own way, too.
    shell(&engine, "asks", "ping -c 1 -W 2 www").ok();
    let files = shell(&engine, "web", "cat /etc/resolv.conf /etc/hosts").ok();
    for line in [
        "nameserver 127.0.0.11",
        "options ndots:0",
        "# Overrides: []",
    ] {
        assert!(files.lines().any(|l| l == line), "{line} in {files}");
    }
    assert!(
        files.contains(" (internal resolver)\n# ExtServers: [host("),
        "{files}"
    );
    assert!(
        files.ends_with(&format!("{v4}\tfront\n{v6}\tfront")),
        "{files}"
    );
    // A new name counts at once, and an old one no more.
    ok(&engine, "rename web other");
    assert_eq!(lookup(&engine, "asks", "other").len(), 2);
    assert_eq!(lookup(&engine, "asks", "web.town"), [""; 0]);
    ok(&engine, "stop -t 0 other");
    assert_eq!(lookup(&engine, "asks", "other.town"), [""; 0]);
    ok(&engine, "start other");
    assert_eq!(lookup(&engine, "asks", "other").len(), 2);
    engine.clean();
}

#[test]
fn names_come_and_go_with_networks() {
    let engine = site(&[]);
    ok(&engine, "network create town");
    ok(&engine, "network create --internal yard");
    sleeps(&engine, "--name web --network town");
    sleeps(&engine, "--name db --network yard");
    sleeps(&engine, "--name asks");
    let before = shell(&engine, "asks", "cat /etc/resolv.conf").ok();
    assert!(before.contains(" (legacy)"), "{before}");
    ok(&engine, "network connect --alias me town asks");
    ok(&engine, "network connect --link db:store yard asks");
    let web = address(&engine, "web", "town");
    let db = address(&engine, "db", "yard");
    assert_eq!(lookup(&engine, "asks", "web"), [&*web]);
    assert_eq!(lookup(&engine, "asks", "store"), [&*db]);
    assert_eq!(lookup(&engine, "asks", "db.yard"), [&*db]);
    // Links are one's own, and names are of one's own networks.
    assert_eq!(lookup(&engine, "db", "store.yard"), [""; 0]);
    assert_eq!(lookup(&engine, "db", "web.town"), [""; 0]);
    let mine = address(&engine, "asks", "town");
    assert_eq!(lookup(&engine, "web", "me"), [&*mine]);
    let hosts = shell(&engine, "asks", "cat /etc/hosts").ok();
    assert!(hosts.contains(&format!("\n{mine}\t")), "{hosts}");
    let after = shell(&engine, "asks", "cat /etc/resolv.conf").ok();
    assert!(after.contains("nameserver 127.0.0.11\n"), "{after}");
    ok(&engine, "network disconnect town asks");
    assert_eq!(lookup(&engine, "asks", "web.town"), [""; 0]);
    assert_eq!(lookup(&engine, "web", "me.town"), [""; 0]);
    let hosts = shell(&engine, "asks", "cat /etc/hosts").ok();
    assert!(!hosts.contains(&format!("\n{mine}\t")), "{hosts}");
    // What the user has written stays.
    sleeps(&engine, "--name edits");
    shell(
        &engine,
        "edits",
        "echo nameserver 9.9.9.9 > /etc/resolv.conf; echo 10.9.9.9 mine >> /etc/hosts",
    )
    .ok();
    ok(&engine, "network connect town edits");
    let files = shell(&engine, "edits", "cat /etc/resolv.conf /etc/hosts").ok();
    assert!(
        files.starts_with("nameserver 9.9.9.9\n127.0.0.1"),
        "{files}"
    );
    assert!(files.contains("\n10.9.9.9 mine\n"), "{files}");
    engine.clean();
}

#[test]
fn names_outlive_the_daemon() {
    let mut engine = site(&[]);
    ok(&engine, "network create town");
    sleeps(&engine, "--name web --network town");
    sleeps(&engine, "--name asks --network town");
    let web = address(&engine, "web", "town");
    assert_eq!(lookup(&engine, "asks", "web"), [&*web]);
    engine.kill_daemon();
    engine.launch();
    assert_eq!(lookup(&engine, "asks", "web"), [&*web]);
    sleeps(&engine, "--name new --network town");
    assert_eq!(lookup(&engine, "asks", "new").len(), 1);
    assert_eq!(lookup(&engine, "new", "web"), [&*web]);
    engine.clean();
}

#[test]
fn a_container_may_have_port_53_itself() {
    let engine = site(&[]);
    engine.import(&debian_tar(), "debian");
    ok(&engine, "network create town");
    sleeps(&engine, "--name web --network town");
    // On all addresses, by UDP and TCP: whatever comes goes back.
    let serve = "use IO::Socket::INET; my %at = (LocalAddr => '0.0.0.0', LocalPort => 53); \
                 my $udp = IO::Socket::INET->new(%at, Proto => 'udp') or die; \
                 my $tcp = IO::Socket::INET->new(%at, Proto => 'tcp', Listen => 9) or die; \
                 $| = 1; print qq(listens\\n); \
                 if (fork) { while ($udp->recv(my $text, 512)) { $udp->send($text) } } \
                 else { while (my $one = $tcp->accept) { print $one scalar <$one>; close $one } }";
    let words = [
        "run",
        "-d",
        "--name",
        "dns",
        "--network",
        "town",
        "debian",
        "perl",
        "-e",
        serve,
    ];
    engine.gantry(&words).ok();
    gantry_testkit::until("the server listens", Duration::from_secs(20), || {
        engine.gantry(&["logs", "dns"]).stdout.contains("listens")
    });
    let ask = "use IO::Socket::INET; for my $kind ('udp', 'tcp') { \
               my $one = IO::Socket::INET->new(PeerAddr => 'dns:53', Proto => $kind) or die; \
               print $one \"hello\\n\"; $one->flush; print scalar <$one> }";
    let words = [
        "run",
        "--rm",
        "--network",
        "town",
        "debian",
        "perl",
        "-e",
        ask,
    ];
    assert_eq!(engine.gantry(&words).ok(), "hello\nhello");
    let web = address(&engine, "web", "town");
    assert_eq!(lookup_by(&engine, "dns", "web"), web);
    engine.clean();
}

/// The first address that the C library finds in a container of Debian's.
fn lookup_by(engine: &Engine, container: &str, name: &str) -> String {
    let said = shell(engine, container, &format!("getent ahostsv4 {name}")).ok();
    said.split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn who_shares_a_network_shares_its_names() {
    let engine = site(&[]);
    ok(&engine, "network create town");
    sleeps(&engine, "--name web --network town --hostname front");
    sleeps(&engine, "--name beside --network container:web");
    let web = address(&engine, "web", "town");
    assert_eq!(lookup(&engine, "beside", "web"), [&*web]);
    let said = shell(
        &engine,
        "beside",
        "hostname; cat /etc/hostname; tail -1 /etc/hosts",
    )
    .ok();
    assert_eq!(said, format!("front\nfront\n{web}\tfront"));
    engine.clean();
}

#[test]
fn links_on_the_default_bridge() {
    let engine = site(&[]);
    let id = sleeps(
        &engine,
        "--name db --hostname store --expose 5432 --expose 5433 -e KEY=value",
    );
    sleeps(&engine, "--name web --link db --link db:my-db");
    let db = address(&engine, "db", "bridge");
    let own = shell(&engine, "web", "env | sort; cat /etc/hosts").ok();
    for line in [
        format!("{db}\tmy-db store db"),
        format!("{db}\tdb store"),
        format!("DB_PORT=tcp://{db}:5432"),
        format!("MY_DB_PORT_5432_TCP_ADDR={db}"),
        format!("MY_DB_PORT_5432_TCP_START=tcp://{db}:5432"),
        "MY_DB_PORT_5433_TCP_PROTO=tcp".to_owned(),
        "MY_DB_ENV_KEY=value".to_owned(),
        "MY_DB_NAME=/web/my-db".to_owned(),
    ] {
        assert!(own.lines().any(|l| l == line), "{line} in {own}");
    }
    assert!(!own.contains("MY_DB_ENV_PATH"), "{own}");
    shell(&engine, "web", "ping -c 1 -W 2 my-db").ok();
    let shown = engine.inspect("web");
    let links = ["/db:/web/db", "/db:/web/my-db"];
    assert_eq!(shown["HostConfig"]["Links"], serde_json::json!(links));
    let list = format!("ps --no-trunc --format {{{{.Names}}}} --filter id={id}");
    let listed = ok(&engine, &list);
    assert_eq!(listed, "db,web/db,web/my-db");
    let found = ok(&engine, "inspect --format {{.Id}} web/my-db");
    let listed = ok(&engine, "ps --no-trunc -q --filter name=web/my");
    assert_eq!(listed, id);
    assert_eq!(found, id);
    // Another address, which the linking container is told.
    ok(&engine, "stop -t 0 db");
    sleeps(&engine, "--name takes");
    ok(&engine, "start db");
    let moved = address(&engine, "db", "bridge");
    assert_ne!(moved, db);
    let hosts = shell(&engine, "web", "cat /etc/hosts").ok();
    assert!(
        hosts.contains(&format!("{moved}\tmy-db store db\n")),
        "{hosts}"
    );
    assert!(!hosts.contains(&format!("{db}\t")), "{hosts}");
    // What it is linked to must run.
    ok(&engine, "stop -t 0 db web");
    let said = engine.gantry(&["start", "web"]).fails_with(1);
    assert!(
        said.contains("Cannot link to a non running container: /db AS /web/db"),
        "{said}"
    );
    ok(&engine, "rm --link web/db");
    ok(&engine, "start db web");
    let links = &engine.inspect("web")["HostConfig"]["Links"];
    assert_eq!(*links, serde_json::json!(["/db:/web/my-db"]));
    let said = engine.gantry(&["run", "--rm", "--link", "nobody", "busybox"]);
    let said = said.fails_with(125);
    assert!(
        said.contains("could not get container for nobody: No such container: nobody"),
        "{said}"
    );
    engine.clean();
}

#[test]
fn hosts_of_the_users() {
    let engine = site(&[]);
    let words = "run --rm --hostname a.b --domainname c --add-host x:10.1.1.1 --add-host y:::1 \
                 --add-host gate:host-gateway busybox cat /etc/hosts";
    let said = ok(&engine, words);
    let gateway = format!("{}.1\tgate", engine.subnet());
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "127.0.0.1\tlocalhost");
    assert_eq!(lines[6..9], ["10.1.1.1\tx", "::1\ty", &*gateway]);
    assert!(lines[9].ends_with("\ta.b.c a"), "{said}");
    assert_eq!(lines.len(), 10, "{said}");
    let mut gateways = site(&["--host-gateway-ip=192.0.2.9", "--host-gateway-ip=fd00::9"]);
    let said = ok(
        &gateways,
        "run --rm --network none --add-host gate:host-gateway busybox cat /etc/hosts",
    );
    assert!(said.ends_with("192.0.2.9\tgate\nfd00::9\tgate"), "{said}");
    gateways.stop_daemon();
    let without = "run --rm --sysctl net.ipv6.conf.all.disable_ipv6=1 busybox cat /etc/hosts";
    assert_eq!(ok(&engine, without).lines().count(), 2);
    engine.clean();
}

/// A name server beyond the machine's link that says `192.0.2.99` of every name, and what it was asked.
struct Outside(std::process::Child);

impl Outside {
    fn start(machine: &Machine) -> Self {
        let script = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('192.0.2.2', 53))
print('ready', flush=True)
while True:
    q, a = s.recvfrom(4096)
    n = 12
    while q[n]: n += q[n] + 1
    r = q[:2] + b'\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0' + q[12:n + 5]
    s.sendto(r + b'\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\7\\0\\4\\xc0\\0\\2\\x63', a)
";
        let mut child = machine
            .outside(&["python3", "-c", script])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        Self(child)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn other_names_are_asked_outside() {
    let machine = Arc::new(Machine::new());
    let _server = Outside::start(&machine);
    let engine = Engine::with(Options {
        machine: Some(machine.clone()),
        flags: vec!["--dns".into(), Machine::OUTSIDE.into()],
        ..Options::default()
    });
    engine.import(&busybox_tar(), "busybox");
    ok(&engine, "network create town");
    ok(&engine, "network create --internal yard");
    sleeps(&engine, "--name web --network town");
    let ask = |container: &str| {
        let script = "nslookup -type=a nobody.example. 127.0.0.11";
        shell(&engine, container, script).stdout
    };
    assert!(ask("web").contains("192.0.2.99"), "{}", ask("web"));
    let file = shell(&engine, "web", "cat /etc/resolv.conf").ok();
    assert!(
        file.contains("# ExtServers: [192.0.2.2]\n# Overrides: [nameservers]"),
        "{file}"
    );
    // From an internal network nobody is reached, and one is told at once.
    sleeps(&engine, "--name shut --network yard");
    let started = std::time::Instant::now();
    assert!(ask("shut").contains("SERVFAIL"), "{}", ask("shut"));
    assert!(started.elapsed() < Duration::from_secs(3));
    engine.clean();
}

#[test]
fn links_are_ways_where_there_are_no_others() {
    let mut engine = site(&["--icc=false"]);
    let serve = "mkdir /w; echo hi > /w/index.html; httpd -p 81 -h /w; exec httpd -f -p 80 -h /w";
    let words = [
        "run", "-d", "--name", "db", "--expose", "80", "busybox", "sh", "-c", serve,
    ];
    engine.gantry(&words).ok();
    sleeps(&engine, "--name web --link db");
    sleeps(&engine, "--name other");
    let get = |engine: &Engine, from: &str, port: u16| {
        let db = address(engine, "db", "bridge");
        shell(
            engine,
            from,
            &format!("timeout 1 wget -qO- http://{db}:{port}/"),
        )
    };
    let check = |engine: &Engine| {
        gantry_testkit::until("db serves", Duration::from_secs(10), || {
            get(engine, "db", 80).code == 0
        });
        assert_eq!(get(engine, "web", 80).ok(), "hi");
        assert_ne!(get(engine, "web", 81).code, 0, "a port that is not exposed");
        assert_ne!(get(engine, "other", 80).code, 0, "nobody else");
    };
    check(&engine);
    // Either comes back with another address.
    ok(&engine, "stop -t 0 db web");
    sleeps(&engine, "--name one");
    sleeps(&engine, "--name two");
    ok(&engine, "start db");
    ok(&engine, "start web");
    check(&engine);
    ok(&engine, "stop -t 0 db");
    ok(&engine, "rm -f one");
    ok(&engine, "start db");
    check(&engine);
    engine.kill_daemon();
    engine.launch();
    check(&engine);
    engine.clean();
}

#[test]
fn real_resolvers_are_content() {
    let machine = Arc::new(Machine::new());
    let mut engine = Engine::with(Options {
        machine: Some(machine),
        ..Options::default()
    });
    engine.import(&busybox_tar(), "busybox");
    engine.import(&servers_tar(), "servers");
    ok(&engine, "network create town");
    let pages = "mkdir /w; echo paper > /w/index.html; exec httpd -f -p 80 -h /w";
    let words = [
        "run",
        "-d",
        "--name",
        "pages",
        "--network",
        "town",
        "busybox",
        "sh",
        "-c",
        pages,
    ];
    engine.gantry(&words).ok();
    // nginx asks with one socket of its own for as long as it lives.
    let proxy = "printf 'events {} http { resolver 127.0.0.11 valid=1s ipv6=off; server { listen 8080; location / { \
                 set $to http://pages; proxy_pass $to; } } }' > /n.conf; exec nginx -c /n.conf -g 'daemon off;'";
    let words = [
        "run",
        "-d",
        "--name",
        "proxy",
        "--network",
        "town",
        "servers",
        "sh",
        "-c",
        proxy,
    ];
    engine.gantry(&words).ok();
    let address = address(&engine, "pages", "town");
    let dig = |engine: &Engine, words: &str| {
        let script = format!("dig +tries=1 +timeout=5 {words}");
        shell(engine, "proxy", &script).ok()
    };
    for way in ["+notcp", "+tcp", "+noedns", "+edns=0 +bufsize=1232"] {
        assert_eq!(
            dig(&engine, &format!("+short {way} pages")),
            address,
            "{way}"
        );
    }
    let whole = dig(&engine, "pages");
    assert!(whole.contains("status: NOERROR"), "{whole}");
    assert!(whole.contains("flags: qr rd ra;"), "{whole}");
    let line = whole.lines().find(|l| l.starts_with("pages."));
    let fields: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
    assert_eq!(fields, ["pages.", "600", "IN", "A", &*address]);
    assert_eq!(dig(&engine, &format!("+short -x {address}")), "pages.town.");
    for kind in ["AAAA", "MX"] {
        let said = dig(&engine, &format!("pages {kind}"));
        assert!(
            said.contains("status: NOERROR") && said.contains("ANSWER: 0"),
            "{said}"
        );
    }
    assert_eq!(lookup_by(&engine, "proxy", "pages"), address);
    let fetch = |engine: &Engine| {
        let said = shell(engine, "proxy", "curl -s http://127.0.0.1:8080/");
        said.code == 0 && said.stdout == "paper\n"
    };
    let patience = Duration::from_secs(10);
    gantry_testkit::until("nginx finds the pages", patience, || fetch(&engine));
    engine.kill_daemon();
    engine.launch();
    // What it has remembered is too old by now.
    std::thread::sleep(Duration::from_secs(2));
    gantry_testkit::until("nginx finds them again", patience, || fetch(&engine));
    engine.clean();
}

//! Logs elsewhere, against servers of our own.

use super::*;
use crate::plan::{LogPlan, RemotePlan};
use std::io::Read as _;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;

fn settings(protocol: Protocol, address: Address) -> RemoteSettings {
    RemoteSettings {
        protocol,
        address,
        blocking: true,
        buffer: 1 << 20,
        attempts: None,
        pause: Duration::from_millis(20),
    }
}

fn open(settings: RemoteSettings, directory: Option<OwnedFd>) -> Log {
    let plan = LogPlan {
        file: None,
        remote: Some(RemotePlan {
            settings,
            socket: None,
            directory: directory.is_some().then_some(0),
        }),
    };
    let mut directory = directory;
    Log::open(&plan, |_| {
        Ok::<_, io::Error>(directory.take().expect("asked for once"))
    })
    .unwrap()
}

fn at(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

/// Works as the shim's loop does, until `done`.
fn work(log: &mut Log, mut done: impl FnMut(&Log) -> bool) {
    let begin = Instant::now();
    while !done(log) {
        assert!(begin.elapsed() < Duration::from_secs(10), "nothing happens");
        std::thread::sleep(Duration::from_millis(5));
        log.step();
    }
}

fn syslog() -> Protocol {
    Protocol::Syslog(Syslog {
        facility: 16,
        format: SyslogFormat::Rfc5424,
        hostname: "h".into(),
        tag: "tag".into(),
        offset: 0,
    })
}

#[test]
fn fluentd_gets_messagepack() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let protocol = Protocol::Fluentd {
        tag: "t".into(),
        record: vec![("container_id".into(), "c".repeat(64))],
        sub_second: true,
    };
    let to = server.local_addr().unwrap();
    let mut log = open(settings(protocol, Address::Tcp(to)), None);
    log.write(2, b"oops\nrest", at(1_700_000_000_000_000_007));
    log.close();
    let mut bytes = Vec::new();
    server.accept().unwrap().0.read_to_end(&mut bytes).unwrap();
    let mut wanted = vec![0x93, 0xa1, b't', 0xd7, 0];
    wanted.extend(1_700_000_000_u32.to_be_bytes());
    wanted.extend(7_u32.to_be_bytes());
    wanted.push(0x83);
    wanted.extend(b"\xaccontainer_id\xd9\x40");
    wanted.extend([b'c'; 64]);
    wanted.extend(b"\xa6source\xa6stderr\xa3log\xa4oops");
    assert_eq!(bytes[..wanted.len()], wanted);
    let rest = String::from_utf8_lossy(&bytes[wanted.len()..]).into_owned();
    for part in [
        "rest",
        "partial_message",
        "partial_ordinal\u{fffd}1",
        "partial_last\u{fffd}false",
    ] {
        let part = part.replace('\u{fffd}', "");
        let part = part.trim_end_matches(|c: char| c.is_ascii_digit());
        assert!(
            rest.contains(part.trim_end_matches("false")),
            "{rest:?}: {part}"
        );
    }
}

#[test]
fn gelf_by_datagrams() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    for compression in [Compression::Gzip, Compression::Zlib, Compression::None] {
        let protocol = Protocol::Gelf(Gelf {
            hostname: "h\"".into(),
            extra: "\"_a\":\"b\"".into(),
            compression,
            level: 1,
        });
        let to = server.local_addr().unwrap();
        let mut log = open(settings(protocol, Address::Udp(to)), None);
        log.write(1, b"\nhello\n", at(1_700_000_000_120_000_000));
        log.close();
        let mut bytes = [0; 2000];
        let count = server.recv(&mut bytes).unwrap();
        let mut text = String::new();
        match compression {
            Compression::None => text = String::from_utf8(bytes[..count].to_vec()).unwrap(),
            Compression::Gzip => {
                let mut decoder = flate2::read::GzDecoder::new(&bytes[..count]);
                decoder.read_to_string(&mut text).unwrap();
            }
            Compression::Zlib => {
                let mut decoder = flate2::read::ZlibDecoder::new(&bytes[..count]);
                decoder.read_to_string(&mut text).unwrap();
            }
        }
        assert_eq!(
            text,
            "{\"version\":\"1.1\",\"host\":\"h\\\"\",\"short_message\":\"hello\",\"timestamp\":1700000000.12,\"level\":6,\
             \"_a\":\"b\"}"
        );
    }
}

#[test]
fn journald_by_its_socket_also_when_it_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let address = Address::Datagram(path.display().to_string());
    let directory = OwnedFd::from(std::fs::File::open(folder.path()).unwrap());
    let protocol = Protocol::Journald {
        fields: vec![("CONTAINER_NAME".into(), "a\nb".into())],
    };
    let mut log = open(settings(protocol, address), Some(directory));
    log.write(1, b"early\n", at(0));
    for text in ["first", "second"] {
        let _ = std::fs::remove_file(&path);
        let server = UnixDatagram::bind(&path).unwrap();
        if text == "second" {
            log.write(2, b"second\n", at(1_500_000_000));
        }
        work(&mut log, |log| {
            log.remote.as_ref().unwrap().poll_fd().is_none() && log.deadline().is_none()
        });
        let mut bytes = [0; 4000];
        let count = server.recv(&mut bytes).unwrap();
        let found = String::from_utf8_lossy(&bytes[..count]).into_owned();
        let wanted = match text {
            "first" => "PRIORITY=6\nMESSAGE=early\nCONTAINER_NAME\n\u{3}\0\0\0\0\0\0\0a\nb\n",
            _ => "PRIORITY=3\nMESSAGE=second\n",
        };
        assert!(found.starts_with(wanted), "{found:?}");
        assert!(
            found.contains("\nCONTAINER_LOG_ORDINAL=") && found.contains("\nSYSLOG_TIMESTAMP=1970")
        );
    }
}

#[test]
fn a_remote_that_is_gone_holds_up_blocking_output_only_and_comes_back() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap();
    drop(server);
    let mut settings = settings(syslog(), Address::Tcp(to));
    settings.buffer = 1000;
    let mut blocking = open(settings.clone(), None);
    settings.blocking = false;
    let mut other = open(settings, None);
    for n in 0..100 {
        for log in [&mut blocking, &mut other] {
            if !log.is_full() {
                log.write(1, format!("line {n}\n").as_bytes(), SystemTime::now());
            }
        }
    }
    assert!(blocking.is_full() && !other.is_full());
    assert!(blocking.dropped() == 0 && other.dropped() > 50);
    assert!(blocking.deadline().is_some());
    let server = TcpListener::bind(to).unwrap();
    work(&mut blocking, |log| {
        !log.is_full() && log.deadline().is_none()
    });
    let (mut socket, _) = server.accept().unwrap();
    blocking.close();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    let first = text.lines().next().unwrap();
    assert!(
        first.starts_with("<134>1 ") && first.ends_with(" tag - line 0"),
        "{first}"
    );
    let begin = Instant::now();
    drop(server);
    other.close();
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn what_cannot_be_delivered_is_given_up() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap();
    drop(server);
    let mut settings = settings(syslog(), Address::Tcp(to));
    settings.attempts = Some(1);
    settings.pause = Duration::from_secs(3600);
    let mut log = open(settings, None);
    for n in 0..100_000 {
        log.write(
            1,
            format!("line {n} of many that nobody reads\n").as_bytes(),
            SystemTime::now(),
        );
        log.step();
        assert!(!log.is_full());
        if n > 10 && log.dropped() < n {
            // Not refused yet.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert!(log.dropped() > 90_000);
}

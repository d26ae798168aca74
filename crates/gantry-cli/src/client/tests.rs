use super::*;

#[test]
fn addresses_are_read_as_docker_reads_them() {
    let tcp = |host: &str, port| Address::Tcp {
        host: host.to_owned(),
        port,
    };
    let parse = |text| Address::parse(text, false);
    assert_eq!(
        parse("unix:///a/b.sock"),
        Ok(Address::Unix("/a/b.sock".into()))
    );
    assert_eq!(parse("tcp://h:99"), Ok(tcp("h", 99)));
    assert_eq!(parse("tcp://h"), Ok(tcp("h", 2375)));
    assert_eq!(Address::parse("tcp://h", true), Ok(tcp("h", 2376)));
    assert_eq!(parse("tcp://[::1]:7"), Ok(tcp("::1", 7)));
    assert_eq!(parse("127.0.0.1:80"), Ok(tcp("127.0.0.1", 80)));
    assert!(parse("ssh://h").is_err());
    assert!(parse("bogus://h").is_err());
    assert!(parse("tcp://h:port").is_err());
    assert_eq!(parse("tcp://[::1]:7").unwrap().to_string(), "tcp://[::1]:7");
}

#[test]
fn versions_compare_as_numbers() {
    assert!(number("1.9") < number("1.51"));
    assert!(number("2.0") > number("1.51"));
}

#[test]
fn error_bodies_give_their_message() {
    let status = StatusCode::NOT_FOUND;
    assert_eq!(
        message_of(b"{\"message\":\"No such\"}\n", status),
        "No such"
    );
    assert_eq!(message_of(b"page not found\n", status), "page not found");
    assert_eq!(message_of(b"", status), "404 Not Found");
}

#[test]
fn queries_are_encoded() {
    assert_eq!(encode("a/b:c {}"), "a%2Fb%3Ac%20%7B%7D");
}

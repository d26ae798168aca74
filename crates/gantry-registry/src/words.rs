//! A failed connection in the words of Go's net/http, which Docker's users and scripts know.

use std::error::Error;
use std::io;
use tokio::net::lookup_host;

/// `Get "URL": why`; `url` as it was asked for, before any normalization.
pub(crate) async fn failure(method: &str, url: &str, error: &reqwest::Error) -> String {
    format!("{method} {url:?}: {}", reason(url, error).await)
}

/// `Get`, as Go's net/http writes it.
pub(crate) fn method(method: &reqwest::Method) -> String {
    let (first, rest) = method.as_str().split_at(1);
    first.to_owned() + &rest.to_lowercase()
}

async fn reason(url: &str, error: &reqwest::Error) -> String {
    if let Some(tls) = find::<rustls::Error>(error) {
        return tls_reason(tls);
    }
    if error.is_connect() {
        return dial_reason(url, error).await;
    }
    if error.is_timeout() {
        return "net/http: timeout awaiting response".to_owned();
    }
    innermost(error)
}

fn tls_reason(error: &rustls::Error) -> String {
    use rustls::{CertificateError as C, Error as E};
    match error {
        E::InvalidMessage(_) => "http: server gave HTTP response to HTTPS client".to_owned(),
        E::InvalidCertificate(C::UnknownIssuer | C::BadSignature) => {
            "tls: failed to verify certificate: x509: certificate signed by unknown authority"
                .to_owned()
        }
        E::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => {
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid"
                .to_owned()
        }
        E::InvalidCertificate(C::NotValidForNameContext {
            expected,
            presented,
        }) => other_names(&expected.to_str(), presented),
        E::AlertReceived(alert) => format!("remote error: tls: {}", alert_words(*alert)),
        E::InvalidCertificate(other) => {
            format!("tls: failed to verify certificate: x509: {other}")
        }
        other => format!("tls: {other}"),
    }
}

/// A certificate that is somebody else's; `presented` are rustls' names (`DnsName("a.b")`, `IpAddress(127.0.0.1)`).
fn other_names(expected: &str, presented: &[String]) -> String {
    let ip = expected.parse::<std::net::IpAddr>().is_ok();
    let kind = if ip { "IpAddress(" } else { "DnsName(" };
    let name = |name: &String| {
        let inner = name.strip_prefix(kind)?.strip_suffix(')')?;
        Some(inner.trim_matches('"').to_owned())
    };
    let names: Vec<String> = presented.iter().filter_map(name).collect();
    let why = match (names.is_empty(), ip) {
        (true, true) => format!(
            "cannot validate certificate for {expected} because it doesn't contain any IP SANs"
        ),
        (true, false) => {
            format!("certificate is not valid for any names, but wanted to match {expected}")
        }
        (false, _) => format!(
            "certificate is valid for {}, not {expected}",
            names.join(", ")
        ),
    };
    format!("tls: failed to verify certificate: x509: {why}")
}

/// Go's words for what the other side says when it ends a handshake.
fn alert_words(alert: rustls::AlertDescription) -> String {
    use rustls::AlertDescription as A;
    let known = match alert {
        A::HandshakeFailure => "handshake failure",
        A::BadCertificate => "bad certificate",
        A::UnsupportedCertificate => "unsupported certificate",
        A::CertificateRevoked => "revoked certificate",
        A::CertificateExpired => "expired certificate",
        A::CertificateUnknown => "unknown certificate",
        A::UnknownCA => "unknown certificate authority",
        A::AccessDenied => "access denied",
        A::ProtocolVersion => "protocol version not supported",
        A::InsufficientSecurity => "insufficient security level",
        A::InternalError => "internal error",
        A::UnrecognisedName => "unrecognized name",
        A::CertificateRequired => "certificate required",
        other => return format!("{other:?}"),
    };
    known.to_owned()
}

async fn dial_reason(url: &str, error: &reqwest::Error) -> String {
    let (host, port) = authority(url);
    let address = match lookup_host((host.trim_matches(['[', ']']), port)).await {
        Ok(mut addresses) => addresses.next(),
        Err(lookup) => {
            return format!(
                "dial tcp: lookup {host} on {}: {}",
                name_server().await,
                lookup_reason(&lookup)
            );
        }
    };
    let address = address.map_or_else(|| format!("{host}:{port}"), |a| a.to_string());
    if error.is_timeout() {
        return format!("dial tcp {address}: i/o timeout");
    }
    match find::<io::Error>(error).and_then(io::Error::raw_os_error) {
        Some(number) => format!("dial tcp {address}: connect: {}", errno(number)),
        None => format!("dial tcp {address}: {}", innermost(error)),
    }
}

fn lookup_reason(error: &io::Error) -> &'static str {
    let text = error.to_string();
    // glibc's and musl's words for EAI_AGAIN.
    if text.contains("Temporary failure") || text.contains("Try again") {
        "server misbehaving"
    } else {
        "no such host"
    }
}

/// Go's text of an errno is the kernel's, in lower case.
fn errno(number: i32) -> String {
    let text = io::Error::from_raw_os_error(number).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

/// The first name server of `/etc/resolv.conf`, with its port.
async fn name_server() -> String {
    let text = tokio::fs::read_to_string("/etc/resolv.conf").await;
    let text = text.unwrap_or_default();
    let mut servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next())?
    });
    match servers.next() {
        Some(server) if server.contains(':') => format!("[{server}]:53"),
        Some(server) => format!("{server}:53"),
        None => "127.0.0.1:53".to_owned(),
    }
}

fn authority(url: &str) -> (&str, u16) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let authority = rest.split('/').next().unwrap_or_default();
    let default = if scheme == "http" { 80 } else { 443 };
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().unwrap_or(default)),
        _ => (authority, default),
    }
}

/// The first error of a type in a chain, also where `io::Error` wraps it.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        // The source of a wrapping io::Error is what its inner error wraps, not that error itself.
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// Whether the connection was gone before the request could be sent.
pub(crate) fn never_sent(error: &reqwest::Error) -> bool {
    let said = innermost(error);
    error.is_request() && said.contains("connection was not ready")
}

/// The last word of an error.
pub(crate) fn innermost(error: &dyn Error) -> String {
    let mut last = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        last = error.to_string();
        next = error.source();
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        assert_eq!(authority("https://UPPER/v2/"), ("UPPER", 443));
        assert_eq!(authority("http://127.0.0.1:1/v2/"), ("127.0.0.1", 1));
        assert_eq!(authority("http://[::1]:5000/v2/"), ("[::1]", 5000));
        assert_eq!(authority("http://[::1]/v2/"), ("[::1]", 80));
    }

    #[test]
    fn names_of_certificates() {
        let presented = [
            "DnsName(\"a.b\")",
            "DnsName(\"c.d\")",
            "IpAddress(10.0.0.1)",
        ];
        let presented = presented.map(str::to_owned);
        let words = |expected: &str, presented: &[String]| {
            let text = other_names(expected, presented);
            text.rsplit_once("x509: ").unwrap().1.to_owned()
        };
        assert_eq!(
            words("x.y", &presented),
            "certificate is valid for a.b, c.d, not x.y"
        );
        assert_eq!(
            words("10.0.0.2", &presented),
            "certificate is valid for 10.0.0.1, not 10.0.0.2"
        );
        assert_eq!(
            words("10.0.0.2", &presented[..1]),
            "cannot validate certificate for 10.0.0.2 because it doesn't contain any IP SANs"
        );
    }

    #[test]
    fn numbers_of_the_kernel() {
        assert_eq!(errno(111), "connection refused");
        assert_eq!(errno(113), "no route to host");
    }
}

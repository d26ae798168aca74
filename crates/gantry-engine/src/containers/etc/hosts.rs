//! `/etc/hosts` of a container: as it is written at its start, and the changes while it runs, which leave alone what
//! the user has put in. COMPAT: the order of lines and what changes touch are those of moby v28.5.2,
//! `libnetwork/etchosts` and `libnetwork/sandbox_dns_unix.go`.

use std::fmt::Write as _;
use std::net::IpAddr;

const LOCAL: &str = "127.0.0.1\tlocalhost\n";
const LOCAL_V6: &str = "::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n\
                        ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/// A line: an address and its names, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) address: IpAddr,
    pub(crate) names: String,
}

impl Line {
    pub(crate) fn new(address: IpAddr, names: impl Into<String>) -> Self {
        Self {
            address,
            names: names.into(),
        }
    }
}

/// The whole file. `v6`: the container has IPv6.
pub(super) fn whole(lines: &[Line], v6: bool) -> String {
    let mut text = String::from(LOCAL);
    if v6 {
        text.push_str(LOCAL_V6);
    }
    let shown = lines.iter().filter(|line| v6 || line.address.is_ipv4());
    for line in shown {
        let _ = writeln!(text, "{}\t{}", line.address, line.names);
    }
    text
}

/// The names of the container itself: `host.domain host`, or just `host`.
pub(super) fn own_names(hostname: &str, domainname: &str) -> String {
    let full = match domainname {
        "" => hostname.to_owned(),
        domain => format!("{hostname}.{domain}"),
    };
    match full.split_once('.') {
        Some((short, _)) => format!("{full} {short}"),
        None => full,
    }
}

/// With these lines at the end.
pub(super) fn with(text: &str, lines: &[Line]) -> String {
    let mut text = text.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for line in lines {
        let _ = writeln!(text, "{}\t{}", line.address, line.names);
    }
    text
}

/// Without these lines; one that the user has changed stays.
pub(super) fn without(text: &str, lines: &[Line]) -> String {
    let gone = |line: &str| {
        let Some((address, names)) = line.split_once('\t') else {
            return false;
        };
        let address: Option<IpAddr> = address.trim().parse().ok();
        lines
            .iter()
            .any(|l| Some(l.address) == address && l.names == names)
    };
    let kept = text.lines().filter(|line| !gone(line));
    kept.flat_map(|line| [line, "\n"]).collect()
}

/// With another address, of the same family, where the first name of a line is `name`.
pub(super) fn moved(text: &str, name: &str, to: IpAddr) -> String {
    let change = |line: &str| -> Option<String> {
        let (address, names) = line.split_once('\t')?;
        let address: IpAddr = address.trim().parse().ok()?;
        let first = names.split_whitespace().next()?;
        (first == name && address.is_ipv4() == to.is_ipv4()).then(|| format!("{to}\t{names}"))
    };
    text.lines()
        .map(|line| change(line).unwrap_or_else(|| line.to_owned()) + "\n")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(address: &str, names: &str) -> Line {
        Line::new(address.parse().expect("address"), names)
    }

    #[test]
    fn written_as_docker_does() {
        let lines = [line("10.0.0.1", "a b"), line("fd00::1", "c")];
        assert_eq!(
            whole(&lines, false),
            "127.0.0.1\tlocalhost\n10.0.0.1\ta b\n"
        );
        assert!(
            whole(&lines, true).ends_with("ff02::2\tip6-allrouters\n10.0.0.1\ta b\nfd00::1\tc\n")
        );
    }

    #[test]
    fn names_of_the_container() {
        for (host, domain, names) in [
            ("web", "", "web"),
            ("web", "example.org", "web.example.org web"),
            ("web.example.org", "", "web.example.org web"),
            ("a.b", "c", "a.b.c a"),
        ] {
            assert_eq!(own_names(host, domain), names);
        }
    }

    #[test]
    fn changes_leave_the_rest_alone() {
        let text = "127.0.0.1\tlocalhost\n# mine\n10.0.0.1\tweb\n10.0.0.1\tweb mine\nfd00::1\tweb";
        let own = [line("10.0.0.1", "web"), line("fd00::1", "web")];
        let less = without(text, &own);
        assert_eq!(less, "127.0.0.1\tlocalhost\n# mine\n10.0.0.1\tweb mine\n");
        assert_eq!(with(&less, &own[..1]), format!("{less}10.0.0.1\tweb\n"));
        assert_eq!(with("a", &own[..1]), "a\n10.0.0.1\tweb\n");
        let links = "10.0.0.2\tdb x\n10.0.0.3\tdb2\nfd00::2\tdb x\n";
        let to = "10.0.0.9".parse().expect("address");
        assert_eq!(
            moved(links, "db", to),
            "10.0.0.9\tdb x\n10.0.0.3\tdb2\nfd00::2\tdb x\n"
        );
    }
}

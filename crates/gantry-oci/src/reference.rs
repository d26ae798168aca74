//! Image references as Docker writes them (the grammar of distribution/reference).

use crate::Digest;

/// A normalized reference: `busybox` is `docker.io/library/busybox`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// `docker.io`, `127.0.0.1:5000`, ...
    pub domain: String,
    /// `library/busybox`
    pub path: String,
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

/// Why a text is no reference; the text is Docker's
/// (`invalid reference format: repository name (library/UPPER) must be lowercase`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReferenceError(pub String);

const DEFAULT_DOMAIN: &str = "docker.io";
const OFFICIAL: &str = "library/";
/// Characters of domain and path together.
const LONGEST_NAME: usize = 255;

fn refuse<T>(message: impl Into<String>) -> Result<T, ReferenceError> {
    Err(ReferenceError(message.into()))
}

impl Reference {
    /// Parses the familiar or the full form.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        const BAD: &str = "invalid reference format";
        if is_hex(text) {
            return refuse(format!(
                "invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
            ));
        }
        // COMPAT: the letters are looked at first, whatever else is wrong (distribution/reference's ParseNormalizedNamed).
        let (_, remote) = split_domain(text);
        let remote = remote.split(':').next().unwrap_or_default();
        if remote.chars().any(char::is_uppercase) {
            return refuse(format!(
                "{BAD}: repository name ({remote}) must be lowercase"
            ));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = Digest::parse(digest).map_err(|_| ReferenceError(BAD.into()))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        let (domain, path) = split_domain(name);
        if !is_domain(&domain) || !is_path(&path) || tag.is_some_and(|tag| !is_tag(tag)) {
            return refuse(BAD);
        }
        if domain.len() + 1 + path.len() > LONGEST_NAME {
            return refuse("repository name must not be more than 255 characters");
        }
        Ok(Self {
            domain,
            path,
            tag: tag.map(str::to_owned),
            digest,
        })
    }

    /// `busybox`, `me/app`, `127.0.0.1:5000/app`: the name as people write it, without tag and digest.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        let short = match self.path.strip_prefix(OFFICIAL) {
            Some(short) if !short.contains('/') => short,
            _ => &self.path,
        };
        // COMPAT: Docker writes `docker.io/a.b/c` as `a.b/c`, which names another registry.
        let (domain, path) = split_domain(short);
        if (domain, path) != (self.domain.clone(), self.path.clone()) || is_hex(short) {
            return self.name();
        }
        short.to_owned()
    }

    /// The familiar name with tag and digest where given.
    pub fn familiar(&self) -> String {
        self.familiar_name() + &self.suffix()
    }

    /// `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    fn suffix(&self) -> String {
        let tag = self
            .tag
            .as_ref()
            .map(|t| format!(":{t}"))
            .unwrap_or_default();
        let digest = self
            .digest
            .as_ref()
            .map(|d| format!("@{d}"))
            .unwrap_or_default();
        tag + &digest
    }

    /// With `:latest` where neither tag nor digest is given.
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".into());
        }
        self
    }
}

/// The full form.
impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.name(), self.suffix())
    }
}

/// The first part is a domain when it looks like one: it has a dot or a port, is `localhost`, or has upper-case letters.
fn split_domain(name: &str) -> (String, String) {
    let (domain, path) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == "index.docker.io" {
        DEFAULT_DOMAIN
    } else {
        domain
    };
    if domain == DEFAULT_DOMAIN && !path.contains('/') {
        return (domain.to_owned(), format!("{OFFICIAL}{path}"));
    }
    (domain.to_owned(), path.to_owned())
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => {
                let valid = address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
                return valid && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
            }
            None => return false,
        },
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    host.split('.').all(part) && port.is_none_or(is_port)
}

/// Whether a text could be an image's ID.
fn is_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// Lower-case letters and digits, parts joined by `.`, `_`, `__` or any number of `-`.
fn is_path(path: &str) -> bool {
    path.split('/').all(|component| {
        let mut rest = component.as_bytes();
        let word = |bytes: &[u8]| {
            bytes
                .iter()
                .take_while(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                .count()
        };
        loop {
            let n = word(rest);
            if n == 0 {
                return false;
            }
            rest = &rest[n..];
            if rest.is_empty() {
                return true;
            }
            let joint = match rest {
                [b'.', ..] => 1,
                [b'_', b'_', ..] => 2,
                [b'_', ..] => 1,
                _ => rest.iter().take_while(|b| **b == b'-').count(),
            };
            if joint == 0 {
                return false;
            }
            rest = &rest[joint..];
        }
    })
}

/// Whether a text can be a tag.
pub fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&tag.len())
        && tag
            .bytes()
            .enumerate()
            .all(|(at, b)| word(b) || (at > 0 && matches!(b, b'.' | b'-')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_and_familiar_forms() {
        for (text, full, familiar) in [
            ("busybox", "docker.io/library/busybox", "busybox"),
            (
                "busybox:1.2",
                "docker.io/library/busybox:1.2",
                "busybox:1.2",
            ),
            ("me/app", "docker.io/me/app", "me/app"),
            ("index.docker.io/me/app", "docker.io/me/app", "me/app"),
            (
                "127.0.0.1:5000/a/b:t",
                "127.0.0.1:5000/a/b:t",
                "127.0.0.1:5000/a/b:t",
            ),
            ("localhost/x", "localhost/x", "localhost/x"),
            ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
            ("a__b--c.d", "docker.io/library/a__b--c.d", "a__b--c.d"),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(Reference::parse(full).unwrap(), reference);
        }
        assert_eq!(
            Reference::parse("x").unwrap().or_latest().familiar(),
            "x:latest"
        );
    }

    #[test]
    fn a_familiar_form_never_names_another_image() {
        let id = "docker.io/library/".to_owned() + &"ab".repeat(32);
        for text in ["docker.io/a.b/c", "docker.io/localhost/c", &id] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.familiar(), text);
        }
    }

    #[test]
    fn tag_and_digest_together() {
        let text = format!("busybox:1@sha256:{}", "0".repeat(64));
        let reference = Reference::parse(&text).unwrap();
        assert_eq!(reference.familiar(), text);
        assert_eq!(reference.or_latest().tag.as_deref(), Some("1"));
    }

    #[test]
    fn dockers_words() {
        let bad = |text: &str| Reference::parse(text).unwrap_err().0;
        assert_eq!(
            bad("UPPER"),
            "invalid reference format: repository name (library/UPPER) must be lowercase"
        );
        assert_eq!(
            bad("A b!:T"),
            "invalid reference format: repository name (library/A b!) must be lowercase"
        );
        assert!(Reference::parse("x:TAG").is_ok() && Reference::parse("HOST/x").is_ok());
        for text in [
            "",
            ":",
            "a:",
            "-a",
            "a-",
            "a//b",
            "a:b c",
            "a___b",
            "x@sha256:1",
            "a/",
            "h!:1/x",
        ] {
            assert_eq!(bad(text), "invalid reference format", "{text:?}");
        }
        assert!(bad(&"a".repeat(64)).starts_with("invalid repository name"));
        assert!(
            bad("a/".repeat(200).trim_end_matches('/')).starts_with("repository name must not be")
        );
    }
}

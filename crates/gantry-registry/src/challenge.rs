//! `WWW-Authenticate` (RFC 9110, 11.6.1; the distribution specification's token scheme).

use std::collections::HashMap;

/// What a registry wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

/// Reads a header's value; `None` for schemes that are not known.
pub(crate) fn parse(header: &str) -> Option<Challenge> {
    let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let mut parameters = parameters(rest);
    Some(Challenge::Bearer {
        realm: parameters.remove("realm")?,
        service: parameters.remove("service"),
        scope: parameters.remove("scope"),
    })
}

/// The `error` of a bearer challenge (RFC 6750, 3).
pub(crate) fn error(header: &str) -> Option<String> {
    let (scheme, rest) = header.trim().split_once(' ')?;
    let bearer = scheme.eq_ignore_ascii_case("bearer");
    bearer.then(|| parameters(rest).remove("error")).flatten()
}

/// `key="value", key=value`; a backslash in quotes takes the next character as it is.
fn parameters(text: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    let mut rest = text.trim_start_matches([',', ' ']);
    while let Some((key, value)) = rest.split_once('=') {
        let mut out = String::new();
        let end = if let Some(quoted) = value.strip_prefix('"') {
            let mut end = value.len();
            let mut escaped = false;
            for (at, c) in quoted.char_indices() {
                match c {
                    _ if escaped => {
                        out.push(c);
                        escaped = false;
                    }
                    '\\' => escaped = true,
                    '"' => {
                        end = at + 2;
                        break;
                    }
                    _ => out.push(c),
                }
            }
            end
        } else {
            let end = value.find(',').unwrap_or(value.len());
            out.push_str(value[..end].trim());
            end
        };
        found.insert(key.trim().to_ascii_lowercase(), out);
        rest = value[end..].trim_start_matches([',', ' ']);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer() {
        let text = r#"Bearer realm="https://a.b/token?x=1,2",service="a \"b\"", scope="repository:x/y:pull,push""#;
        assert_eq!(
            parse(text),
            Some(Challenge::Bearer {
                realm: "https://a.b/token?x=1,2".into(),
                service: Some("a \"b\"".into()),
                scope: Some("repository:x/y:pull,push".into()),
            })
        );
    }

    #[test]
    fn others() {
        assert_eq!(parse("basic realm=x"), Some(Challenge::Basic));
        assert_eq!(parse("Basic"), Some(Challenge::Basic));
        let text = r#"Bearer realm="x",error="insufficient_scope""#;
        assert_eq!(error(text).as_deref(), Some("insufficient_scope"));
        assert_eq!(error("Basic error=x"), None);
        assert_eq!(parse("Negotiate abc"), None);
        assert_eq!(parse("Bearer service=x"), None);
        for broken in [
            "Bearer realm=\"",
            "Bearer realm=\"\\",
            "Bearer =",
            "Bearer =",
        ] {
            parse(broken);
        }
    }
}

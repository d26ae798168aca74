//! A registry's answer: a bounded body, or a refusal in the registry's own words.

use crate::{RegistryError, challenge, words};
use bytes::{Bytes, BytesMut};
use gantry_oci::Reference;
use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode};
use std::time::Duration;

/// Largest refusal that is read, bytes.
const LARGEST_REFUSAL: usize = 64 << 10;
/// Characters of a text without form that are shown.
const LONGEST_TEXT: usize = 300;

/// How long the whole body of a document may take; an extension of the answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience(pub(crate) Duration);

impl Default for Patience {
    fn default() -> Self {
        Self(Duration::from_secs(120))
    }
}

/// Reads an answer's body, up to `limit` bytes, and not for ever.
pub(crate) async fn body(
    url: &str,
    response: Response,
    limit: usize,
) -> Result<Bytes, RegistryError> {
    let Patience(patience) = response.extensions().get().copied().unwrap_or_default();
    let read = tokio::time::timeout(patience, read(url, response, limit));
    read.await.unwrap_or_else(|_| {
        Err(RegistryError::Protocol(format!(
            "Get {url:?}: the answer did not end within {} s",
            patience.as_secs_f32()
        )))
    })
}

async fn read(url: &str, mut response: Response, limit: usize) -> Result<Bytes, RegistryError> {
    let mut bytes = BytesMut::new();
    loop {
        let chunk = match response.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Ok(bytes.freeze()),
            Err(error) => {
                let text = words::failure("Get", url, &error).await;
                return Err(RegistryError::Protocol(text));
            }
        };
        if bytes.len() + chunk.len() > limit {
            return Err(RegistryError::Protocol(format!(
                "Get {url:?}: the answer is larger than {limit} bytes"
            )));
        }
        bytes.extend_from_slice(&chunk);
    }
}

/// Why a request brought no answer that can be used.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// The registry said no.
    Refused(Refusal),
    /// The registry wants an authorization that there is not; `url` is the request's.
    Ungranted(Refusal),
    /// The way there, or the right to ask: nothing was said, or nothing that can be understood.
    Failed(RegistryError),
}

impl From<RegistryError> for Unanswered {
    fn from(error: RegistryError) -> Self {
        Self::Failed(error)
    }
}

impl Unanswered {
    /// The words of moby's `translatePullError`.
    pub(crate) fn pulling(self, reference: &Reference) -> RegistryError {
        match self {
            Self::Refused(refusal) => refusal.pulling(reference),
            Self::Ungranted(refusal) if refusal.code == "TOOMANYREQUESTS" => {
                RegistryError::TooMany(refusal.cause())
            }
            // COMPAT: Go's http client says so; the request that fails first is a HEAD there.
            Self::Ungranted(refusal) => {
                RegistryError::Denied(format!("Head {:?}: {}", refusal.url, refusal.cause()))
            }
            Self::Failed(error) => error,
        }
    }

    /// The registry's words as they are, as moby shows them for a push.
    pub(crate) fn pushing(self) -> RegistryError {
        match self {
            Self::Refused(refusal) => refusal.pushing(),
            Self::Ungranted(refusal) if refusal.code.is_empty() => {
                RegistryError::Denied(refusal.cause())
            }
            Self::Ungranted(refusal) => refusal.pushing(),
            Self::Failed(error) => error,
        }
    }

    /// Whether the same request may do better later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Refused(refusal) | Self::Ungranted(refusal) => refusal.is_passing(),
            Self::Failed(error) => {
                matches!(
                    error,
                    RegistryError::Unreachable(_) | RegistryError::Protocol(_)
                )
            }
        }
    }
}

/// A registry's no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) url: String,
    pub(crate) status: StatusCode,
    /// `MANIFEST_UNKNOWN`, ...; empty where the registry gave no reason.
    pub(crate) code: String,
    pub(crate) message: String,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Errors {
    errors: Vec<Single>,
    /// What Docker Hub's token server says.
    details: String,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Single {
    code: String,
    message: String,
}

impl Refusal {
    /// What no registry said: why a request cannot be answered.
    pub(crate) fn of(url: String, message: String) -> Self {
        Self {
            url,
            status: StatusCode::UNAUTHORIZED,
            code: String::new(),
            message,
        }
    }

    /// Reads what the registry says.
    pub(crate) async fn read(response: Response) -> Self {
        let (url, status) = (response.url().to_string(), response.status());
        let to = response.headers().get(LOCATION).cloned();
        let (said, limits) = (bearer_error(response.headers()), limits(response.headers()));
        let bytes = body(&url, response, LARGEST_REFUSAL).await;
        let bytes = bytes.unwrap_or_default();
        let (mut code, mut message) = match said {
            Some(said) => said,
            None => first(status, &bytes),
        };
        if let Some(location) = to
            && status.is_redirection()
        {
            message = format!("a redirect to {location:?} is not followed");
        }
        if code.is_empty() && status == StatusCode::NOT_FOUND && url.contains("/manifests/") {
            (code, message) = ("MANIFEST_UNKNOWN".into(), "manifest unknown".into());
        }
        if status == StatusCode::TOO_MANY_REQUESTS
            && let Some(limits) = limits
        {
            message.push_str(&limits);
        }
        Self {
            url,
            status,
            code,
            message,
        }
    }

    /// `denied: requested access to the resource is denied`
    pub(crate) fn cause(&self) -> String {
        match self.code.as_str() {
            "" if self.message.is_empty() => {
                format!("received unexpected HTTP status: {}", self.status)
            }
            "" => self.message.clone(),
            code => format!(
                "{}: {}",
                code.to_lowercase().replace('_', " "),
                self.message
            ),
        }
    }

    /// Whether the same request may do better later.
    fn is_passing(&self) -> bool {
        self.status.is_server_error() || self.status == StatusCode::REQUEST_TIMEOUT
    }

    fn pulling(self, reference: &Reference) -> RegistryError {
        let (url, cause) = (&self.url, self.cause());
        match self.code.as_str() {
            "DENIED" => RegistryError::Denied(format!(
                "pull access denied for {}, repository does not exist or may require 'docker login': {cause}",
                reference.familiar_name()
            )),
            "UNAUTHORIZED" => RegistryError::Denied(format!("Head {url:?}: {cause}")),
            "MANIFEST_UNKNOWN" => RegistryError::NotFound(format!(
                "manifest for {} not found: {cause}",
                reference.familiar()
            )),
            "NAME_UNKNOWN" => RegistryError::NotFound(format!(
                "repository {} not found: {cause}",
                reference.familiar_name()
            )),
            "TOOMANYREQUESTS" => RegistryError::TooMany(cause),
            "" => RegistryError::Protocol(format!("Get {url:?}: {cause}")),
            _ => RegistryError::Protocol(cause),
        }
    }

    fn pushing(self) -> RegistryError {
        let cause = self.cause();
        match self.code.as_str() {
            "DENIED" | "UNAUTHORIZED" => RegistryError::Denied(cause),
            "TOOMANYREQUESTS" => RegistryError::TooMany(cause),
            _ => RegistryError::Protocol(cause),
        }
    }
}

/// What a token's lack of rights is called (RFC 6750, 3.1), as distribution's client has it.
fn bearer_error(headers: &HeaderMap) -> Option<(String, String)> {
    let values = headers.get_all(WWW_AUTHENTICATE).into_iter();
    let error = values
        .filter_map(|value| challenge::error(value.to_str().ok()?))
        .next()?;
    let (code, text) = match error.as_str() {
        "invalid_token" => ("UNAUTHORIZED", "authentication required"),
        "insufficient_scope" => ("DENIED", "requested access to the resource is denied"),
        _ => return None,
    };
    Some((code.to_owned(), text.to_owned()))
}

/// The first reason that a refusal's body gives, or what its status stands for.
fn first(status: StatusCode, bytes: &[u8]) -> (String, String) {
    let errors: Errors = serde_json::from_slice(bytes).unwrap_or_default();
    let first = errors.errors.into_iter().next().unwrap_or_default();
    if !first.code.is_empty() {
        return (first.code, first.message);
    }
    let (code, words) = match status {
        StatusCode::UNAUTHORIZED => ("UNAUTHORIZED", "authentication required"),
        StatusCode::FORBIDDEN => ("DENIED", "requested access to the resource is denied"),
        StatusCode::TOO_MANY_REQUESTS => ("TOOMANYREQUESTS", "too many requests"),
        _ => return (String::new(), String::new()),
    };
    let message = match errors.details {
        text if text.is_empty() => plain(bytes).unwrap_or_else(|| words.to_owned()),
        text => text,
    };
    (code.to_owned(), message)
}

/// A body of one short line of text.
fn plain(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let shown = !text.is_empty()
        && text.len() <= LONGEST_TEXT
        && !text.starts_with(['{', '[', '<'])
        && !text.contains(char::is_control);
    shown.then(|| text.to_owned())
}

/// What the headers say of the limits that a client has run into: ` (limit 100 in 6h, try again in 30s)`.
// COMPAT: Docker does not show them; they follow Docker's words.
fn limits(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let mut parts = Vec::new();
    if let Some(limit) = text("ratelimit-limit") {
        let (count, window) = limit.split_once(";w=").unwrap_or((limit, ""));
        match window.parse().ok().map(span) {
            Some(window) => parts.push(format!("limit {count} in {window}")),
            None => parts.push(format!("limit {count}")),
        }
    }
    if let Some(seconds) = text(RETRY_AFTER.as_str()).and_then(|text| text.parse().ok()) {
        parts.push(format!("try again in {}", span(seconds)));
    }
    let clean = |parts: &String| !parts.contains(char::is_control);
    (!parts.is_empty() && parts.iter().all(clean)).then(|| format!(" ({})", parts.join(", ")))
}

/// Seconds as people say them.
fn span(seconds: u64) -> String {
    match seconds {
        s if s >= 3600 && s % 3600 == 0 => format!("{}h", s / 3600),
        s if s >= 60 && s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons() {
        let reason = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let (code, message) = first(status, body.as_bytes());
            format!("{code}|{message}")
        };
        let denied = r#"{"errors":[{"code":"DENIED","message":"no"},{"code":"X"}]}"#;
        assert_eq!(reason(403, denied), "DENIED|no");
        assert_eq!(
            reason(401, r#"{"details":"incorrect username or password"}"#),
            "UNAUTHORIZED|incorrect username or password"
        );
        assert_eq!(reason(401, "{}"), "UNAUTHORIZED|authentication required");
        assert_eq!(reason(403, "go away\n"), "DENIED|go away");
        assert_eq!(
            reason(403, "<html>go away</html>"),
            "DENIED|requested access to the resource is denied"
        );
        assert_eq!(reason(429, ""), "TOOMANYREQUESTS|too many requests");
        assert_eq!(reason(500, "oh"), "|");
    }

    #[test]
    fn limits_of_hub() {
        let mut headers = HeaderMap::new();
        assert_eq!(limits(&headers), None);
        headers.insert("ratelimit-limit", "100;w=21600".parse().unwrap());
        headers.insert("retry-after", "90".parse().unwrap());
        assert_eq!(
            limits(&headers).unwrap(),
            " (limit 100 in 6h, try again in 90s)"
        );
    }
}

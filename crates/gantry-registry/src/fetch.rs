//! Files from any web server, for `import URL`: by the settings that registries are reached with (proxies, times), with
//! the machine's own certificates.

use crate::{BlobStream, Registry, RegistryError, redirect, tls, words};
use futures_util::TryStreamExt;
use reqwest::{Client, Proxy, StatusCode, Url};

/// Bytes of an error's text that are shown.
const MOST_SHOWN: usize = 4 << 10;

/// A file as it comes.
pub struct Fetched {
    /// Bytes, where the server says.
    pub size: Option<u64>,
    /// Ends with an error where the server breaks off, or says nothing for too long.
    pub stream: BlobStream,
}

impl std::fmt::Debug for Fetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fetched({:?} bytes)", self.size)
    }
}

impl Registry {
    /// Asks for a file by `http://` or `https://`.
    // COMPAT: the words are those of moby's GetWithStatusError (daemon/builder/remotecontext/remote.go).
    pub async fn fetch(&self, address: &str) -> Result<Fetched, RegistryError> {
        let options = self.options();
        let url = Url::parse(address)
            .map_err(|error| RegistryError::Invalid(format!("parse {address:?}: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            let scheme = url.scheme();
            return Err(RegistryError::Unreachable(format!(
                "Get {address:?}: unsupported protocol scheme {scheme:?}"
            )));
        }
        let proxies = options.proxies.clone();
        let client = Client::builder()
            .user_agent(concat!("gantry/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.connect_timeout)
            .read_timeout(options.idle_timeout)
            .redirect(redirect::bounded(true))
            .no_proxy()
            .proxy(Proxy::custom(move |url| proxies.of(url)))
            .tls_backend_preconfigured(tls::config(None, false)?)
            .build()
            .map_err(|error| RegistryError::Unreachable(format!("Get {address:?}: {error}")))?;
        let answer = match client.get(url).send().await {
            Ok(answer) => answer,
            Err(error) => {
                let text = words::failure("Get", address, &error).await;
                return Err(match text.ends_with("no such host") {
                    true => RegistryError::NotFound(text),
                    false => RegistryError::Unreachable(text),
                });
            }
        };
        let status = answer.status();
        if status.is_client_error() || status.is_server_error() {
            return Err(refused(address, status, answer).await);
        }
        if status.is_redirection() {
            return Err(RegistryError::Unreachable(not_followed(address, &answer)));
        }
        let size = answer.content_length();
        let address = address.to_owned();
        let stream = answer.bytes_stream().map_err(move |error| {
            RegistryError::Protocol(format!("Get {address:?}: {}", words::innermost(&error)))
        });
        Ok(Fetched {
            size,
            stream: Box::pin(stream),
        })
    }
}

/// Why a redirect leads nowhere: to what is no web server, or to nothing.
fn not_followed(address: &str, answer: &reqwest::Response) -> String {
    let to = answer.headers().get(reqwest::header::LOCATION);
    let to = to.and_then(|to| to.to_str().ok()).unwrap_or_default();
    match Url::parse(to) {
        Ok(url) => format!("Get {to:?}: unsupported protocol scheme {:?}", url.scheme()),
        Err(_) => format!(
            "Get {address:?}: {} response missing Location header",
            answer.status()
        ),
    }
}

async fn refused(address: &str, status: StatusCode, answer: reqwest::Response) -> RegistryError {
    let mut shown = Vec::new();
    let mut stream = answer.bytes_stream();
    while let Ok(Some(piece)) = stream.try_next().await {
        shown.extend_from_slice(&piece[..piece.len().min(MOST_SHOWN - shown.len())]);
        if shown.len() == MOST_SHOWN {
            break;
        }
    }
    let text = String::from_utf8_lossy(&shown);
    let text = format!(
        "failed to GET {address} with status {status}: {}",
        text.trim()
    );
    match status {
        StatusCode::NOT_FOUND => RegistryError::NotFound(text),
        StatusCode::BAD_REQUEST => RegistryError::Invalid(text),
        _ => RegistryError::Protocol(text),
    }
}

//! One connection: its requests, one after the other, until it ends or leaves HTTP.

use crate::body::RequestBody;
use crate::call::Call;
use crate::error::ApiError;
use crate::hijack::{Hijack, Taken};
use crate::query::Query;
use crate::reply::{self, Reply, Response};
use crate::router::Router;
use crate::socket::{Socket, Stream};
use futures_util::FutureExt;
use gantry_api::version::{self, ApiVersion};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long a client may take for the head of a request, idle time included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);

/// What all connections share.
pub(crate) struct Shared<S> {
    pub(crate) state: Arc<S>,
    pub(crate) router: Router<S>,
    /// The server stops.
    pub(crate) stop: CancellationToken,
}

/// The other end of the connection.
#[derive(Debug, Clone)]
struct Client {
    socket: Socket,
    stop: CancellationToken,
}

impl Client {
    /// Ends when nobody waits for an answer any more: the client went away, or the server stops.
    async fn gone(&self) {
        tokio::select! {
            () = self.socket.gone() => {}
            () = self.stop.cancelled() => {}
        }
    }
}

/// Serves a connection to its end.
pub(crate) async fn drive<S: Send + Sync + 'static>(
    shared: Arc<Shared<S>>,
    stream: Stream,
    socket: Socket,
) {
    let stop = shared.stop.clone();
    let client = Client {
        socket: socket.clone(),
        stop: stop.clone(),
    };
    let (hijack, mut hijacked) = mpsc::channel::<Hijack>(1);
    let service = service_fn(move |request| {
        let shared = shared.clone();
        let client = client.clone();
        let hijack = hijack.clone();
        async move { respond(shared, client, hijack, request).await }
    });
    let mut connection = http1::Builder::new()
        // A client that has shut down its side still gets its answer; `Client::gone` sees who went away.
        .half_close(true)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut stopping = false;
    loop {
        tokio::select! {
            biased;
            Some(hijack) = hijacked.recv() => {
                let parts = connection.into_parts();
                let taken = Taken {
                    stream: parts.io.into_inner(),
                    ahead: parts.read_buf,
                    socket,
                    stop,
                };
                return hijack.run(taken).await;
            }
            done = &mut connection => {
                if let Err(error) = done {
                    tracing::debug!(%error, "a connection ended");
                }
                return;
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    }
}

/// Answers one request. An error closes the connection.
async fn respond<S: Send + Sync + 'static>(
    shared: Arc<Shared<S>>,
    client: Client,
    hijack: mpsc::Sender<Hijack>,
    request: Request<Incoming>,
) -> io::Result<Response> {
    match answer(&shared, client, request).await? {
        Reply::Http(response) => Ok(response),
        Reply::Hijack(taken) => {
            // The connection is taken away from this request as soon as it waits.
            let _ = hijack.send(taken).await;
            std::future::pending().await
        }
    }
}

async fn answer<S: Send + Sync + 'static>(
    shared: &Shared<S>,
    client: Client,
    request: Request<Incoming>,
) -> io::Result<Reply> {
    let (parts, body) = request.into_parts();
    let body = RequestBody::new(body);
    tracing::debug!(method = %parts.method, uri = %parts.uri, "request");
    let (asked, path) = split_version(parts.uri.path());
    let Some((route, parameters)) = shared.router.find(&parts.method, path) else {
        let plain = asked.is_some_and(|asked| asked.version < JSON_ERRORS);
        return Ok(ApiError::no_route().respond(plain).into());
    };
    let version = match check_version(asked, path) {
        Ok(version) => version,
        Err((error, plain)) => {
            let mut response = error.respond(plain);
            reply::add_engine_headers(response.headers_mut());
            return Ok(response.into());
        }
    };
    let for_client = route.for_client;
    let call = Call {
        state: shared.state.clone(),
        version,
        parameters,
        query: Query::parse(parts.uri.query().unwrap_or_default()),
        headers: parts.headers,
        body,
    };
    let work = AssertUnwindSafe((route.handler)(call)).catch_unwind();
    let done = if for_client {
        tokio::select! {
            biased;
            done = work => done,
            () = client.gone() => return Err(io::Error::other("nobody waits for the answer")),
        }
    } else {
        work.await
    };
    let mut reply = match done {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => {
            if error.status.is_server_error() {
                tracing::error!(method = %parts.method, uri = %parts.uri, message = %error.message, "a request failed");
            }
            error.respond(false).into()
        }
        Err(panic) => {
            let panic = said(&*panic);
            tracing::error!(method = %parts.method, uri = %parts.uri, %panic, "a handler panicked");
            ApiError::system(format!("internal error: {panic}"))
                .respond(false)
                .into()
        }
    };
    match &mut reply {
        Reply::Http(response) => {
            reply::add_engine_headers(response.headers_mut());
            if for_client {
                end_with(response, client);
            }
        }
        Reply::Hijack(hijack) => reply::add_engine_headers(&mut hijack.headers),
    }
    Ok(reply)
}

/// Ends the body of an answer that only the client waits for when the client goes away.
fn end_with(response: &mut Response, client: Client) {
    use futures_util::StreamExt;
    use http_body_util::{BodyExt, BodyStream, StreamBody};
    use hyper::body::Body as _;
    if response.body().is_end_stream() || response.body().size_hint().exact().is_some() {
        return;
    }
    let body = std::mem::take(response.body_mut());
    let gone = Box::pin(async move { client.gone().await });
    let pieces = BodyStream::new(body).take_until(gone);
    *response.body_mut() = BodyExt::boxed_unsync(StreamBody::new(pieces));
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic")
}

/// From this version on errors are JSON.
const JSON_ERRORS: ApiVersion = ApiVersion::new(1, 23);

/// The version that a path begins with.
#[derive(Clone, Copy)]
struct Asked<'a> {
    text: &'a str,
    version: ApiVersion,
}

/// Splits `/v1.51/version` into the version and the path; a path without one is the newest version's.
fn split_version(path: &str) -> (Option<Asked<'_>>, &str) {
    let Some((text, rest)) = path
        .strip_prefix("/v")
        .and_then(|rest| rest.find('/').map(|at| rest.split_at(at)))
    else {
        return (None, path);
    };
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return (None, path);
    }
    let mut numbers = text.split('.').map(|part| part.parse().unwrap_or(0));
    let version = ApiVersion::new(numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (Some(Asked { text, version }), rest)
}

/// The version that a request speaks, or why it cannot be spoken (and whether that is said in plain text).
fn check_version(asked: Option<Asked<'_>>, path: &str) -> Result<ApiVersion, (ApiError, bool)> {
    let Some(Asked { text, version }) = asked else {
        return Ok(version::CURRENT);
    };
    let plain = version < JSON_ERRORS;
    if version > version::CURRENT {
        let newest = version::CURRENT;
        return Err((
            ApiError::invalid(format!(
                "client version {text} is too new. Maximum supported API version is {newest}"
            )),
            plain,
        ));
    }
    // COMPAT: skopeo before 1.15 (Debian 12 has 1.9) speaks 1.22 for `docker-daemon:`, which Docker Engine 28 refuses. These two
    // have not changed since.
    let archives =
        version == ApiVersion::new(1, 22) && matches!(path, "/images/get" | "/images/load");
    if version < version::MINIMUM && !archives {
        let oldest = version::MINIMUM;
        return Err((
            ApiError::invalid(format!(
                "client version {text} is too old. Minimum supported API version is {oldest}, \
                 please upgrade your client to a newer version"
            )),
            plain,
        ));
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_paths() {
        let (asked, path) = split_version("/v1.30/containers/json");
        assert_eq!(path, "/containers/json");
        assert_eq!(asked.unwrap().version, ApiVersion::new(1, 30));
        for path in ["/version", "/volumes/x", "/v/x", "/vx.1/y", "/v1.30"] {
            let (asked, rest) = split_version(path);
            assert!(asked.is_none(), "{path}");
            assert_eq!(rest, path);
        }
    }

    #[test]
    fn versions_out_of_range() {
        let refused = |path| {
            let (asked, rest) = split_version(path);
            let (error, plain) = check_version(asked, rest).unwrap_err();
            (error.message, plain)
        };
        assert_eq!(
            refused("/v1.99/x"),
            (
                "client version 1.99 is too new. Maximum supported API version is 1.51".into(),
                false
            )
        );
        assert!(refused("/v1.12/x").1);
        assert!(!refused("/v1.23/x").1);
        assert!(refused("/v1.22/images/json").1);
        for served in ["/v1.24/x", "/v1.22/images/get", "/v1.22/images/load"] {
            let (asked, rest) = split_version(served);
            assert!(check_version(asked, rest).is_ok(), "{served}");
        }
    }
}

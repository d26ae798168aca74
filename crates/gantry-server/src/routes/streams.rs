//! A container's streams: attach, hijacked or by WebSocket, and logs.

use super::Call;
use crate::error::{ApiError, Result};
use crate::hijack::{self, Hijack, Session};
use crate::reply::{self, Response};
use crate::router::{Route, route};
use crate::websocket;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use gantry_api::go::number;
use gantry_api::version::ApiVersion;
use gantry_engine::Engine;
use gantry_engine::containers::attach::AttachOptions;
use gantry_engine::logs::{LogOptions, LogStream};
use http::Method;

pub(super) fn routes() -> Vec<Route<Engine>> {
    vec![
        route(Method::POST, "/containers/{id..}/attach", attach),
        route(
            Method::GET,
            "/containers/{id..}/attach/ws",
            attach_websocket,
        ),
        route(Method::GET, "/containers/{id..}/logs", logs).for_client(),
    ]
}

/// The content type of a container's output.
pub(super) fn content_type(tty: bool, version: ApiVersion) -> &'static str {
    // COMPAT: before 1.42 both kinds of stream had one content type.
    if !tty && version.names_multiplexed_streams() {
        "application/vnd.docker.multiplexed-stream"
    } else {
        "application/vnd.docker.raw-stream"
    }
}

fn options(call: &Call) -> AttachOptions {
    let query = &call.query;
    AttachOptions {
        stdin: query.truth("stream") && query.truth("stdin"),
        stdout: query.truth("stdout"),
        stderr: query.truth("stderr"),
        logs: query.truth("logs"),
        stream: query.truth("stream"),
        detach_keys: query.given("detachKeys").map(str::to_owned),
    }
}

async fn attach(call: Call) -> Result<Hijack> {
    let options = options(&call);
    let stdin = options.stdin;
    let id = call.name("id").to_owned();
    let attached = call.state.containers.attach(&id, options).await?;
    let replay = attached.replay.map(wire);
    let kind = content_type(attached.tty, call.version);
    let containers = call.state.containers.clone();
    let upgrade = call.header("upgrade");
    Ok(Hijack::new(upgrade, kind, async move |taken| {
        let session = Session {
            engine: attached.socket,
            replay,
            stdin,
            detach: attached.detach,
            before_end: None,
        };
        if hijack::copy(taken, session).await {
            containers.detached(&id);
        }
    }))
}

async fn attach_websocket(call: Call) -> Result<Hijack> {
    let options = options(&call);
    let stdin = options.stdin;
    let id = call.name("id").to_owned();
    let containers = call.state.containers.clone();
    containers.find(&id)?;
    let headers = websocket::handshake(&call)?;
    let attached = containers.attach(&id, options).await?;
    Ok(websocket::hijack(headers, attached, stdin, move || {
        containers.detached(&id);
    }))
}

async fn logs(call: Call) -> Result<Response> {
    let query = &call.query;
    let (stdout, stderr) = (query.truth("stdout"), query.truth("stderr"));
    if !stdout && !stderr {
        return Err(ApiError::invalid(
            "Bad parameters: you must choose at least one stream",
        ));
    }
    let time = |name| {
        let text = query.given(name).filter(|text| *text != "0");
        text.map(number::timestamp)
            .transpose()
            .map_err(ApiError::system)
    };
    let options = LogOptions {
        stdout,
        stderr,
        follow: query.truth("follow"),
        since: time("since")?,
        until: time("until")?,
        // COMPAT: a tail that is no number is all of the log.
        tail: number::integer(query.text("tail"))
            .ok()
            .and_then(|lines| u64::try_from(lines).ok()),
        timestamps: query.truth("timestamps"),
        details: query.truth("details"),
    };
    let log = call.state.containers.logs(call.name("id"), options).await?;
    let kind = content_type(log.tty, call.version);
    Ok(reply::stream(kind, wire(log).map(Ok)))
}

/// A log as it goes over the wire: frames, or bare bytes with a terminal.
fn wire(log: LogStream) -> BoxStream<'static, Bytes> {
    if log.tty {
        log.frames.map(|frame| frame.bytes).boxed()
    } else {
        log.frames
            .map(|piece| frame(piece.stream, &piece.bytes))
            .boxed()
    }
}

/// The stream's number, three zeros, the length, the bytes.
pub(super) fn frame(stream: u8, bytes: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + bytes.len());
    out.put_slice(&[stream, 0, 0, 0]);
    // A frame is a line of a log: far below 4 GB.
    out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.put_slice(bytes);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_on_the_wire() {
        assert_eq!(frame(2, b"err\n"), &b"\x02\0\0\0\0\0\0\x04err\n"[..]);
    }

    #[test]
    fn content_types_by_version() {
        let (old, new) = (ApiVersion::new(1, 41), ApiVersion::new(1, 42));
        assert!(content_type(false, new).ends_with("multiplexed-stream"));
        assert!(content_type(false, old).ends_with("raw-stream"));
        assert!(content_type(true, new).ends_with("raw-stream"));
    }
}

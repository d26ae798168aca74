//! A container's streams: attach, hijacked or by WebSocket.

use super::Call;
use crate::error::Result;
use crate::hijack::{self, Hijack, Session};
use crate::router::{Route, route};
use crate::websocket;
use gantry_api::version::ApiVersion;
use gantry_engine::Engine;
use gantry_engine::containers::attach::AttachOptions;
use http::Method;

pub(super) fn routes() -> Vec<Route<Engine>> {
    vec![
        route(Method::POST, "/containers/{id}/attach", attach),
        route(Method::GET, "/containers/{id}/attach/ws", attach_websocket),
    ]
}

/// The content type of a container's output.
fn content_type(tty: bool, version: ApiVersion) -> &'static str {
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
        detach_keys: query.given("detachKeys").map(str::to_owned),
    }
}

async fn attach(call: Call) -> Result<Hijack> {
    let options = options(&call);
    let stdin = options.stdin;
    let id = call.name("id").to_owned();
    let attached = call.state.containers.attach(&id, options).await?;
    let kind = content_type(attached.tty, call.version);
    let containers = call.state.containers.clone();
    let upgrade = call.header("upgrade");
    Ok(Hijack::new(upgrade, kind, async move |taken| {
        let session = Session {
            engine: attached.socket,
            replay: None,
            stdin,
            detach: attached.detach,
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

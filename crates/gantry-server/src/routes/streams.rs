//! A container's streams: attach (hijacked, or by WebSocket) and logs.

use super::Call;
use crate::error::Result;
use crate::hijack::{self, Hijack, Session};
use crate::router::{Route, route};
use gantry_api::version::ApiVersion;
use gantry_engine::Engine;
use gantry_engine::containers::attach::AttachOptions;
use http::Method;

pub(super) fn routes() -> Vec<Route<Engine>> {
    vec![route(Method::POST, "/containers/{id}/attach", attach)]
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

async fn attach(call: Call) -> Result<Hijack> {
    let query = &call.query;
    let options = AttachOptions {
        stdin: query.truth("stream") && query.truth("stdin"),
        stdout: query.truth("stdout"),
        stderr: query.truth("stderr"),
        detach_keys: query.given("detachKeys").map(str::to_owned),
    };
    let stdin = options.stdin;
    let id = call.name("id").to_owned();
    let attached = call.state.containers.attach(&id, options).await?;
    let kind = content_type(attached.tty, call.version);
    let containers = call.state.containers.clone();
    Ok(Hijack::new(
        call.header("upgrade"),
        kind,
        async move |taken| {
            let session = Session {
                engine: attached.socket,
                replay: None,
                stdin,
                detach: attached.detach,
            };
            if hijack::copy(taken, session).await {
                containers.detached(&id);
            }
        },
    ))
}

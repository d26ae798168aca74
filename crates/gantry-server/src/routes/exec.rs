//! Execs: further processes in a running container.

use super::Call;
use super::containers::size;
use crate::error::{ApiError, Result};
use crate::hijack::{self, Hijack, Session, Taken};
use crate::reply::{self, Reply, Response};
use crate::router::{Route, route};
use gantry_api::exec::{ExecCreated, ExecOptions, ExecStart};
use gantry_api::version::ApiVersion;
use gantry_engine::Engine;
use gantry_engine::containers::exec::ExecAttach;
use http::{Method, StatusCode};
use tokio::io::AsyncWriteExt;

pub(super) fn routes() -> Vec<Route<Engine>> {
    vec![
        route(Method::POST, "/containers/{id..}/exec", create),
        route(Method::POST, "/exec/{id}/start", start),
        route(Method::POST, "/exec/{id}/resize", resize),
        route(Method::GET, "/exec/{id}/json", inspect),
    ]
}

/// From this version on a terminal's size comes with the request.
const CONSOLE_SIZE: ApiVersion = ApiVersion::new(1, 42);

async fn create(call: Call) -> Result<Response> {
    let (containers, version) = (call.state.containers.clone(), call.version);
    let name = call.name("id").to_owned();
    let mut options: ExecOptions = call.json().await?;
    if version < CONSOLE_SIZE || !options.tty {
        options.console_size = None;
    }
    let id = containers.exec_create(&name, options).await?;
    Ok(reply::json(StatusCode::CREATED, &ExecCreated { id }))
}

async fn inspect(call: Call) -> Result<Response> {
    Ok(reply::ok(
        &call.state.containers.exec_inspect(call.name("id"))?,
    ))
}

async fn resize(call: Call) -> Result<Response> {
    let (rows, columns) = size(&call)?;
    let containers = &call.state.containers;
    containers
        .exec_resize(call.name("id"), rows, columns)
        .await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn start(call: Call) -> Result<Reply> {
    let (containers, version) = (call.state.containers.clone(), call.version);
    let id = call.name("id").to_owned();
    let upgrade = call.header("upgrade").map(str::to_owned);
    let asked: ExecStart = call.json().await?;
    containers.exec_check(&id)?;
    if asked.detach {
        containers.exec_start(&id, None).await?;
        return Ok(reply::empty(StatusCode::OK).into());
    }
    let small = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    let attach = ExecAttach {
        framed: !asked.tty,
        console_size: asked
            .console_size
            .filter(|_| asked.tty && version >= CONSOLE_SIZE)
            .map(|[rows, columns]| (small(rows), small(columns))),
    };
    let started = containers.exec_start(&id, Some(attach)).await;
    // COMPAT: only an upgraded connection names the frames.
    let kind = if upgrade.is_some() {
        super::streams::content_type(asked.tty, version)
    } else {
        super::streams::content_type(true, version)
    };
    let hijack = match started {
        Ok(None) => return Err(ApiError::system("the exec has no streams")),
        Ok(Some(stream)) => Hijack::new(upgrade.as_deref(), kind, async move |taken| {
            let session = Session {
                engine: stream.socket,
                replay: None,
                stdin: true,
                detach: stream.detach,
                // Who sees the stream's end asks for the exit code next.
                before_end: containers.exec_end(&id),
            };
            if hijack::copy(taken, session).await {
                containers.exec_detached(&id);
            }
        }),
        // COMPAT: what goes wrong with the start itself is told where the output would have come.
        Err(error) => Hijack::new(upgrade.as_deref(), kind, async move |mut taken: Taken| {
            let line = format!("{error}\r\n").into_bytes();
            let bytes = if asked.tty {
                line
            } else {
                super::streams::frame(1, &line).to_vec()
            };
            let _ = taken.stream.write_all(&bytes).await;
            let _ = taken.stream.shutdown().await;
        }),
    };
    Ok(hijack.into())
}

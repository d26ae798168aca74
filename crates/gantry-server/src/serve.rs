//! The server: listeners in, connections out, and a clean stop.

use crate::connection::{self, Shared};
use crate::listener::Listener;
use crate::router::Router;
use crate::routes;
use gantry_engine::Engine;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long requests that run at a stop have to end.
const GRACE: Duration = Duration::from_secs(10);

/// Serves the API on all listeners until `stop` is cancelled, then ends: no connection is taken any more,
/// streams and waits are cut at once, other requests are answered (for at most 10 s). Unix sockets are removed.
///
/// ```no_run
/// # async fn daemon(engine: std::sync::Arc<gantry_engine::Engine>) -> Result<(), gantry_server::listener::ListenError> {
/// use gantry_server::{Listener, serve};
/// let stop = tokio_util::sync::CancellationToken::new();
/// let listeners = vec![Listener::unix("/run/gantry/gantry.sock".as_ref(), Some("docker"))?];
/// let signalled = stop.clone();
/// tokio::spawn(async move {
///     let _ = tokio::signal::ctrl_c().await;
///     signalled.cancel();
/// });
/// serve(engine, listeners, stop).await;
/// # Ok(())
/// # }
/// ```
pub async fn serve(engine: Arc<Engine>, listeners: Vec<Listener>, stop: CancellationToken) {
    run(engine, Router::new(routes::all()), listeners, stop).await;
}

/// Serves any routes over any state.
pub(crate) async fn run<S: Send + Sync + 'static>(
    state: Arc<S>,
    router: Router<S>,
    listeners: Vec<Listener>,
    stop: CancellationToken,
) {
    let shared = Arc::new(Shared {
        state,
        router,
        stop: stop.clone(),
    });
    let connections = TaskTracker::new();
    let accepting = TaskTracker::new();
    for listener in listeners {
        accepting.spawn(accept(listener, shared.clone(), connections.clone()));
    }
    accepting.close();
    accepting.wait().await;
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = connections.len(),
            "connections are cut: their requests did not end in time"
        );
    }
}

/// Takes the connections of one listener until the server stops.
async fn accept<S: Send + Sync + 'static>(
    listener: Listener,
    shared: Arc<Shared<S>>,
    connections: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => {
                let shared = shared.clone();
                connections.spawn(async move {
                    match accepted.establish().await {
                        Ok((stream, socket)) => connection::drive(shared, stream, socket).await,
                        Err(error) => tracing::debug!(%error, "no TLS connection came about"),
                    }
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: the next moment may be better.
                tracing::error!(%error, "cannot take a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

//! Connections, each a pair.
use super::REST;
use rustix::net::sockopt::set_socket_linger;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// So long a container may take to accept.
const CONNECT: Duration = Duration::from_secs(10);
/// Of each direction of each connection, bytes.
const BUFFER: usize = 16 * 1024;

/// Accepts until it is dropped; its connections end with it.
pub(super) async fn carry(listener: Arc<TcpListener>, backend: SocketAddr) {
    let mut carried = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => drop(carried.spawn(carry_one(client, backend))),
                // The daemon has closed it, and says so in a moment.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    std::future::pending::<()>().await;
                }
                Err(error) => {
                    eprintln!("gantry-proxy: cannot accept for {backend}: {error}");
                    tokio::time::sleep(REST).await;
                }
            },
            Some(_) = carried.join_next() => {}
        }
    }
}

async fn carry_one(mut client: TcpStream, backend: SocketAddr) {
    let connected = tokio::time::timeout(CONNECT, TcpStream::connect(backend)).await;
    let Ok(Ok(mut server)) = connected else {
        // To the client it is as if nobody listened.
        let _ = set_socket_linger(&client, Some(Duration::ZERO));
        return;
    };
    let done: io::Result<()> = async {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await?;
        Ok(())
    }
    .await;
    // One side has broken off: so does the other.
    if done.is_err() {
        for side in [&client, &server] {
            let _ = set_socket_linger(side, Some(Duration::ZERO));
        }
    }
}

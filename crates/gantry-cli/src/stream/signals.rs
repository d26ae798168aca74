//! The signals that a container gets through us.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What cannot be caught or is no message for the container: ILL, TRAP, BUS, FPE, KILL, SEGV, PIPE, CHLD,
/// STOP, URG, PROF.
const OURS: &[i32] = &[4, 5, 7, 8, 9, 11, 13, 17, 19, 23, 27];
/// SIGWINCH; a container with a terminal gets it from that.
const WINDOW: i32 = 28;
const LAST: i32 = 31;

/// Signals caught from now on.
#[derive(Debug)]
pub(crate) struct Signals(Vec<(i32, Signal)>);

impl Signals {
    /// Catches all that can be passed on.
    pub(crate) fn catch(tty: bool) -> io::Result<Signals> {
        let ours = |number: i32| OURS.contains(&number) || (tty && number == WINDOW);
        (1..=LAST)
            .filter(|number| !ours(*number))
            .map(|number| Ok((number, signal(SignalKind::from_raw(number))?)))
            .collect::<io::Result<_>>()
            .map(Signals)
    }

    /// Catches those that end a program, so that it can tidy up first.
    pub(crate) fn catch_fatal() -> io::Result<Signals> {
        [1, 2, 3, 15]
            .into_iter()
            .map(|number| Ok((number, signal(SignalKind::from_raw(number))?)))
            .collect::<io::Result<_>>()
            .map(Signals)
    }

    /// The number of the next one.
    pub(crate) async fn next(&mut self) -> i32 {
        poll_fn(|context| {
            for (number, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return Poll::Ready(*number);
                }
            }
            Poll::Pending
        })
        .await
    }
}

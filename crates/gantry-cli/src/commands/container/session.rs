//! A container, or an exec, in the foreground: its streams, our terminal, our signals.

use crate::client::{Answered, Call, Client, Hijacked};
use crate::commands::each::container;
use crate::failure::Failure;
use crate::stream::{
    DetachKeys, End, Plan, RawMode, Session, Signals, follow_size, forward_signals, is_terminal,
};

/// The detach keys as they were given; Docker's otherwise.
pub(super) fn keys(text: Option<&str>) -> Result<DetachKeys, Failure> {
    let Some(text) = text else {
        return Ok(DetachKeys::default());
    };
    DetachKeys::parse(text)
        .map_err(|why| Failure::new(format!("invalid detach keys ({text}): {why}")))
}

/// The request to attach to all streams of a container.
pub(super) fn attach<'c>(
    client: &'c Client,
    id: &str,
    keys: Option<&str>,
    stdin: bool,
) -> Answered<Call<'c>> {
    let call = client.post(container(id, "/attach")?);
    let call = call.query_if("detachKeys", keys).query("stderr", "1");
    let call = call.switch("stdin", stdin).query("stdout", "1");
    Ok(call.query("stream", "1"))
}

/// Our side made ready: signals are caught and the terminal is raw while this lives.
#[must_use]
pub(super) struct Foreground<'a> {
    client: &'a Client,
    /// `/containers/<id>` or `/exec/<id>`.
    path: &'a str,
    tty: bool,
    stdin: bool,
    signals: Option<Signals>,
    /// Caught where signals are not passed on: they end us, but only after the terminal is itself again.
    fatal: Option<Signals>,
    raw: Option<RawMode>,
}

impl<'a> Foreground<'a> {
    pub(super) fn enter(
        client: &'a Client,
        path: &'a str,
        tty: bool,
        stdin: bool,
        proxy: bool,
    ) -> Result<Foreground<'a>, Failure> {
        let signals = proxy.then(|| Signals::catch(tty)).transpose()?;
        let fatal = (!proxy && tty && stdin)
            .then(Signals::catch_fatal)
            .transpose()?;
        let raw = match tty && stdin {
            true => RawMode::enter()?,
            false => None,
        };
        Ok(Foreground {
            client,
            path,
            tty,
            stdin,
            signals,
            fatal,
            raw,
        })
    }

    /// Copies until the stream is over, then waits for the exit code; gives it, or
    /// `None` where the user has detached. `known` is the size that the container's terminal has.
    pub(super) async fn run(
        self,
        connection: Hijacked,
        output: bool,
        keys: DetachKeys,
        known: Option<[u32; 2]>,
        code: impl Future<Output = Result<u8, Failure>>,
    ) -> Result<Option<u8>, Failure> {
        let Foreground {
            client,
            path,
            tty,
            stdin,
            signals,
            mut fatal,
            raw,
        } = self;
        let plan = Plan {
            tty,
            stdin,
            output,
            keys: (tty && stdin).then_some(keys),
        };
        let whole = async {
            // A stream that broke says nothing of the container: its exit code is still to come.
            if let Ok(End::Detached) = Session::new(connection, plan).run().await {
                return Ok(None);
            }
            drop(raw);
            code.await.map(Some)
        };
        let forward = async {
            match signals {
                Some(signals) => forward_signals(client, path, signals).await,
                None => std::future::pending().await,
            }
        };
        let resize = async {
            match tty && is_terminal(std::io::stdout()) {
                true => follow_size(client, path, known).await,
                false => std::future::pending().await,
            }
        };
        let killed = async {
            match &mut fatal {
                Some(fatal) => fatal.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            code = whole => code,
            number = killed => Ok(Some(128 + number as u8)),
            () = forward => Ok(None),
            () = resize => Ok(None),
        }
    }
}

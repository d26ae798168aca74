//! Our terminal: its size, and raw mode that ends with whatever ends us.

use rustix::stdio::{stdin, stdout};
use rustix::termios::{
    LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr,
};

/// Whether stdin or stdout is a terminal.
pub(crate) fn is_terminal(fd: impl std::os::fd::AsFd) -> bool {
    isatty(fd)
}

/// Rows and columns of the terminal that our output goes to.
pub(crate) fn size() -> Option<[u32; 2]> {
    let size = tcgetwinsize(stdout()).ok()?;
    (size.ws_row > 0 || size.ws_col > 0).then(|| [size.ws_row.into(), size.ws_col.into()])
}

/// Raw mode of stdin's terminal while this lives. Dropping it (an error, a panic) restores what was.
#[must_use]
pub(crate) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Nothing where stdin is no terminal.
    pub(crate) fn enter() -> std::io::Result<Option<RawMode>> {
        if !isatty(stdin()) {
            return Ok(None);
        }
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(Some(RawMode { before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // There is nobody left to tell if the terminal has gone.
        tcsetattr(stdin(), OptionalActions::Now, &self.before).ok();
    }
}

/// Nothing that is typed shows while this lives. Dropping it restores what was.
#[must_use]
pub(crate) struct NoEcho {
    before: Termios,
}

impl NoEcho {
    pub(crate) fn enter() -> std::io::Result<NoEcho> {
        let before = tcgetattr(stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(stdin(), OptionalActions::Now, &silent)?;
        Ok(NoEcho { before })
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        // There is nobody left to tell if the terminal has gone.
        tcsetattr(stdin(), OptionalActions::Now, &self.before).ok();
    }
}

/// Columns of the terminal that stdout or stderr is.
pub(crate) fn columns() -> Option<usize> {
    [
        tcgetwinsize(stdout()),
        tcgetwinsize(rustix::stdio::stderr()),
    ]
    .into_iter()
    .flatten()
    .map(|size| usize::from(size.ws_col))
    .find(|columns| *columns > 0)
}

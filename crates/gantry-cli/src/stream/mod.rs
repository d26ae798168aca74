//! An attached session: our terminal at one end, the container's streams at the other.
//!
//! Everything runs on one thread and never blocks in a read or write of ours: a reader of our output
//! that has stopped must not keep a signal from the container. Our descriptors are shared with others
//! (a shell), so they stay blocking; they are asked with poll(2) first.

mod descriptor;
mod frames;
mod keys;
mod session;
mod signals;
mod terminal;

pub(crate) use descriptor::Output;
pub(crate) use keys::DetachKeys;
pub(crate) use session::{End, FrameSink, Plan, Session, follow_size, forward_signals};
pub(crate) use signals::Signals;
pub(crate) use terminal::{NoEcho, RawMode, columns, is_terminal, size};

//! From flags to the body of `POST /containers/create`.
//!
//! [`options`] is the table of flags that `run` and `create` share, [`create`] puts the body together; the
//! other modules read one kind of value each, with the errors of Docker's client.

mod amounts;
mod create;
mod environment;
mod mounts;
mod network;
pub(crate) mod options;
mod ports;
mod rules;

pub(crate) use amounts::{Bytes, Cpus, MemorySwap, Weight, duration};
pub(crate) use create::{Attached, create_body, pairs, restart_policy};
pub(crate) use environment::{Variable, of as environment};
pub(crate) use mounts::MountRule;
pub(crate) use options::CreateFlags;
pub(crate) use ports::published;
pub(crate) use rules::{DriverOption, Label, LinkRule};

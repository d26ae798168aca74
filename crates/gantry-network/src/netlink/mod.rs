//! Netlink as the crate needs it: requests are built attribute by attribute, sent in one write, and answered before
//! the write returns, so that nothing here ever waits.

mod message;
mod socket;

pub(crate) use message::{Message, attributes, string, u32_of};
pub(crate) use socket::{Events, Netlink, Refusal};

#[cfg(test)]
mod tests;

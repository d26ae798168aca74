//! How Docker, a Go program, reads what it is sent: its rules for booleans, numbers and JSON, and its words
//! for what is wrong with them.

pub mod json;
pub mod number;

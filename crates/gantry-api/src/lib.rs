//! Docker Engine API wire types (version 1.51) and the API version table.
//!
//! Owns: the JSON of requests and answers, as Docker writes it: which keys are always there, which are
//! `null` when unset and which are left out. Where `bollard-stubs` has the shape, its type is used.
//! Never: does I/O.
//! Start here: [`container`].

pub mod container;

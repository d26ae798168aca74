//! A harness for end-to-end tests: the real binary as a daemon of its own, and a client for it.
//!
//! Owns: starting and ending a daemon with names that no other has, requests by hand, images to run, registries.
//! Never: ships.
//! Start here: [`Engine`].

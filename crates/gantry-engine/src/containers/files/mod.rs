//! A container's files: what changed, archives in and out, export and commit.

mod changes;

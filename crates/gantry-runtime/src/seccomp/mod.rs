//! Seccomp: policies as data, compiled to a BPF program that finds a system call's number in a balanced tree.
//!
//! A policy is the OCI spec's [`LinuxSeccomp`]: [`docker_default`] makes Docker's, [`parse_profile`] reads a user's file.
//! [`compile`] makes the kernel's bytes from it, [`load`] puts them on the calling thread.
//!
//! Rules of one system call are tried in the policy's order, the first that matches decides. A number above all that the
//! policy names on an architecture is a call that its author could not know: it fails with `ENOSYS`, so that programs
//! fall back, where the policy's default is to refuse (as runc does).

mod bpf;
mod compiler;
mod numbers;
mod policy;
mod profile;

#[cfg(test)]
mod tests;

pub use policy::{Kernel, docker_default};
pub use profile::parse_profile;

use oci_spec::runtime::LinuxSeccomp;
use std::sync::Mutex;

/// How many compiled policies are kept.
const KEPT: usize = 4;

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    #[error("architecture {0} is not known")]
    Architecture(String),
    #[error("action {0} needs a listener, which is not supported")]
    Notify(&'static str),
    #[error("system call argument {0} does not exist")]
    Argument(usize),
    #[error("the filter has {0} instructions, the kernel takes 4096")]
    TooLong(usize),
    #[error("decoding seccomp profile failed: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Profile(&'static str),
    #[error("{0} is not a seccomp {1}")]
    Word(String, &'static str),
}

/// Compiles a policy to the bytes of `struct sock_filter[]`. The last few are kept: the same policy again is a copy.
///
/// # Errors
/// A policy that this machine cannot have.
pub fn compile(policy: &LinuxSeccomp) -> Result<Vec<u8>, SeccompError> {
    static COMPILED: Mutex<Vec<(LinuxSeccomp, Vec<u8>)>> = Mutex::new(Vec::new());
    let lock = || {
        COMPILED
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    };
    if let Some((_, bytes)) = lock().iter().find(|(known, _)| known == policy) {
        return Ok(bytes.clone());
    }
    let bytes = compiler::compile(policy)?;
    let mut kept = lock();
    if kept.len() == KEPT {
        kept.remove(0);
    }
    kept.push((policy.clone(), bytes.clone()));
    Ok(bytes)
}

/// Puts a compiled policy on the calling thread, for good. It takes `no_new_privs` or CAP_SYS_ADMIN. Allocates nothing.
///
/// # Errors
/// `EACCES` without either, `EINVAL` for bytes that are no program.
pub fn load(program: &[u8]) -> std::io::Result<()> {
    /// `struct sock_fprog`.
    #[repr(C)]
    struct Program {
        length: u16,
        filter: *const u8,
    }
    let program = Program {
        length: (program.len() / bpf::SIZE) as u16,
        filter: program.as_ptr(),
    };
    // As runc: the mitigation of speculative store bypass, dear for all of a program's life, stays off.
    for flags in [libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW, 0] {
        // SAFETY: seccomp(2) reads `length` instructions of 8 bytes from `filter`, which the borrowed slice holds; it
        // has no demand on their alignment, for it copies them from user space. It writes nothing.
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                std::ptr::from_ref(&program),
            )
        };
        if result == 0 {
            return Ok(());
        }
        let error = std::io::Error::last_os_error();
        if flags == 0 || error.raw_os_error() != Some(libc::EINVAL) {
            return Err(error);
        }
    }
    Ok(())
}

//! Signals to processes that are held by a descriptor.
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sends a signal (1 to 64, realtime ones included) to the process of a pidfd. `ESRCH` when it is gone.
pub fn send(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    // SAFETY: pidfd_send_signal(2) takes a descriptor that the borrow keeps open, a number, no siginfo and no flags; it
    // touches no memory of ours.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            number,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if sent == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

//! Reading and writing our own standard streams without ever blocking the thread.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What a pipe takes without blocking once poll(2) says that it is writable: PIPE_BUF.
const SAFE_WRITE: usize = 4096;

#[derive(Debug, Clone, Copy)]
struct Number(RawFd);

impl AsRawFd for Number {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// A descriptor of ours that may or may not be one that epoll takes (regular files are always ready).
struct Descriptor {
    fd: BorrowedFd<'static>,
    watched: Option<AsyncFd<Number>>,
}

impl Descriptor {
    #[expect(
        deprecated,
        reason = "its worry, a descriptor closed while watched, cannot be for standard streams"
    )]
    fn new(fd: BorrowedFd<'static>, interest: Interest) -> Descriptor {
        Descriptor {
            fd,
            watched: AsyncFd::with_interest(Number(fd.as_raw_fd()), interest).ok(),
        }
    }

    /// Returns when an operation of this kind would not block.
    async fn ready(&self, interest: Interest) -> io::Result<()> {
        let Some(watched) = &self.watched else {
            return Ok(());
        };
        let flags = if interest.is_readable() {
            PollFlags::IN
        } else {
            PollFlags::OUT
        };
        loop {
            let mut asked = [PollFd::new(&self.fd, flags)];
            if rustix::event::poll(&mut asked, Some(&Timespec::default()))? > 0 {
                return Ok(());
            }
            let mut guard = watched.ready(interest).await?;
            let mut asked = [PollFd::new(&self.fd, flags)];
            if rustix::event::poll(&mut asked, Some(&Timespec::default()))? == 0 {
                guard.clear_ready();
            }
        }
    }
}

/// stdout or stderr.
pub(crate) struct Output(Descriptor);

impl Output {
    pub(crate) fn stdout() -> Output {
        Output(Descriptor::new(rustix::stdio::stdout(), Interest::WRITABLE))
    }

    pub(crate) fn stderr() -> Output {
        Output(Descriptor::new(rustix::stdio::stderr(), Interest::WRITABLE))
    }

    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.0.ready(Interest::WRITABLE).await?;
            let piece = match self.0.watched {
                Some(_) => &bytes[..bytes.len().min(SAFE_WRITE)],
                None => bytes,
            };
            match rustix::io::write(self.0.fd, piece) {
                Ok(count) => bytes = &bytes[count..],
                // Somebody else has made the shared description non-blocking.
                Err(rustix::io::Errno::AGAIN) => tokio::task::yield_now().await,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// stdin.
pub(crate) struct Input(Descriptor);

impl Input {
    pub(crate) fn stdin() -> Input {
        Input(Descriptor::new(rustix::stdio::stdin(), Interest::READABLE))
    }

    /// 0 at the end.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.0.ready(Interest::READABLE).await?;
            match rustix::io::read(self.0.fd, &mut *buffer) {
                Ok(count) => return Ok(count),
                Err(rustix::io::Errno::AGAIN) => tokio::task::yield_now().await,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

//! `gantry cp`

mod paths;
mod progress;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gantry_api::files::{PathStat, mode};
use gantry_tar::Root;
use gantry_tar::pack::{self, Packer};
use gantry_tar::unpack::{self, Links, Owner};
use rustix::fs::{Mode, OFlags};
use std::io::{IsTerminal, Read, Write};
use std::os::fd::OwnedFd;

use self::paths::Side;
use self::progress::Progress;
use crate::client::{Answer, Client, talk};
use crate::commands::destination::to_stdout;
use crate::commands::each::container;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;

pub(crate) const COMMAND: Command = Command {
    names: &["container cp", "cp"],
    about: "Copy files/folders between a container and the local filesystem

Use '-' as the source to read a tar archive from stdin
and extract it to a directory destination in a container.
Use '-' as the destination to stream a tar archive of a
container source to stdout.",
    usage: "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tgantry cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    args: Count::Exactly(2),
    mixed: true,
    run,
};

flags! {
    struct CpFlags {
        /// Archive mode (copy all uid/gid information)
        archive: bool = "archive" short "a";
        /// Always follow symbol link in SRC_PATH
        follow: bool = "follow-link" short "L";
        /// Suppress progress output during copy. Progress output is automatically suppressed if no
        /// terminal is attached
        quiet: Option<bool> = "quiet" short "q";
    }
}

/// Bytes that wait in a pipe between two threads.
const PIPE: usize = 1 << 20;
/// Pieces of an answer that wait to be unpacked.
const WAITING: usize = 4;

/// One copy.
struct Copy<'a> {
    container: &'a str,
    from: &'a str,
    to: &'a str,
    archive: bool,
    follow: bool,
    quiet: bool,
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = CpFlags::default();
    let args = cx.read(&COMMAND, &mut [&mut flags])?;
    for (text, side) in args.iter().zip(["source", "destination"]) {
        if text.is_empty() {
            return Err(Failure::new(format!("{side} can not be empty")));
        }
    }
    let (source, from) = paths::container_and_path(&args[0]);
    let (target, to) = paths::container_and_path(&args[1]);
    let copy = |container| Copy {
        container,
        from,
        to,
        archive: flags.archive,
        follow: flags.follow,
        quiet: flags
            .quiet
            .unwrap_or_else(|| !std::io::stdout().is_terminal()),
    };
    match (source, target) {
        (Some(_), Some(_)) => Err(Failure::new("copying between containers is not supported")),
        (None, None) => Err(Failure::new("must specify at least one container source")),
        (Some(name), None) => talk(cx, async |client| copy(name).out(&client).await),
        (None, Some(name)) => talk(cx, async |client| copy(name).take_in(&client).await),
    }
}

/// What the answer's header says of a path.
fn stat_of(answer: &Answer<'_>) -> Result<PathStat, Failure> {
    let header = answer.head.headers.get("x-docker-container-path-stat");
    let bytes = header.and_then(|value| STANDARD.decode(value).ok());
    let stat = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    stat.ok_or_else(|| {
        Failure::new("unable to get resource stat from response: the header is missing or broken")
    })
}

impl Copy<'_> {
    async fn stat(&self, client: &Client, path: &str) -> Option<PathStat> {
        let call = client.head(container(self.container, "/archive").ok()?);
        let answer = call.query("path", path).send().await.ok()?;
        let stat = stat_of(&answer).ok();
        answer.bytes().await.ok()?;
        stat
    }

    /// From the container to this machine.
    async fn out(&self, client: &Client) -> Outcome {
        let to_stream = self.to == "-";
        let to = match to_stream {
            true => "-".to_owned(),
            false => paths::absolute(self.to)?,
        };
        paths::check_output(&to)?;
        let mut from = Side {
            path: self.from.to_owned(),
            exists: true,
            ..Side::default()
        };
        if self.follow
            && let Some(stat) = self.stat(client, self.from).await
            && stat.mode & mode::SYMLINK != 0
        {
            let target = paths::target_of(self.from, &stat.link_target);
            (from.path, from.rebase) = paths::rebased(self.from, target);
        }
        let call = client.get(container(self.container, "/archive")?);
        let answer = call.query("path", &from.path).send().await?;
        if to_stream {
            to_stdout(answer).await?;
            return Ok(0);
        }
        from.is_dir = stat_of(&answer)?.mode & mode::DIR != 0;
        let progress = Progress::start("Copying from container - ", self.quiet);
        let copied = unpack_answer(answer, &from, &to, &progress).await;
        progress.finish(self.quiet, &to);
        copied.map(|()| 0)
    }

    /// From this machine, or a stream, to the container.
    async fn take_in(&self, client: &Client) -> Outcome {
        let from_stream = self.from == "-";
        let source = match from_stream {
            true => String::new(),
            false => paths::absolute(self.from)?,
        };
        let to = self.destination(client).await?;
        if from_stream {
            if !to.is_dir {
                return Err(Failure::new(format!(
                    "destination \"{}:{}\" must be a directory",
                    self.container, self.to
                )));
            }
            let progress = Progress::start("Copying to container - ", self.quiet);
            self.put(client, &to.path, Box::new(std::io::stdin()))
                .await?;
            progress.finish(self.quiet, &format!("{}:{}", self.container, to.path));
            return Ok(0);
        }
        let from = paths::source(&source, self.follow)?;
        let (dir, renamed) = paths::plan(&from, &to)?;
        let name = renamed.or_else(|| from.rebase.clone());
        let (reader, writer) = std::io::pipe()?;
        let _ = rustix::pipe::fcntl_setpipe_size(&writer, PIPE);
        let packing = std::thread::spawn(move || pack_local(&from, name.as_deref(), writer));
        let progress = Progress::start("Copying to container - ", self.quiet);
        let counted = Box::new(progress.count(reader));
        let sent = self.put(client, &dir, counted).await;
        let told = match sent {
            Err(failure) => Err(failure),
            Ok(()) => match packing.join() {
                Ok(Ok(())) => Ok(()),
                // Whatever the daemon did not want to read is none of the user's business.
                Ok(Err(gantry_tar::Error::Write(_))) => Ok(()),
                Ok(Err(error)) => Err(Failure::new(error.to_string())),
                Err(_) => Err(Failure::new("the thread that packs panicked")),
            },
        };
        progress.finish(
            self.quiet || told.is_err(),
            &format!("{}:{}", self.container, to.path),
        );
        told.map(|()| 0)
    }

    /// What is there at the container's side; a link is followed once.
    async fn destination(&self, client: &Client) -> Result<Side, Failure> {
        let mut side = Side {
            path: self.to.to_owned(),
            ..Side::default()
        };
        let mut stat = self.stat(client, self.to).await;
        if let Some(link) = stat.as_ref().filter(|s| s.mode & mode::SYMLINK != 0) {
            side.path = paths::target_of(self.to, &link.link_target);
            stat = self.stat(client, &side.path).await;
        }
        // What cannot be seen may still be made: the daemon says what is wrong.
        let Some(stat) = stat else {
            return Ok(side);
        };
        let wrong = match stat.mode {
            bits if bits & mode::DEVICE != 0 => Some("got a device"),
            bits if bits & mode::IRREGULAR != 0 => Some("got an irregular file"),
            _ => None,
        };
        if let Some(wrong) = wrong {
            return Err(Failure::new(format!(
                "destination \"{}:{}\" must be a directory or a regular file: {wrong}",
                self.container, self.to
            )));
        }
        side.exists = true;
        side.is_dir = stat.mode & mode::DIR != 0;
        Ok(side)
    }

    async fn put(
        &self,
        client: &Client,
        dir: &str,
        archive: Box<dyn Read + Send>,
    ) -> Result<(), Failure> {
        let call = client
            .put(container(self.container, "/archive")?)
            .query("path", dir)
            .query("noOverwriteDirNonDir", "true")
            .query_if("copyUIDGID", self.archive.then_some("true"));
        call.send_reader(archive).await?.bytes().await?;
        Ok(())
    }
}

fn skipped(error: &gantry_tar::Error) {
    eprintln!("Can't add file to tar: {error}");
}

/// Packs a file or folder of this machine, under a name of its own where there is one.
fn pack_local(from: &Side, name: Option<&str>, to: impl Write) -> gantry_tar::Result<()> {
    let (parent, own) = paths::split(&from.path);
    let name = name.unwrap_or(&own).as_bytes();
    let options = pack::Options {
        skipped: Some(skipped),
        ..pack::Options::default()
    };
    let mut packer = Packer::new(to, options);
    let open = |path: &str| -> gantry_tar::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(paths::system(path), flags, Mode::empty());
        opened.map_err(|error| gantry_tar::Error::File {
            operation: "open",
            path: path.to_owned(),
            source: error.into(),
        })
    };
    if from.is_dir {
        packer.directory(open(&from.path)?, &[name, b"/"].concat())?;
    } else {
        packer.one(&open(&parent)?, own.as_ref(), name)?;
    }
    packer.finish().map(drop)
}

/// The pieces of an answer, on the thread that unpacks.
struct Pieces {
    from: std::sync::mpsc::Receiver<bytes::Bytes>,
    piece: bytes::Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.piece.is_empty() {
            match self.from.recv() {
                Ok(piece) => self.piece = piece,
                Err(_) => return Ok(0),
            }
        }
        let n = buffer.len().min(self.piece.len());
        buffer[..n].copy_from_slice(&self.piece.split_to(n));
        Ok(n)
    }
}

/// Unpacks an answer's archive where the destination says.
async fn unpack_answer(
    mut answer: Answer<'_>,
    from: &Side,
    to: &str,
    progress: &Progress,
) -> Result<(), Failure> {
    let destination = paths::destination(to)?;
    let (dir, renamed) = paths::plan(from, &destination)?;
    let (_, own) = paths::split(&from.path);
    // The root's own entries begin with a slash, and with nothing else.
    let own = if own == "/" { String::new() } else { own };
    let renamed = renamed.or_else(|| from.rebase.clone());
    let rename = renamed.map(|name| (own.into_bytes(), name.into_bytes()));
    let (sender, receiver) = std::sync::mpsc::sync_channel(WAITING);
    let mut pieces = progress.count(Pieces {
        from: receiver,
        piece: bytes::Bytes::new(),
    });
    let unpacking = std::thread::spawn(move || {
        let options = unpack::Options {
            keep_kind: true,
            owner: Owner::Unpacker,
            links: Links::Nowhere,
            rename,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(paths::system(&dir), flags, Mode::empty());
        let root = root.map_err(|error| gantry_tar::Error::File {
            operation: "open",
            path: dir.clone(),
            source: error.into(),
        })?;
        let shown = paths::cleaned(&dir);
        unpack::unpack(&mut pieces, &Root::new(root), shown.as_bytes(), &options)
    });
    let mut broken = None;
    loop {
        match answer.chunk().await {
            Ok(Some(piece)) => {
                if sender.send(piece).is_err() {
                    break;
                }
            }
            Ok(None) => break,
            Err(error) => {
                broken = Some(Failure::from(error));
                break;
            }
        }
    }
    drop(sender);
    let unpacked = unpacking
        .join()
        .map_err(|_| Failure::new("the thread that unpacks panicked"))?;
    match (broken, unpacked) {
        (Some(failure), _) => Err(failure),
        (None, Err(error)) => Err(Failure::new(error.to_string())),
        (None, Ok(())) => Ok(()),
    }
}

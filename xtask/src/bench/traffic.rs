//! Traffic between network namespaces, for the bench.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::engine;

/// How long iperf3 sends.
const SECONDS: &str = "3";
/// Requests that are measured, after some that are not.
const REQUESTS: usize = 20_000;
const WARM_UP: usize = 2_000;

/// A network namespace.
#[derive(Debug, Clone)]
pub(super) struct Place(PathBuf);

impl Place {
    /// The machine's own.
    pub(super) fn machine() -> Self {
        Self("/proc/self/ns/net".into())
    }

    pub(super) fn of_process(pid: u32) -> Self {
        Self(format!("/proc/{pid}/ns/net").into())
    }

    pub(super) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.0.display()))
            .args(["--", program])
            .stdin(Stdio::null());
        command
    }

    /// Goes there with this thread, for good.
    fn enter(&self) -> Result<()> {
        let file = File::open(&self.0).with_context(|| self.0.display().to_string())?;
        move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&file),
            Some(LinkNameSpaceType::Network),
        )?;
        Ok(())
    }
}

/// Gbit/s of one TCP stream for some seconds.
pub(super) fn throughput(server: &Place, client: &Place, to: &str, port: u16) -> Result<f64> {
    let mut listen = server.command("iperf3");
    listen
        .args(["-s", "-1", "-p", "5201"])
        .stdout(Stdio::null());
    let mut listening = listen.spawn().context("cannot start iperf3")?;
    std::thread::sleep(Duration::from_millis(300));
    let mut ask = client.command("iperf3");
    ask.args(["-J", "-t", SECONDS, "-c", to, "-p", &port.to_string()]);
    let said = engine::output(ask);
    if said.is_err() {
        listening.kill().ok();
    }
    listening.wait()?;
    let said: serde_json::Value = serde_json::from_str(&said?)?;
    let bits = said["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(bits.context("iperf3 has a sum")? / 1e9)
}

/// Microseconds from a request of one byte to its answer, over one connection: median and p99.
pub(super) fn latency(server: &Place, client: &Place, to: &str, port: u16) -> Result<(f64, f64)> {
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let server = scope.spawn(move || {
            server.enter()?;
            let listener = TcpListener::bind(("0.0.0.0", 5007))?;
            ready.send(()).ok();
            let (mut stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            let mut byte = [0];
            while stream.read(&mut byte)? == 1 {
                stream.write_all(&byte)?;
            }
            anyhow::Ok(())
        });
        let client = scope.spawn(move || {
            client.enter()?;
            is_ready.recv().context("nobody listens")?;
            let address = format!("{to}:{port}").parse()?;
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
            stream.set_nodelay(true)?;
            let mut times = Vec::with_capacity(REQUESTS);
            let mut byte = [7];
            for number in 0..WARM_UP + REQUESTS {
                let start = Instant::now();
                stream.write_all(&byte)?;
                stream.read_exact(&mut byte)?;
                if number >= WARM_UP {
                    times.push(start.elapsed());
                }
            }
            times.sort_unstable();
            let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e6;
            anyhow::Ok((at(50), at(99)))
        });
        let times = client.join().expect("the client does not panic");
        if times.is_ok() {
            server.join().expect("the server does not panic")?;
        }
        times
    })
}

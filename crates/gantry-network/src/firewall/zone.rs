//! Firewalld's table where only firewalld may change it (`NftablesTableOwner`, its default since 2.3). There our bridges go
//! into a zone of its, by its own program.
// COMPAT: Docker has a zone of its own, and speaks with firewalld by D-Bus, wherever firewalld runs.
use super::others::FIREWALLD;
use super::{Firewall, NetworkError};
use crate::netlink::Refusal;
use crate::nftables::{self, Family};
use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = "firewall-cmd";
/// It lets everything pass: what reaches containers is judged by our own chains.
const ZONE: &str = "trusted";
/// Where firewalld looks links up.
const ZONES: &str = "filter_INPUT_ZONES";
/// A reload of firewalld takes some seconds on a slow machine.
const PATIENCE: Duration = Duration::from_secs(10);

impl Firewall {
    /// Puts those of our bridges into a zone that are in none. Not to be called with the state locked, as it may take a
    /// second.
    pub(super) fn enter_zone(&self) -> Result<(), NetworkError> {
        let what = "putting bridges into a zone of firewalld";
        let missing = self.without_zone().map_err(NetworkError::kernel(what))?;
        if missing.is_empty() {
            return Ok(());
        }
        let links = missing.iter().map(|link| format!("--add-interface={link}"));
        match call(links) {
            Ok(()) => {
                tracing::info!(zone = ZONE, links = ?missing, "bridges are in a zone of firewalld");
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.lock().warned_of.insert(PROGRAM.into()) {
                    tracing::warn!(
                        "firewalld keeps its table locked and there is no {PROGRAM}: containers may have no way out"
                    );
                }
                Ok(())
            }
            Err(error) => Err(NetworkError::kernel(what)(error)),
        }
    }

    /// The same where a failure is no reason to stop: the watch tries again.
    pub(super) fn try_to_enter_zone(&self) {
        if let Err(error) = self.enter_zone() {
            tracing::warn!(%error, "containers may have no way out");
        }
    }

    /// Takes a bridge that goes out again.
    pub(super) fn leave_zone(&self, link: &str) {
        if !self.lock().locked_out {
            return;
        }
        if let Err(error) = call([format!("--remove-interface={link}")].into_iter()) {
            tracing::debug!(link, %error, "a bridge that is gone is left in firewalld's zone");
        }
    }

    /// Our bridges that firewalld knows nothing of; none where its table can be changed.
    fn without_zone(&self) -> Result<Vec<String>, Refusal> {
        let state = self.lock();
        if !state.locked_out {
            return Ok(Vec::new());
        }
        let (table, _) = FIREWALLD[0];
        let rules = nftables::rules(&self.netlink, Family::Inet, table, Some(ZONES))?;
        let is_known = |link: &str| {
            let name = [link.as_bytes(), &[0]].concat();
            let mut all = rules.iter();
            all.any(|rule| rule.bytes.windows(name.len()).any(|part| part == name))
        };
        let links = state.bridges.keys();
        Ok(links.filter(|link| !is_known(link)).cloned().collect())
    }
}

/// Runs firewalld's program; it is ended when it takes too long.
fn call(arguments: impl Iterator<Item = String>) -> io::Result<()> {
    let mut command = Command::new(PROGRAM);
    command
        .args(["--quiet", &format!("--zone={ZONE}")])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn()?;
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > end {
            child.kill()?;
            break child.wait()?;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{PROGRAM}: {status}")))
}

//! `--security-opt`, and the seccomp policy.

use crate::error::{Error, Result};
use gantry_api::container::HostConfig;
use gantry_runtime::seccomp::{self, Kernel};
use oci_spec::runtime::LinuxSeccomp;

/// The options, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SecurityOptions {
    pub(crate) no_new_privileges: bool,
    pub(crate) writable_cgroups: bool,
    /// `unconfined`, `builtin`, or a profile's JSON text; none where nothing is asked for.
    pub(crate) seccomp: Option<String>,
}

/// Checks the options of a request at create.
///
/// # Errors
/// An option that does not exist, or a value that cannot be.
pub(crate) fn check_security_options(host: &HostConfig) -> Result<()> {
    parse(host).map(|_| ())
}

/// Reads the options (daemon_unix.go `parseSecurityOpt` of Docker Engine 28).
pub(super) fn parse(host: &HostConfig) -> Result<SecurityOptions> {
    let mut options = SecurityOptions::default();
    for text in host.security_opt.iter().flatten() {
        match text.as_str() {
            "no-new-privileges" => {
                options.no_new_privileges = true;
                continue;
            }
            "writable-cgroups" => {
                options.writable_cgroups = true;
                continue;
            }
            "disable" => continue,
            _ => {}
        }
        // COMPAT: a bad option is the engine's fault (500) with Docker.
        let Some((key, value)) = text.split_once('=').or_else(|| text.split_once(':')) else {
            return Err(Error::system(format!("invalid --security-opt 1: {text:?}")));
        };
        let boolean = || {
            boolean(value)
                .ok_or_else(|| Error::system(format!("invalid --security-opt 2: {text:?}")))
        };
        match key {
            // Neither SELinux nor AppArmor is used: as with Docker on such a machine they are taken and do nothing.
            "label" | "apparmor" | "systempaths" => {}
            "seccomp" => options.seccomp = Some(value.to_owned()),
            "no-new-privileges" => options.no_new_privileges = boolean()?,
            "writable-cgroups" => options.writable_cgroups = boolean()?,
            _ => {
                return Err(Error::system(format!("invalid --security-opt 2: {text:?}")));
            }
        }
    }
    Ok(options)
}

/// Go's `strconv.ParseBool`.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The policy; none for an unconfined container.
pub(super) fn seccomp(
    options: &SecurityOptions,
    privileged: bool,
    capabilities: u64,
) -> Result<Option<LinuxSeccomp>> {
    match options.seccomp.as_deref() {
        None | Some("") if privileged => Ok(None),
        Some("unconfined") => Ok(None),
        None | Some("" | "builtin") => Ok(Some(seccomp::docker_default(
            capabilities,
            Kernel::running(),
        ))),
        Some(profile) => seccomp::parse_profile(profile, capabilities, Kernel::running())
            .map(Some)
            .map_err(|e| Error::invalid(e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(list: &[&str]) -> Result<SecurityOptions> {
        parse(&HostConfig {
            security_opt: Some(list.iter().map(|o| (*o).to_owned()).collect()),
            ..HostConfig::default()
        })
    }

    #[test]
    fn options() {
        let options = of(&["no-new-privileges", "seccomp=unconfined", "label=disable"]).unwrap();
        assert!(options.no_new_privileges);
        assert_eq!(options.seccomp.as_deref(), Some("unconfined"));
        assert!(!of(&["no-new-privileges:false"]).unwrap().no_new_privileges);
        assert_eq!(
            of(&["nonsense"]).unwrap_err().message,
            "invalid --security-opt 1: \"nonsense\""
        );
        assert_eq!(
            of(&["what=1"]).unwrap_err().message,
            "invalid --security-opt 2: \"what=1\""
        );
    }
}

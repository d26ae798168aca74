//! A user's profile: Docker's JSON format, a policy with conditions on machine, kernel and capabilities.

use super::SeccompError;
use super::numbers::Abi;
use super::policy::Kernel;
use crate::capabilities;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSyscall,
    LinuxSyscallBuilder,
};
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Profile {
    default_action: Option<LinuxSeccompAction>,
    default_errno_ret: Option<u32>,
    architectures: Vec<Arch>,
    arch_map: Option<Vec<Family>>,
    flags: Option<Vec<LinuxSeccompFilterFlag>>,
    syscalls: Option<Vec<Rule>>,
    listener_path: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Family {
    architecture: Arch,
    sub_architectures: Option<Vec<Arch>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    name: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    args: Option<Vec<LinuxSeccompArg>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Docker's name of this machine in `arches`.
fn native_name() -> &'static str {
    match Abi::NATIVE {
        Abi::Aarch64 => "arm64",
        _ => "amd64",
    }
}

/// Reads a profile for a container with these capabilities on this kernel.
///
/// # Errors
/// Text that is not a profile.
pub fn parse_profile(
    json: &str,
    granted: u64,
    kernel: Kernel,
) -> Result<LinuxSeccomp, SeccompError> {
    let profile: Profile = serde_json::from_str(json)?;
    let mut policy = LinuxSeccomp::default();
    let default = profile.default_action.ok_or(SeccompError::Profile(
        "the seccomp profile has no defaultAction",
    ))?;
    policy.set_default_action(default);
    policy.set_default_errno_ret(profile.default_errno_ret);
    policy.set_flags(profile.flags);
    if !profile.listener_path.is_empty() {
        return Err(SeccompError::Notify("SCMP_ACT_NOTIFY"));
    }
    let families = profile.arch_map.unwrap_or_default();
    if !profile.architectures.is_empty() && !families.is_empty() {
        return Err(SeccompError::Profile(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use only one",
        ));
    }
    let mut architectures = profile.architectures;
    if let Some(family) = families
        .into_iter()
        .find(|f| Abi::of(f.architecture) == Some(Abi::NATIVE))
    {
        architectures.push(family.architecture);
        architectures.extend(family.sub_architectures.into_iter().flatten());
    }
    policy.set_architectures(Some(architectures));
    let mut rules = Vec::new();
    for rule in profile.syscalls.into_iter().flatten() {
        rules.extend(read(rule, granted, kernel)?);
    }
    policy.set_syscalls(Some(rules));
    Ok(policy)
}

/// A rule, if its conditions hold.
fn read(rule: Rule, granted: u64, kernel: Kernel) -> Result<Option<LinuxSyscall>, SeccompError> {
    let mut names = rule.names.unwrap_or_default();
    if !rule.name.is_empty() {
        if !names.is_empty() {
            return Err(SeccompError::Profile(
                "both 'name' and 'names' are specified in the seccomp profile, use only one",
            ));
        }
        names.push(rule.name);
    }
    let has = |name: &String| capabilities::bit(name).is_some_and(|bit| granted & bit != 0);
    if let Some(excludes) = &rule.excludes
        && (excludes.arches.iter().flatten().any(|a| a == native_name())
            || excludes.caps.iter().flatten().any(has)
            || excludes
                .min_kernel
                .as_deref()
                .map(Kernel::parse)
                .transpose()?
                .is_some_and(|min| kernel >= min))
    {
        return Ok(None);
    }
    if let Some(includes) = &rule.includes {
        let arches = includes.arches.as_deref().unwrap_or_default();
        let elsewhere = !arches.is_empty() && !arches.iter().any(|a| a == native_name());
        let lacks = includes.caps.iter().flatten().any(|name| !has(name));
        let old = includes
            .min_kernel
            .as_deref()
            .map(Kernel::parse)
            .transpose()?
            .is_some_and(|min| kernel < min);
        if elsewhere || lacks || old {
            return Ok(None);
        }
    }
    let mut built = LinuxSyscallBuilder::default()
        .names(names)
        .action(rule.action);
    if let Some(errno) = rule.errno_ret {
        built = built.errno_ret(errno);
    }
    if let Some(args) = rule.args {
        built = built.args(args);
    }
    built
        .build()
        .map(Some)
        .map_err(|_| SeccompError::Profile("a rule of the seccomp profile has no names"))
}

//! The values of single flags, read one by one.

use std::net::IpAddr;

use gantry_api::container::{DeviceMapping, DeviceRequest, Ulimit};

use crate::flags::Rule;

/// `--add-host name:address` or `name=address`
#[derive(Debug)]
pub(crate) struct AddHost;

impl Rule for AddHost {
    type Item = String;
    fn read(text: &str) -> Result<String, String> {
        let pair = text.split_once('=').or_else(|| text.split_once(':'));
        let Some((name, address)) = pair.filter(|(name, _)| !name.is_empty()) else {
            return Err(format!("bad format for add-host: \"{text}\""));
        };
        if address == "host-gateway" {
            return Ok(format!("{name}:{address}"));
        }
        let bare = address
            .strip_prefix('[')
            .and_then(|inner| inner.strip_suffix(']'))
            .unwrap_or(address);
        if bare.parse::<IpAddr>().is_err() {
            return Err(format!("invalid IP address in add-host: \"{address}\""));
        }
        Ok(format!("{name}:{bare}"))
    }
}

fn key_and_value(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

/// `--annotation key=value`
#[derive(Debug)]
pub(crate) struct Annotation;

impl Rule for Annotation {
    const KIND: &'static str = "map";
    type Item = (String, String);
    fn read(text: &str) -> Result<Self::Item, String> {
        Ok(key_and_value(text))
    }
}

/// `--label key=value`
#[derive(Debug)]
pub(crate) struct Label;

impl Rule for Label {
    type Item = (String, String);
    fn read(text: &str) -> Result<Self::Item, String> {
        let (key, value) = key_and_value(text);
        if key.is_empty() {
            return Err(format!("invalid label '{text}': empty name"));
        }
        Ok((key, value))
    }
}

/// `--opt key=value` of a driver; a bare key has an empty value.
#[derive(Debug)]
pub(crate) struct DriverOption;

impl Rule for DriverOption {
    const KIND: &'static str = "map";
    type Item = (String, String);
    fn read(text: &str) -> Result<Self::Item, String> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        Ok((key.to_owned(), value.to_owned()))
    }
}

/// `--attach stdin|stdout|stderr`
#[derive(Debug)]
pub(crate) struct AttachTo;

impl Rule for AttachTo {
    type Item = String;
    fn read(text: &str) -> Result<String, String> {
        let lower = text.to_lowercase();
        match lower.as_str() {
            "stdin" | "stdout" | "stderr" => Ok(lower),
            _ => Err("valid streams are STDIN, STDOUT and STDERR".to_owned()),
        }
    }
}

/// An IP address.
#[derive(Debug)]
pub(crate) struct Address;

impl Rule for Address {
    type Item = String;
    fn read(text: &str) -> Result<String, String> {
        match text.trim().parse::<IpAddr>() {
            Ok(address) => Ok(address.to_string()),
            Err(_) => Err(format!("IP address is not correctly formatted: {text}")),
        }
    }
}

/// `--dns-search`
#[derive(Debug)]
pub(crate) struct SearchDomain;

impl Rule for SearchDomain {
    type Item = String;
    fn read(text: &str) -> Result<String, String> {
        let name = text.trim_matches(' ');
        if name == "." {
            return Ok(name.to_owned());
        }
        let bare = name.strip_suffix('.').unwrap_or(name);
        let label = |label: &str| {
            !label.is_empty()
                && label
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if bare.len() < 255 && bare.split('.').all(label) {
            Ok(bare.to_owned())
        } else {
            Err(format!("{text} is not a valid domain"))
        }
    }
}

/// `--link name:alias`
#[derive(Debug)]
pub(crate) struct LinkRule;

impl Rule for LinkRule {
    type Item = String;
    fn read(text: &str) -> Result<String, String> {
        if text.is_empty() {
            return Err("empty string specified for links".to_owned());
        }
        if text.split(':').count() > 2 {
            return Err(format!("bad format for links: {text}"));
        }
        Ok(text.to_owned())
    }
}

/// `--lxc-conf lxc.network.hwaddr=02:42:..`: the MAC address.
///
/// COMPAT: from the time when Docker ran containers by LXC (to 1.7); scripts of then still say so, for want of a
/// `--mac-address`. No other of LXC's settings is taken.
#[derive(Debug)]
pub(crate) struct LxcConf;

impl Rule for LxcConf {
    type Item = String;
    fn read(text: &str) -> Result<String, String> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        match (key.trim(), value.trim()) {
            ("lxc.network.hwaddr", value) if !value.is_empty() => Ok(value.to_owned()),
            ("lxc.network.hwaddr", _) => Err("lxc.network.hwaddr has no value".to_owned()),
            (other, _) => Err(format!(
                "'{other}' is not supported, of LXC's settings only lxc.network.hwaddr is"
            )),
        }
    }
}

/// `--device-cgroup-rule 'c 1:3 rwm'`
#[derive(Debug)]
pub(crate) struct DeviceRule;

impl Rule for DeviceRule {
    type Item = String;
    fn read(text: &str) -> Result<String, String> {
        let number = |part: &str| {
            part == "*" || (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
        };
        let words: Vec<&str> = text.split(' ').collect();
        let fits = match words.as_slice() {
            [kind, device, rights] => {
                matches!(*kind, "a" | "b" | "c")
                    && device
                        .split_once(':')
                        .is_some_and(|(major, minor)| number(major) && number(minor))
                    && (1..=3).contains(&rights.len())
                    && rights.chars().all(|right| "rwm".contains(right))
            }
            _ => false,
        };
        if fits {
            Ok(text.to_owned())
        } else {
            Err(format!("invalid device cgroup format '{text}'"))
        }
    }
}

/// `--sysctl name=value`
#[derive(Debug)]
pub(crate) struct Sysctl;

/// Those outside `net.` and `fs.mqueue.` that belong to a namespace.
const SYSCTLS: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

impl Rule for Sysctl {
    const KIND: &'static str = "map";
    type Item = (String, String);
    fn read(text: &str) -> Result<Self::Item, String> {
        let Some((name, value)) = text.split_once('=') else {
            return Err(format!("sysctl '{text}' is not allowed"));
        };
        let free = name.starts_with("net.") || name.starts_with("fs.mqueue.");
        if !free && !SYSCTLS.contains(&name) {
            return Err(format!("sysctl '{text}' is not allowed"));
        }
        Ok((name.to_owned(), value.to_owned()))
    }
}

/// `--ulimit name=soft[:hard]`
#[derive(Debug)]
pub(crate) struct UlimitRule;

const ULIMITS: &[&str] = &[
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

impl Rule for UlimitRule {
    const KIND: &'static str = "ulimit";
    type Item = Ulimit;
    fn read(text: &str) -> Result<Ulimit, String> {
        let wrong = || format!("invalid ulimit argument: {text}");
        let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
        if !ULIMITS.contains(&name) {
            return Err(format!("invalid ulimit type: {name}"));
        }
        let number = |part: &str| match part {
            "unlimited" => Ok(-1),
            _ => part
                .parse::<i64>()
                .map_err(|_| format!("strconv.ParseInt: parsing \"{part}\": invalid syntax")),
        };
        let (soft, hard) = match limits.split_once(':') {
            Some((_, hard)) if hard.contains(':') => {
                return Err(format!(
                    "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
                ));
            }
            Some((soft, hard)) => (number(soft)?, number(hard)?),
            None => (number(limits)?, number(limits)?),
        };
        if hard != -1 && (soft == -1 || soft > hard) {
            return Err(format!(
                "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
            ));
        }
        Ok(Ulimit {
            name: name.to_owned(),
            hard,
            soft,
        })
    }
}

/// `--gpus all`, a number, or `driver=..,count=..,device=..,capabilities=..`
#[derive(Debug)]
pub(crate) struct GpuRule;

impl Rule for GpuRule {
    const KIND: &'static str = "gpu-request";
    type Item = DeviceRequest;
    fn read(text: &str) -> Result<DeviceRequest, String> {
        let count = |text: &str| {
            match text {
            "all" => Ok(-1),
            _ => text.parse().map_err(|_| {
                format!("invalid count ({text}): value must be either \"all\" or an integer: invalid syntax")
            }),
        }
        };
        let mut request = DeviceRequest {
            capabilities: Some(vec![vec!["gpu".to_owned()]]),
            options: Some(Default::default()),
            ..Default::default()
        };
        let mut counted = false;
        for field in text.split(',') {
            match field.split_once('=') {
                None => (request.count, counted) = (count(field)?, true),
                Some(("count", value)) => (request.count, counted) = (count(value)?, true),
                Some(("driver", value)) => request.driver = value.to_owned(),
                Some(("device", value)) => request
                    .device_ids
                    .get_or_insert_default()
                    .push(value.to_owned()),
                Some(("capabilities", value)) => {
                    let list = request.capabilities.get_or_insert_default();
                    list.iter_mut().for_each(|all| all.push(value.to_owned()));
                }
                Some((key, _)) => return Err(format!("unexpected key '{key}' in '{field}'")),
            }
        }
        if !counted && request.device_ids.is_none() {
            request.count = 1;
        }
        Ok(request)
    }
}

/// `--device /dev/x[:/dev/y][:rwm]`
pub(crate) fn device(text: &str) -> Result<DeviceMapping, String> {
    let rights = |part: &str| {
        !part.is_empty() && part.len() <= 3 && part.chars().all(|right| "rwm".contains(right))
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (host, inside, permissions) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, last] if rights(last) => (*host, *host, *last),
        [host, inside] => (*host, *inside, "rwm"),
        [host, inside, permissions] => (*host, *inside, *permissions),
        _ => return Err(format!("invalid device specification: {text}")),
    };
    if !inside.starts_with('/') {
        return Err(format!("{inside} is not an absolute path"));
    }
    if !rights(permissions) {
        return Err(format!("bad mode specified: {permissions}"));
    }
    Ok(DeviceMapping {
        path_on_host: host.to_owned(),
        path_in_container: inside.to_owned(),
        cgroup_permissions: permissions.to_owned(),
    })
}

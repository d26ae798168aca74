//! Platforms: how they are written (`os/arch[/variant]`), and which images a machine or a request can use
//! (containerd's package `platforms`, whose words the errors have).

use crate::manifest::Platform;

/// Why a text is no platform; Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}: invalid argument")]
pub struct PlatformError(String);

const OPERATING_SYSTEMS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];
const ARCHITECTURES: [&str; 25] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "ppc64",
    "ppc64le",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
    "ppcle",
];

/// The machine's architecture by its name in images.
pub fn machine_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// One name for each architecture; the variant that goes without saying is left out.
fn normal(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = (architecture.to_lowercase(), variant.to_lowercase());
    let pair = |a: &str, v: &str| (a.to_owned(), v.to_owned());
    match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => pair("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => pair("amd64", ""),
        ("x86_64" | "x86-64", variant) => pair("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => pair("arm64", ""),
        ("aarch64", variant) => pair("arm64", variant),
        ("armhf", _) => pair("arm", "v7"),
        ("armel", _) => pair("arm", "v6"),
        ("arm", "" | "7") => pair("arm", "v7"),
        ("arm", "5" | "6" | "8") => pair("arm", &format!("v{variant}")),
        _ => (architecture, variant),
    }
}

impl Platform {
    /// The machine's own.
    pub fn of_machine() -> Self {
        Self::of("linux", machine_architecture(), "")
    }

    /// A platform of its parts; an empty variant is none.
    pub fn of(os: &str, architecture: &str, variant: &str) -> Self {
        Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            variant: Some(variant.to_owned()).filter(|v| !v.is_empty()),
            os_version: None,
            os_features: Vec::new(),
        }
    }

    /// Parses `os/arch[/variant]`, `os` or `arch`.
    pub fn parse(text: &str) -> Result<Self, PlatformError> {
        const OS: &str = r#""^([A-Za-z0-9_-]+)(?:\\(([A-Za-z0-9_.-]*)\\))?$""#;
        const COMPONENT: &str = r#""^[A-Za-z0-9_.-]+$""#;
        let refuse = |message: String| Err(PlatformError(message));
        if text.contains('*') {
            return refuse(format!("{text:?}: wildcards not yet supported"));
        }
        let parts: Vec<&str> = text.splitn(4, '/').collect();
        let (os, version) = match parts[0].split_once('(') {
            Some((os, rest)) => (os, rest.strip_suffix(')')),
            None => (parts[0], Some("")),
        };
        let word = |text: &str, more: &str| {
            text.chars()
                .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        let Some(version) = version.filter(|v| !os.is_empty() && word(os, "_-") && word(v, "_.-"))
        else {
            return refuse(format!(
                "{:?} is an invalid OS component of {text:?}: OSAndVersion specifier component must match {OS}",
                parts[0]
            ));
        };
        for part in &parts[1..] {
            if part.is_empty() || !word(part, "_.-") {
                return refuse(format!(
                    "{part:?} is an invalid component of {text:?}: platform specifier component must match {COMPONENT}"
                ));
            }
        }
        let os = match os.to_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let mut platform = match parts.as_slice() {
            [_] if OPERATING_SYSTEMS.contains(&os.as_str()) => {
                Self::of(&os, machine_architecture(), "")
            }
            [one] => {
                let (architecture, variant) = normal(one, "");
                if !ARCHITECTURES.contains(&architecture.as_str()) {
                    return refuse(format!(
                        "{text:?}: unknown operating system or architecture"
                    ));
                }
                Self::of("linux", &architecture, shown(&architecture, &variant))
            }
            [_, architecture] => {
                let (architecture, variant) = normal(architecture, "");
                Self::of(&os, &architecture, shown(&architecture, &variant))
            }
            [_, architecture, variant] => {
                let (architecture, variant) = normal(architecture, variant);
                match (architecture.as_str(), variant.as_str()) {
                    ("arm64", "") => Self::of(&os, "arm64", "v8"),
                    _ => Self::of(&os, &architecture, &variant),
                }
            }
            _ => return refuse(format!("{text:?}: cannot parse platform specifier")),
        };
        platform.os_version = Some(version.to_owned()).filter(|v| !v.is_empty());
        Ok(platform)
    }

    /// With one name for each architecture.
    pub fn normalized(&self) -> Self {
        let (architecture, variant) = normal(
            &self.architecture,
            self.variant.as_deref().unwrap_or_default(),
        );
        Self {
            os_version: self.os_version.clone(),
            ..Self::of(&self.os.to_lowercase(), &architecture, &variant)
        }
    }

    /// Whether an image for this platform is of the same kind as one for the other.
    pub fn is_same(&self, other: &Self) -> bool {
        let (one, other) = (self.normalized(), other.normalized());
        one.os == other.os && one.architecture == other.architecture && one.variant == other.variant
    }

    /// How well an image for `found` serves who asked for this platform: 0 is best; none, where it does not.
    pub fn rank(&self, found: &Self) -> Option<usize> {
        let (asked, found) = (self.normalized(), found.normalized());
        if asked.os != found.os {
            return None;
        }
        let served = served_by(&asked);
        let has = (
            found.architecture.as_str(),
            found.variant.as_deref().unwrap_or_default(),
        );
        let exact = served
            .iter()
            .position(|(architecture, variant)| (architecture.as_str(), variant.as_str()) == has);
        // COMPAT: an image that does not tell its variant is taken for any (moby's OnlyPlatformWithFallback).
        let vague = has.1.is_empty() && has.0 == asked.architecture;
        exact.or_else(|| vague.then_some(served.len()))
    }
}

/// What goes without saying is not shown.
fn shown<'a>(architecture: &str, variant: &'a str) -> &'a str {
    if architecture == "arm" && variant == "v7" {
        return "";
    }
    variant
}

/// Architectures and variants whose programs run where a platform is asked for, best first.
fn served_by(asked: &Platform) -> Vec<(String, String)> {
    let variant = asked.variant.as_deref().unwrap_or_default();
    let own = |v: &str| (asked.architecture.clone(), v.to_owned());
    let number = |text: &str| text.strip_prefix('v').and_then(|n| n.parse::<u32>().ok());
    let mut list = vec![own(variant)];
    match asked.architecture.as_str() {
        "amd64" => {
            for n in (1..number(variant).unwrap_or(1)).rev() {
                let shown = if n == 1 {
                    String::new()
                } else {
                    format!("v{n}")
                };
                list.push(own(&shown));
            }
            list.push(("386".to_owned(), String::new()));
        }
        "arm" => {
            for n in (5..number(variant).unwrap_or(7)).rev() {
                list.push(own(&format!("v{n}")));
            }
        }
        "arm64" => {
            if !variant.is_empty() {
                list.push(own(""));
            }
            for n in (5..=8).rev() {
                list.push(("arm".to_owned(), format!("v{n}")));
            }
        }
        _ => {}
    }
    list
}

/// `linux/arm64/v8`
impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.os.is_empty() {
            return f.write_str("unknown");
        }
        f.write_str(&self.os)?;
        if let Some(version) = self.os_version.as_ref().filter(|v| !v.is_empty()) {
            write!(f, "({version})")?;
        }
        let parts = [Some(&self.architecture), self.variant.as_ref()];
        for part in parts.into_iter().flatten().filter(|part| !part.is_empty()) {
            write!(f, "/{part}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        Platform::parse(text).unwrap().to_string()
    }

    #[test]
    fn texts_as_containerd_reads_them() {
        for (text, shown) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/arm64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64/v8"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm", "linux/arm"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/armel", "linux/arm/v6"),
            ("arm64", "linux/arm64"),
            ("macos/arm64", "darwin/arm64"),
            ("windows(10.0.1)/amd64", "windows(10.0.1)/amd64"),
        ] {
            assert_eq!(parsed(text), shown, "{text}");
        }
        assert_eq!(parsed("linux"), Platform::of_machine().to_string());
        let words = |text: &str| Platform::parse(text).unwrap_err().to_string();
        assert_eq!(
            words("nope"),
            r#""nope": unknown operating system or architecture: invalid argument"#
        );
        assert_eq!(
            words("linux/a/b/c"),
            r#""linux/a/b/c": cannot parse platform specifier: invalid argument"#
        );
        assert!(words("linux/").contains(r#""" is an invalid component of "linux/""#));
        assert!(words("").contains("invalid OS component"));
    }

    #[test]
    fn which_images_serve_which_platform() {
        let rank = |asked: &str, found: &str| {
            Platform::parse(asked)
                .unwrap()
                .rank(&Platform::parse(found).unwrap())
        };
        assert_eq!(rank("linux/amd64", "linux/amd64"), Some(0));
        assert_eq!(rank("linux/amd64", "linux/386"), Some(1));
        assert_eq!(rank("linux/arm64/v8", "linux/arm64"), Some(0));
        assert_eq!(rank("linux/arm64", "linux/arm64/v8"), Some(0));
        assert!(rank("linux/arm/v7", "linux/arm/v6") > rank("linux/arm/v7", "linux/arm/v7"));
        assert_eq!(rank("linux/arm/v6", "linux/arm/v7"), None);
        assert_eq!(rank("linux/amd64", "linux/arm64"), None);
        assert_eq!(rank("windows/amd64", "linux/amd64"), None);
        // An image of version 6 that does not say so.
        let vague = Platform::of("linux", "arm", "");
        assert!(
            Platform::parse("linux/arm/v7")
                .unwrap()
                .rank(&vague)
                .is_some()
        );
        assert!(Platform::of("linux", "arm64", "").is_same(&Platform::of("linux", "arm64", "v8")));
    }
}

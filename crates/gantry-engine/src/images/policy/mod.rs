//! The image policy (`image-policy` in daemon.json): which images may come, and which of them must be signed.
//!
//! ```json
//! {
//!   "default": "allow",
//!   "rules": [
//!     {"repositories": ["registry.example.com/team/**"], "action": "require-signatures", "keys": ["/etc/gantry/team.pub"]},
//!     {"repositories": ["docker.io/library/*"], "action": "allow"},
//!     {"repositories": ["**"], "action": "refuse"}
//!   ]
//! }
//! ```
//!
//! The first rule that names a repository counts, `default` where none does. `*` stands for anything but `/`, `**` for
//! anything; a pattern is held against the whole name (`docker.io/library/busybox`) and the familiar one (`busybox`).
//! The file and the keys are read at each decision, so that a change holds at once; what cannot be read or understood
//! refuses all images.

mod keys;
#[cfg(test)]
mod tests;

use crate::error::{Error, ErrorKind, Result};
use base64::Engine as _;
use gantry_oci::{Digest, Reference};
use gantry_registry::{Credentials, Registry, Remote, Signature};
use keys::Key;
use regex::Regex;
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Action {
    Allow,
    Refuse,
    RequireSignatures,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    repositories: Vec<String>,
    action: Action,
    #[serde(default)]
    keys: Vec<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    default: Action,
    #[serde(default)]
    rules: Vec<Rule>,
}

/// What cosign signs ("simple signing").
#[derive(Debug, Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Debug, Deserialize)]
struct Critical {
    identity: Identity,
    image: Signed,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Deserialize)]
struct Identity {
    #[serde(rename = "docker-reference")]
    reference: String,
}

#[derive(Debug, Deserialize)]
struct Signed {
    #[serde(rename = "docker-manifest-digest")]
    digest: Digest,
}

/// The policy; none is as good as `{"default": "allow"}`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    file: Option<PathBuf>,
}

/// What a policy says of one repository.
struct Verdict<'a> {
    action: Action,
    keys: &'a [PathBuf],
    /// Which rule it is, for people.
    rule: String,
}

impl Policy {
    /// Takes a file, which must be one that can be used.
    pub(crate) fn open(file: Option<PathBuf>) -> Result<Self> {
        if let Some(file) = &file {
            let document = read(file)?;
            for key in document.rules.iter().flat_map(|rule| &rule.keys) {
                Key::read(key)?;
            }
        }
        Ok(Self { file })
    }

    /// Whether there is one at all.
    pub(super) fn is_set(&self) -> bool {
        self.file.is_some()
    }

    /// Whether an image may come from its registry: asked before any layer is fetched.
    pub(super) async fn admit(
        &self,
        reference: &Reference,
        remote: &Remote,
        registry: &Registry,
        credentials: Option<&Credentials>,
    ) -> Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let document = read(file)?;
        let verdict = document.verdict(reference);
        let refuse = |why: String| {
            Err(refused(
                reference,
                &format!("{} in {}", verdict.rule, file.display()),
                &why,
            ))
        };
        match verdict.action {
            Action::Allow => return Ok(()),
            Action::Refuse => return refuse("images of this repository are not wanted".to_owned()),
            Action::RequireSignatures => {}
        }
        let keys: Vec<Key> = verdict
            .keys
            .iter()
            .map(|file| Key::read(file))
            .collect::<Result<_>>()?;
        // The index that the name stands for may be signed, or the image in it.
        let mut digests = vec![remote.digest.clone()];
        let own = Digest::of(&remote.manifest);
        if !digests.contains(&own) {
            digests.push(own);
        }
        let mut found = Vec::new();
        for digest in &digests {
            let signatures = registry.signatures(reference, digest, credentials).await?;
            for signature in &signatures {
                match judge(signature, &keys, reference, digest) {
                    Ok(key) => {
                        tracing::info!(image = %reference, %digest, key = %key.display(), "a signature was verified");
                        return Ok(());
                    }
                    Err(why) => found.push(why),
                }
            }
        }
        let names: Vec<String> = keys.iter().map(|k| k.file.display().to_string()).collect();
        let names = names.join(" or ");
        if found.is_empty() {
            return refuse(format!(
                "a signature by {names} is required, and the registry has none for {}",
                remote.digest
            ));
        }
        found.dedup();
        refuse(format!(
            "a signature by {names} is required; found: {}",
            found.join("; ")
        ))
    }

    /// Whether an image that does not come from a registry (`how` it comes: a load, an import) may have a name.
    pub(super) fn admit_name(&self, reference: &Reference, how: &str) -> Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let document = read(file)?;
        let verdict = document.verdict(reference);
        let why = match verdict.action {
            Action::Allow => return Ok(()),
            Action::Refuse => "images of this repository are not wanted".to_owned(),
            Action::RequireSignatures => format!(
                "a signature is required, which {how} does not bring: pull it, or give it another name"
            ),
        };
        let rule = format!("{} in {}", verdict.rule, file.display());
        Err(refused(reference, &rule, &why))
    }
}

fn refused(reference: &Reference, rule: &str, why: &str) -> Error {
    let image = reference.familiar();
    Error::new(
        ErrorKind::Forbidden,
        format!("{image} is refused by the image policy ({rule}): {why}"),
    )
}

fn read(file: &Path) -> Result<Document> {
    let broken = |why: String| {
        Error::system(format!(
            "the image policy {} cannot be used, so no image is let in: {why}",
            file.display()
        ))
    };
    let text = std::fs::read(file).map_err(|e| broken(e.to_string()))?;
    let document: Document = serde_json::from_slice(&text).map_err(|e| broken(e.to_string()))?;
    if document.default == Action::RequireSignatures {
        let why = "\"default\" is \"allow\" or \"refuse\"; signatures need a rule with keys";
        return Err(broken(why.to_owned()));
    }
    for (number, rule) in document.rules.iter().enumerate() {
        let needs = rule.action == Action::RequireSignatures;
        let number = number + 1;
        if rule.repositories.is_empty() {
            return Err(broken(format!("rule {number} has no \"repositories\"")));
        }
        if needs && rule.keys.is_empty() {
            return Err(broken(format!(
                "rule {number} requires signatures and has no \"keys\""
            )));
        }
        if !needs && !rule.keys.is_empty() {
            let why = format!("rule {number} has keys, but does not require signatures");
            return Err(broken(why));
        }
    }
    Ok(document)
}

impl Document {
    fn verdict(&self, reference: &Reference) -> Verdict<'_> {
        for (number, rule) in self.rules.iter().enumerate() {
            let found = rule.repositories.iter().find(|p| matches(p, reference));
            if let Some(pattern) = found {
                return Verdict {
                    action: rule.action,
                    keys: &rule.keys,
                    rule: format!("rule {}, {pattern:?},", number + 1),
                };
            }
        }
        Verdict {
            action: self.default,
            keys: &[],
            rule: "the default".to_owned(),
        }
    }
}

fn matches(pattern: &str, reference: &Reference) -> bool {
    let mut text = String::from("^");
    for (at, anything) in pattern.split("**").enumerate() {
        if at > 0 {
            text.push_str(".*");
        }
        let parts: Vec<String> = anything.split('*').map(regex::escape).collect();
        text.push_str(&parts.join("[^/]*"));
    }
    text.push('$');
    let pattern = Regex::new(&text);
    pattern.is_ok_and(|pattern| {
        pattern.is_match(&reference.name()) || pattern.is_match(&reference.familiar_name())
    })
}

/// The file of the key that made a signature for this image, or why the signature is worth nothing here.
fn judge<'a>(
    signature: &Signature,
    keys: &'a [Key],
    reference: &Reference,
    digest: &Digest,
) -> std::result::Result<&'a Path, String> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(signature.signature.trim())
        .map_err(|_| "a signature that is no base64".to_owned())?;
    let key = keys
        .iter()
        .find(|key| key.signed(&signature.payload, &bytes))
        .ok_or_else(|| "a signature by another key".to_owned())?;
    let payload: Payload = serde_json::from_slice(&signature.payload)
        .map_err(|error| format!("a signature of what is no image: {error}"))?;
    let critical = payload.critical;
    if !matches!(
        critical.kind.as_str(),
        "cosign container image signature" | "atomic container signature"
    ) {
        return Err(format!("a signature of the kind {:?}", critical.kind));
    }
    if critical.image.digest != *digest {
        return Err(format!(
            "a signature for {}, not for {digest}",
            critical.image.digest
        ));
    }
    let named = Reference::parse(&critical.identity.reference);
    if !named.is_ok_and(|named| named.name() == reference.name()) {
        return Err(format!(
            "a signature for the repository {:?}, not for {:?}",
            critical.identity.reference,
            reference.name()
        ));
    }
    Ok(&key.file)
}

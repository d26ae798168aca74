//! Lists that are being made: `manifests/<list>/<manifest>` in the configuration's folder, a JSON document each, as
//! Docker's client writes them. In the names `:` is `-` and `/` is `_`.

use std::io::ErrorKind;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gantry_oci::manifest::{Descriptor, ImageManifest};
use gantry_oci::media_type::DOCKER_MANIFEST;
use gantry_oci::{Digest, Reference};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::failure::Failure;
use crate::format::escaped;

/// A manifest of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Stored {
    /// Its full name.
    #[serde(rename = "Ref")]
    pub(super) name: String,
    pub(super) descriptor: Descriptor,
    /// The exact bytes, in base64.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    raw: String,
    #[serde(
        rename = "SchemaV2Manifest",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    docker: Option<Box<RawValue>>,
    #[serde(
        rename = "OCIManifest",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    oci: Option<Box<RawValue>>,
}

impl Stored {
    /// A manifest as a registry has it.
    pub(super) fn new(
        name: &Reference,
        descriptor: Descriptor,
        bytes: &[u8],
    ) -> Result<Stored, Failure> {
        let text: Box<RawValue> =
            serde_json::from_slice(bytes).map_err(|error| Failure::new(error.to_string()))?;
        let (docker, oci) = match descriptor.media_type.as_str() {
            DOCKER_MANIFEST => (Some(text), None),
            _ => (None, Some(text)),
        };
        Ok(Stored {
            name: name.to_string(),
            descriptor,
            raw: STANDARD.encode(bytes),
            docker,
            oci,
        })
    }

    /// The manifest's JSON.
    pub(super) fn text(&self) -> Result<&str, Failure> {
        match self.docker.as_ref().or(self.oci.as_ref()) {
            Some(text) => Ok(text.get()),
            None => Err(Failure::new(format!("{} has no payload", self.name))),
        }
    }

    pub(super) fn reference(&self) -> Result<Reference, Failure> {
        Reference::parse(&self.name).map_err(|error| Failure::new(error.to_string()))
    }

    /// The manifest's exact bytes, which are what the descriptor says.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, Failure> {
        let bytes = match self.raw.as_str() {
            "" => self.text()?.as_bytes().to_vec(),
            raw => STANDARD
                .decode(raw)
                .map_err(|error| Failure::new(format!("{}: {error}", self.name)))?,
        };
        let (expected, found) = (&self.descriptor.digest, Digest::of(&bytes));
        if found != *expected {
            return Err(Failure::new(format!(
                "internal digest mismatch for {}: expected {expected}, got {found}",
                self.name
            )));
        }
        Ok(bytes)
    }

    pub(super) fn manifest(&self) -> Result<ImageManifest, Failure> {
        serde_json::from_str(self.text()?)
            .map_err(|error| Failure::new(format!("{}: {error}", self.name)))
    }

    /// The whole record, in one line as Go writes it.
    pub(super) fn json(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        // What is in it as it came may have more than one line.
        escaped(&compact(&text))
    }
}

/// JSON without the blanks between its tokens.
fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut quoted, mut escape) = (false, false);
    for letter in json.chars() {
        match letter {
            _ if escape => escape = false,
            '\\' => escape = quoted,
            '"' => quoted = !quoted,
            _ => {}
        }
        if quoted || !letter.is_ascii_whitespace() {
            out.push(letter);
        }
    }
    out
}

/// The folder of all lists.
#[derive(Debug)]
pub(super) struct Store(PathBuf);

fn file_name(name: &Reference) -> String {
    name.to_string().replace(':', "-").replace('/', "_")
}

/// Docker's words for what is not there.
pub(super) fn no_such(name: &impl std::fmt::Display) -> Failure {
    Failure::new(format!("No such manifest: {name}"))
}

impl Store {
    pub(super) fn new(folder: PathBuf) -> Store {
        Store(folder)
    }

    /// A manifest of a list.
    pub(super) fn get(
        &self,
        list: &Reference,
        manifest: &Reference,
    ) -> Result<Option<Stored>, Failure> {
        read(self.0.join(file_name(list)).join(file_name(manifest)))
    }

    /// All manifests of a list, in the order of their files; nothing where there is no such list.
    pub(super) fn list(&self, list: &Reference) -> Result<Option<Vec<Stored>>, Failure> {
        let folder = self.0.join(file_name(list));
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(&folder, &error)),
        };
        let mut files = Vec::new();
        for entry in entries {
            files.push(entry.map_err(|error| at(&folder, &error))?.path());
        }
        files.sort();
        let mut manifests = Vec::new();
        for file in files {
            manifests.extend(read(file)?);
        }
        Ok(Some(manifests))
    }

    pub(super) fn save(
        &self,
        list: &Reference,
        manifest: &Reference,
        stored: &Stored,
    ) -> Result<(), Failure> {
        let folder = self.0.join(file_name(list));
        std::fs::create_dir_all(&folder).map_err(|error| at(&folder, &error))?;
        let file = folder.join(file_name(manifest));
        // Not among the list's files, so that what breaks off is no manifest.
        let part = self.0.join(format!(".part-{}", std::process::id()));
        let written =
            std::fs::write(&part, stored.json()).and_then(|()| std::fs::rename(&part, &file));
        if written.is_err() {
            std::fs::remove_file(&part).ok();
        }
        written.map_err(|error| at(&file, &error))
    }

    pub(super) fn remove(&self, list: &Reference) -> Result<(), Failure> {
        let folder = self.0.join(file_name(list));
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(at(&folder, &error)),
            _ => Ok(()),
        }
    }
}

fn at(path: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

fn read(file: PathBuf) -> Result<Option<Stored>, Failure> {
    let text = match std::fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(&file, &error)),
    };
    let stored = serde_json::from_slice(&text);
    stored
        .map(Some)
        .map_err(|error| Failure::new(format!("invalid manifest file {}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_as_docker_stores_it() {
        let folder = std::env::temp_dir().join(format!("gantry-manifests-{}", std::process::id()));
        let store = Store::new(folder.clone());
        let list = Reference::parse("r.example:5/a/list:1").unwrap();
        let name = Reference::parse("r.example:5/a/x:2").unwrap();
        assert!(store.list(&list).unwrap().is_none());
        assert!(store.get(&list, &name).unwrap().is_none());
        let bytes = b"{\n  \"schemaVersion\": 2, \"note\": \"a <b> \\\" c\"\n}";
        let descriptor = Descriptor {
            media_type: DOCKER_MANIFEST.to_owned(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            urls: Vec::new(),
            annotations: None,
            platform: None,
        };
        let stored = Stored::new(&name, descriptor, bytes).unwrap();
        store.save(&list, &name, &stored).unwrap();
        let file = folder.join("r.example-5_a_list-1/r.example-5_a_x-2");
        let text = std::fs::read_to_string(file).unwrap();
        assert_eq!(
            text,
            format!(
                r#"{{"Ref":"r.example:5/a/x:2","Descriptor":{{"mediaType":"{DOCKER_MANIFEST}","digest":"{}","size":{}}},"Raw":"{}","SchemaV2Manifest":{{"schemaVersion":2,"note":"a \u003cb\u003e \" c"}}}}"#,
                Digest::of(bytes),
                bytes.len(),
                STANDARD.encode(bytes)
            )
        );
        let again = store.get(&list, &name).unwrap().unwrap();
        assert_eq!(again.bytes().unwrap(), bytes);
        assert_eq!(store.list(&list).unwrap().unwrap().len(), 1);
        let broken = Stored {
            raw: STANDARD.encode("{}"),
            ..again
        };
        assert!(
            broken
                .bytes()
                .unwrap_err()
                .text
                .starts_with("internal digest mismatch for r.example:5/a/x:2: expected sha256:")
        );
        store.remove(&list).unwrap();
        store.remove(&list).unwrap();
        assert!(store.list(&list).unwrap().is_none());
        std::fs::remove_dir_all(folder).unwrap();
    }
}

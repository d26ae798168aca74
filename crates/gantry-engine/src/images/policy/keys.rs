//! Public keys as cosign writes them (PEM, SubjectPublicKeyInfo), and what they say of a signature.

use crate::error::{Error, Result};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256,
    UnparsedPublicKey, VerificationAlgorithm,
};
use spki::der::Decode;
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};
use std::path::{Path, PathBuf};

const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EDWARDS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A key, and the file that it is from.
pub(super) struct Key {
    pub(super) file: PathBuf,
    key: UnparsedPublicKey<Vec<u8>>,
}

impl Key {
    pub(super) fn read(file: &Path) -> Result<Self> {
        let refuse = |why: &str| {
            Error::system(format!(
                "{} is no public key of ECDSA (P-256, P-384), RSA or Ed25519 in PEM: {why}",
                file.display()
            ))
        };
        let text = std::fs::read(file).map_err(|e| {
            Error::caused(&format!("cannot read the public key {}", file.display()), e)
        })?;
        let document = rustls_pemfile::read_one_from_slice(&text);
        let Ok(Some((rustls_pemfile::Item::SubjectPublicKeyInfo(document), _))) = document else {
            return Err(refuse("there is no block PUBLIC KEY in it"));
        };
        let info = SubjectPublicKeyInfoRef::from_der(&document)
            .map_err(|error| refuse(&error.to_string()))?;
        let curve = info
            .algorithm
            .parameters
            .and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
        let algorithm: &'static dyn VerificationAlgorithm = match (info.algorithm.oid, curve) {
            (EC, Some(P256)) => &ECDSA_P256_SHA256_ASN1,
            (EC, Some(P384)) => &ECDSA_P384_SHA384_ASN1,
            (RSA, _) => &RSA_PKCS1_2048_8192_SHA256,
            (EDWARDS, _) => &ED25519,
            (other, _) => return Err(refuse(&format!("it is of the kind {other}"))),
        };
        Ok(Self {
            file: file.to_owned(),
            key: UnparsedPublicKey::new(algorithm, info.subject_public_key.raw_bytes().to_vec()),
        })
    }

    /// Whether this key made the signature.
    pub(super) fn signed(&self, payload: &[u8], signature: &[u8]) -> bool {
        self.key.verify(payload, signature).is_ok()
    }
}

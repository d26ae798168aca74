//! Manifests and indexes, OCI and Docker schema 2.

/// One document of the `manifests` endpoint of a registry or of an OCI layout.
#[derive(Clone, Debug)]
pub enum Manifest {
    Image(oci_spec::image::ImageManifest),
    Index(oci_spec::image::ImageIndex),
}

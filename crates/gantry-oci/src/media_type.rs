//! Media types of manifests, configurations and layers, OCI and Docker.

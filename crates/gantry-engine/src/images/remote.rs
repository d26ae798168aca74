//! What is asked of a registry without fetching an image: login, search, what a name stands for.

use super::{Images, credentials};
use crate::error::{Error, ErrorKind, Result};
use gantry_api::filter::{FilterError, Filters};
use gantry_api::registry::{Descriptor, DistributionInspect, Platform, SearchResult};
use gantry_api::system::{AuthConfig, AuthResponse};
use gantry_oci::Reference;
use gantry_registry::{Found, RegistryError};

/// `GET /images/search`
#[derive(Debug, Clone, Default)]
pub struct SearchRequest {
    /// With the registry's name before it, where it is not Docker Hub.
    pub term: String,
    /// 0: as many as are usual.
    pub limit: i64,
    pub filters: Filters,
    pub auth: Option<AuthConfig>,
}

impl Images {
    /// Shows credentials to a registry.
    pub async fn login(&self, auth: &AuthConfig) -> Result<AuthResponse> {
        let registry = &self.context.registry;
        let credentials = credentials(auth);
        let token = registry.login(&auth.serveraddress, &credentials).await;
        let token = token.map_err(|error| match error {
            RegistryError::Unauthorized(text) => Error::new(ErrorKind::Unauthorized, text),
            other => other.into(),
        })?;
        Ok(AuthResponse {
            identity_token: token.unwrap_or_default(),
            status: "Login Succeeded".to_owned(),
        })
    }

    /// Searches a registry.
    pub async fn search(&self, request: &SearchRequest) -> Result<Vec<SearchResult>> {
        let wanted = Wanted::of(&request.filters)?;
        if wanted.nothing {
            return Ok(Vec::new());
        }
        let credentials = request.auth.as_ref().map(credentials);
        let registry = &self.context.registry;
        let found = registry.search(&request.term, request.limit, credentials.as_ref());
        let found = found.await?.into_iter().filter(|found| wanted.fits(found));
        Ok(found
            .map(|found| SearchResult {
                star_count: found.stars,
                is_official: found.official,
                name: found.name,
                is_automated: false,
                description: found.description,
            })
            .collect())
    }

    /// What a name stands for in its registry.
    pub async fn distribution(
        &self,
        name: &str,
        auth: Option<&AuthConfig>,
    ) -> Result<DistributionInspect> {
        if is_id(name) {
            return Err(Error::system("no manifest found for full image ID"));
        }
        let reference = Reference::parse(name);
        let reference = reference.map_err(|error| Error::invalid(error.to_string()))?;
        let reference = reference.or_latest();
        let credentials = auth.map(credentials);
        let registry = &self.context.registry;
        let found = registry.inspect(&reference, credentials.as_ref());
        // COMPAT: unlike for a pull, the registry's status is ours.
        let found = found.await.map_err(|error| match error {
            RegistryError::Unauthorized(text) => Error::new(ErrorKind::Unauthorized, text),
            RegistryError::Denied(text) if text.starts_with("denied") => {
                Error::new(ErrorKind::Forbidden, text)
            }
            other => other.into(),
        })?;
        let platforms = found.platforms.into_iter().map(|platform| Platform {
            architecture: platform.architecture,
            os: platform.os,
            os_version: platform.os_version,
            os_features: platform.os_features,
            variant: platform.variant,
        });
        let platforms: Vec<Platform> = platforms.collect();
        Ok(DistributionInspect {
            descriptor: Descriptor {
                media_type: found.media_type,
                digest: found.digest.to_string(),
                size: found.size,
            },
            platforms: Some(platforms).filter(|platforms| !platforms.is_empty()),
        })
    }
}

/// Whether a name is an image's whole ID, with or without its algorithm.
fn is_id(name: &str) -> bool {
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    digits.len() == 64
        && digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The filters of a search.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    /// What is asked for does not exist any more.
    nothing: bool,
    official: Option<bool>,
    stars: Option<i64>,
}

impl Wanted {
    fn of(filters: &Filters) -> Result<Self> {
        let refused = |error: FilterError| Error::invalid(error.0);
        filters
            .validate(&["is-automated", "is-official", "stars"])
            .map_err(refused)?;
        // COMPAT: Docker Hub does not tell automated builds any more: asked for, none are found.
        let nothing = filters.boolean("is-automated", false).map_err(refused)?;
        let official = filters.boolean("is-official", false).map_err(refused)?;
        let mut stars = filters.contains("stars").then_some(0);
        for text in filters.get("stars").filter(|_| !nothing) {
            let count: i64 = text.parse().map_err(|_| {
                Error::invalid(format!(
                    "invalid filter 'stars={text}': strconv.Atoi: parsing {text:?}: invalid syntax"
                ))
            })?;
            stars = stars.max(Some(count));
        }
        Ok(Self {
            nothing,
            official: filters.contains("is-official").then_some(official),
            stars,
        })
    }

    fn fits(&self, found: &Found) -> bool {
        self.official
            .is_none_or(|official| official == found.official)
            && self.stars.is_none_or(|stars| found.stars >= stars)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(text: &str) -> Result<Wanted> {
        Wanted::of(&Filters::parse(text).unwrap())
    }

    #[test]
    fn filters_of_a_search() {
        let found = |stars, official| Found {
            stars,
            official,
            ..Found::default()
        };
        let all = wanted("").unwrap();
        assert!(all.fits(&found(0, false)) && all.fits(&found(9, true)));
        let some = wanted(r#"{"stars":["3","5"],"is-official":["true"]}"#).unwrap();
        assert!(some.fits(&found(5, true)));
        assert!(!some.fits(&found(4, true)) && !some.fits(&found(5, false)));
        let others = wanted(r#"{"is-official":["0"],"is-automated":["false"]}"#).unwrap();
        assert!(others.fits(&found(0, false)) && !others.fits(&found(0, true)));
        assert!(wanted(r#"{"is-automated":["true"]}"#).unwrap().nothing);
        let refused = |text: &str| wanted(text).unwrap_err().message;
        assert_eq!(
            refused(r#"{"stars":["a"]}"#),
            "invalid filter 'stars=a': strconv.Atoi: parsing \"a\": invalid syntax"
        );
        assert_eq!(refused(r#"{"name":["a"]}"#), "invalid filter 'name'");
        assert_eq!(
            refused(r#"{"is-official":["maybe"]}"#),
            "invalid filter 'is-official=[maybe]'"
        );
    }

    #[test]
    fn ids() {
        let id = "0123456789abcdef".repeat(4);
        assert!(is_id(&id) && is_id(&format!("sha256:{id}")));
        assert!(!is_id("busybox") && !is_id(&format!("busybox@sha256:{id}")));
    }
}

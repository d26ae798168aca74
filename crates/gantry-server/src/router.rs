//! Which handler answers a path.
//!
//! A pattern is a path with names in braces: `{id}` stands for one segment, `{name..}` for one or more (image
//! and linked containers' names have slashes). The first route that matches wins.

use crate::call::Call;
use crate::error::Result;
use crate::query;
use crate::reply::Reply;
use futures_util::future::BoxFuture;
use http::Method;

type Handler<S> = Box<dyn Fn(Call<S>) -> BoxFuture<'static, Result<Reply>> + Send + Sync>;

/// One method and path, and what answers it.
pub(crate) struct Route<S> {
    method: Method,
    pattern: &'static str,
    pub(crate) handler: Handler<S>,
    /// Only the client waits for the answer: it is dropped when the client goes away or the server stops.
    pub(crate) for_client: bool,
}

/// A route.
pub(crate) fn route<S, F, A, R>(method: Method, pattern: &'static str, handler: F) -> Route<S>
where
    F: Fn(Call<S>) -> A + Send + Sync + 'static,
    A: Future<Output = Result<R>> + Send + 'static,
    R: Into<Reply>,
{
    Route {
        method,
        pattern,
        handler: Box::new(move |call| {
            let answer = handler(call);
            Box::pin(async move { answer.await.map(Into::into) })
        }),
        for_client: false,
    }
}

impl<S> Route<S> {
    /// Marks an answer that only the client waits for.
    pub(crate) fn for_client(mut self) -> Self {
        self.for_client = true;
        self
    }
}

/// The values of a pattern's names.
#[derive(Debug, Default, Clone)]
pub(crate) struct Parameters(Vec<(&'static str, String)>);

impl Parameters {
    /// The value of a name that the route's pattern has.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.as_str())
            .unwrap_or_default()
    }
}

/// All routes.
pub(crate) struct Router<S> {
    routes: Vec<Route<S>>,
}

impl<S> Router<S> {
    pub(crate) fn new(routes: Vec<Route<S>>) -> Self {
        Self { routes }
    }

    /// The route of a path (without its version), still percent-encoded.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Option<(&Route<S>, Parameters)> {
        let path = query::decode(path, false);
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        self.routes
            .iter()
            .filter(|route| route.method == *method)
            .find_map(|route| Some((route, matched(route.pattern, &segments)?)))
    }
}

/// The values of the pattern's names, where the path matches. At most one name stands for several segments.
fn matched(pattern: &'static str, segments: &[&str]) -> Option<Parameters> {
    let parts = pattern.strip_prefix('/')?.split('/');
    let count = parts.clone().count();
    let mut values = Vec::new();
    let mut rest = segments;
    for part in parts {
        let Some(name) = part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) else {
            if rest.first() != Some(&part) {
                return None;
            }
            rest = &rest[1..];
            continue;
        };
        let (name, taken) = match name.strip_suffix("..") {
            Some(name) => (name, (segments.len() + 1).checked_sub(count)?),
            None => (name, 1),
        };
        let value = rest.get(..taken)?.join("/");
        if value.is_empty() {
            return None;
        }
        values.push((name, value));
        rest = &rest[taken..];
    }
    rest.is_empty().then_some(Parameters(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pattern: &'static str, path: &str) -> Option<Vec<String>> {
        let segments: Vec<&str> = path.strip_prefix('/').unwrap().split('/').collect();
        matched(pattern, &segments).map(|p| p.0.into_iter().map(|(_, v)| v).collect())
    }

    #[test]
    fn patterns() {
        assert_eq!(names("/version", "/version"), Some(vec![]));
        assert_eq!(names("/version", "/version/"), None);
        assert_eq!(names("/version", "/versions"), None);
        assert_eq!(
            names("/containers/{id}/json", "/containers/a/json"),
            Some(vec!["a".into()])
        );
        assert_eq!(names("/containers/{id}/json", "/containers//json"), None);
        assert_eq!(names("/containers/{id}/json", "/containers/a/b/json"), None);
        assert_eq!(
            names("/images/{name..}/json", "/images/127.0.0.1:1/a/b/json"),
            Some(vec!["127.0.0.1:1/a/b".into()])
        );
        assert_eq!(
            names("/images/{name..}/json", "/images/a/json"),
            Some(vec!["a".into()])
        );
        assert_eq!(names("/images/{name..}/json", "/images/json"), None);
        assert_eq!(names("/images/{name..}", "/images"), None);
        assert_eq!(
            names("/images/{name..}", "/images/a/b"),
            Some(vec!["a/b".into()])
        );
    }
}

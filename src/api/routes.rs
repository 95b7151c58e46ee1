//! The table of routes: their operations, and what `Allow` and the access log say of them.
//!
//! Must contain only the templates of this service, never a path from a request.

use std::collections::HashMap;

use poem::endpoint::BoxEndpoint;
use poem::http::{HeaderValue, Method};
use poem_openapi::OpenApi;

/// The routes of health probes, which are exempt from load shedding.
pub(super) const PROBES: [&str; 2] = ["/livez", "/readyz"];

/// The routes by path template.
#[derive(Default)]
pub struct RouteTable {
    routes: Vec<Route>,
    /// The routes whose template is their path.
    by_path: HashMap<String, usize>,
}

/// A path template, its methods, and the operations that need no other router.
struct Route {
    /// Lives as long as the process, as what metrics say of it does.
    template: &'static str,
    methods: Vec<Method>,
    operations: Vec<(Method, BoxEndpoint<'static>)>,
}

impl RouteTable {
    /// Creates the table of the paths and methods of APIs.
    pub fn of<T: OpenApi>() -> Self {
        let mut table = Self::default();
        for path in T::meta().into_iter().flat_map(|api| api.paths) {
            let methods: Vec<_> = path.operations.into_iter().map(|operation| operation.method).collect();
            table.add(&path.path, &methods);
        }
        table
    }

    /// Adds a path.
    pub fn add(&mut self, path: &str, methods: &[Method]) {
        if !path.contains('{') {
            self.by_path.insert(path.to_owned(), self.routes.len());
        }
        let template = path.to_owned().leak();
        let route = Route { template, methods: methods.to_vec(), operations: Vec::new() };
        self.routes.push(route);
    }

    /// Adds the operations of an API to its routes, which are in the table.
    pub fn add_operations(&mut self, api: impl OpenApi) {
        let mut operations = HashMap::new();
        api.add_routes(&mut operations);
        for (path, operations) in operations {
            // The framework's router has `:id` where the document has `{id}`.
            let segments = path.split('/').map(|segment| match segment.strip_prefix(':') {
                Some(name) => format!("{{{name}}}"),
                None => segment.to_owned(),
            });
            let template = segments.collect::<Vec<_>>().join("/");
            let route = self.routes.iter_mut().find(|route| route.template == template);
            if let Some(route) = route {
                route.operations = operations.into_iter().collect();
            }
        }
    }

    /// Returns the template that a path matches.
    pub fn template(&self, path: &str) -> Option<&'static str> {
        self.find(path).map(|route| route.template)
    }

    /// Returns the operation for a method of a path without a trailing slash.
    pub fn operation(&self, method: &Method, path: &str) -> Option<&BoxEndpoint<'static>> {
        let operations = &self.find_exactly(path)?.operations;
        operations.iter().find(|(other, _)| other == method).map(|(_, operation)| operation)
    }

    /// Finds the route that a path matches; a trailing slash makes no difference.
    fn find(&self, path: &str) -> Option<&Route> {
        self.find_exactly(without_slash(path).unwrap_or(path))
    }

    fn find_exactly(&self, path: &str) -> Option<&Route> {
        if let Some(at) = self.by_path.get(path) {
            return self.routes.get(*at);
        }
        self.routes.iter().filter(|route| route.template.contains('{')).find(|route| {
            let ours = route.template.split('/');
            let theirs = path.split('/');
            ours.clone().count() == theirs.clone().count()
                && ours
                    .zip(theirs)
                    .all(|(ours, theirs)| ours == theirs || (ours.starts_with('{') && !theirs.is_empty()))
        })
    }

    /// Returns the value of `Allow` for a path. GET implies HEAD.
    pub fn allow(&self, path: &str) -> Option<HeaderValue> {
        let methods = &self.find(path)?.methods;
        let mut names: Vec<_> = methods.iter().map(Method::as_str).collect();
        if methods.contains(&Method::GET) {
            names.push("HEAD");
        }
        names.sort_unstable();
        HeaderValue::from_str(&names.join(", ")).ok()
    }
}

/// Returns the path without its trailing slash, if it has exactly one and is not `/`.
pub(super) fn without_slash(path: &str) -> Option<&str> {
    path.strip_suffix('/').filter(|shorter| !shorter.is_empty() && !shorter.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allow_names_the_methods_of_the_path() {
        let mut table = RouteTable::default();
        table.add("/a/{id}", &[Method::GET, Method::DELETE]);
        table.add("/b", &[Method::POST]);
        table.add("/docs", &[Method::GET]);
        assert_eq!(table.allow("/a/x").unwrap(), "DELETE, GET, HEAD");
        assert_eq!(table.allow("/b").unwrap(), "POST");
        assert_eq!(table.allow("/docs").unwrap(), "GET, HEAD");
        assert!(table.allow("/a").is_none() && table.allow("/a/x/y").is_none());
        assert_eq!(table.template("/a/secret"), Some("/a/{id}"));
        assert_eq!(table.template("/a/secret/"), Some("/a/{id}"));
        assert_eq!(table.allow("/b/").unwrap(), "POST");
        for other in ["/a/", "/a//", "/b//", "//b", "//"] {
            assert!(table.template(other).is_none(), "{other}");
        }
    }
}

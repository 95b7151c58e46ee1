//! The table of routes, for `Allow` and for the access log.
//!
//! Must contain only the templates of this service, never a path from a request.

use poem::http::{HeaderValue, Method};

/// The routes of health probes, which are exempt from load shedding.
pub(super) const PROBES: [&str; 2] = ["/livez", "/readyz"];

/// The methods of each path template.
#[derive(Debug, Default)]
pub struct RouteTable(Vec<(String, Vec<Method>)>);

impl RouteTable {
    /// Reads the paths and methods of the service's OpenAPI document.
    pub fn of_spec(spec: &str) -> Self {
        let document: serde_json::Value = serde_json::from_str(spec).unwrap_or_default();
        let mut table = Self::default();
        for (path, operations) in
            document.get("paths").and_then(|paths| paths.as_object()).into_iter().flatten()
        {
            let names = operations.as_object().into_iter().flat_map(|operations| operations.keys());
            let methods = names.filter_map(|name| name.to_uppercase().parse().ok()).collect();
            table.0.push((path.clone(), methods));
        }
        table
    }

    /// Adds a path that is not in the document.
    pub fn add(&mut self, path: &str, methods: &[Method]) {
        self.0.push((path.to_owned(), methods.to_vec()));
    }

    /// Returns the template that a path matches.
    pub fn template(&self, path: &str) -> Option<&str> {
        self.find(path).map(|(template, _)| template.as_str())
    }

    /// Finds the entry that a path matches; a trailing slash makes no difference.
    fn find(&self, path: &str) -> Option<&(String, Vec<Method>)> {
        let path = without_slash(path).unwrap_or(path);
        self.0.iter().find(|(template, _)| {
            let ours = template.split('/');
            let theirs = path.split('/');
            ours.clone().count() == theirs.clone().count()
                && ours
                    .zip(theirs)
                    .all(|(ours, theirs)| ours == theirs || (ours.starts_with('{') && !theirs.is_empty()))
        })
    }

    /// Returns the value of `Allow` for a path. GET implies HEAD.
    pub fn allow(&self, path: &str) -> Option<HeaderValue> {
        let (_, methods) = self.find(path)?;
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
        let mut table =
            RouteTable::of_spec(r#"{"paths":{"/a/{id}":{"get":{},"delete":{}},"/b":{"post":{}}}}"#);
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

//! What a request asks for: paths and queries in the server's own words.

use std::fmt;

use bytes::Bytes;
use http::Method;

/// What is done.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Reads one object (or discovery).
    Get,
    /// Reads many.
    List,
    /// Follows many.
    Watch,
    /// Makes one.
    Create,
    /// Replaces one.
    Update,
    /// Changes one.
    Patch,
    /// Removes one.
    Delete,
    /// Removes many.
    DeleteCollection,
}

impl Verb {
    /// As authorization and audit logs have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a request asks for, as faults, access rules and records see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What is done.
    pub verb: Verb,
    /// Group of the resource; empty for the core group.
    pub group: String,
    /// Version of the group.
    pub version: String,
    /// The resource, `pods`; for discovery the path.
    pub resource: String,
    /// `status`, `eviction` …; empty for the object itself.
    pub subresource: String,
    /// The namespace; empty for all of them or none.
    pub namespace: String,
    /// The object's name; empty where many are meant or the name is in the body.
    pub name: String,
}

impl Asked {
    /// `pods` or `pods/status`.
    pub fn resource_path(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// Whether it is about a resource and not about discovery.
    pub(crate) fn is_resource(&self) -> bool {
        !self.version.is_empty()
    }

    pub(crate) fn group_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Reads method, path and query. Nothing if the method has no meaning there.
    pub(crate) fn read(method: &Method, path: &str, is_watch: bool) -> Option<Asked> {
        let mut parts = path.trim_start_matches('/').split('/').filter(|part| !part.is_empty());
        let (group, version) = match (parts.next(), path) {
            (Some("api"), _) => (Some(""), parts.next()),
            (Some("apis"), _) => (parts.next(), parts.next()),
            _ => (None, None),
        };
        let rest: Vec<&str> = parts.collect();
        let (Some(group), Some(version), false) = (group, version, rest.is_empty()) else {
            return (*method == Method::GET).then(|| Asked::discovery(path));
        };
        let (namespace, rest) = match rest.as_slice() {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() && !matches!(rest, ["status" | "finalize"]) => {
                (*namespace, rest)
            }
            rest => ("", rest),
        };
        let (resource, name, subresource) = match rest {
            [resource] => (*resource, "", ""),
            [resource, name] => (*resource, *name, ""),
            [resource, name, subresource] => (*resource, *name, *subresource),
            _ => return None,
        };
        let verb = match (method, name.is_empty()) {
            (&Method::GET, true) if is_watch => Verb::Watch,
            (&Method::GET, true) => Verb::List,
            (&Method::GET, false) => Verb::Get,
            (&Method::POST, _) => Verb::Create,
            (&Method::PUT, false) => Verb::Update,
            (&Method::PATCH, false) => Verb::Patch,
            (&Method::DELETE, false) => Verb::Delete,
            (&Method::DELETE, true) => Verb::DeleteCollection,
            _ => return None,
        };
        let own = str::to_owned;
        Some(Asked {
            verb,
            group: own(group),
            version: own(version),
            resource: own(resource),
            subresource: own(subresource),
            namespace: own(namespace),
            name: own(name),
        })
    }

    fn discovery(path: &str) -> Asked {
        Asked {
            verb: Verb::Get,
            group: String::new(),
            version: String::new(),
            resource: path.to_owned(),
            subresource: String::new(),
            namespace: String::new(),
            name: String::new(),
        }
    }
}

/// The query of a request, as far as it means something here.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Query {
    pub(crate) is_watch: bool,
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
    pub(crate) resource_version: String,
    pub(crate) resource_version_match: String,
    pub(crate) limit: Option<usize>,
    pub(crate) continue_token: String,
    pub(crate) has_bookmarks: bool,
    pub(crate) sends_initial_events: Option<bool>,
    pub(crate) timeout_s: Option<u64>,
    pub(crate) is_dry_run: bool,
    pub(crate) propagation_policy: Option<String>,
    pub(crate) grace_period_s: Option<i64>,
}

impl Query {
    pub(crate) fn read(text: &str) -> Query {
        let mut query = Query::default();
        let is_true = |value: &str| value == "true" || value == "1";
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            let value = value.into_owned();
            match name.as_ref() {
                "watch" => query.is_watch = is_true(&value),
                "labelSelector" => query.label_selector = value,
                "fieldSelector" => query.field_selector = value,
                "resourceVersion" => query.resource_version = value,
                "resourceVersionMatch" => query.resource_version_match = value,
                // 0 means no limit.
                "limit" => query.limit = value.parse().ok().filter(|limit| *limit > 0),
                "continue" => query.continue_token = value,
                "allowWatchBookmarks" => query.has_bookmarks = is_true(&value),
                "sendInitialEvents" => query.sends_initial_events = Some(is_true(&value)),
                "timeoutSeconds" => query.timeout_s = value.parse().ok().filter(|timeout| *timeout > 0),
                "dryRun" => query.is_dry_run = value == "All",
                "propagationPolicy" => query.propagation_policy = Some(value),
                "gracePeriodSeconds" => query.grace_period_s = value.parse().ok(),
                _ => {}
            }
        }
        query
    }
}

/// A whole request.
pub(crate) struct Call {
    pub(crate) asked: Asked,
    pub(crate) query: Query,
    pub(crate) content_type: String,
    pub(crate) accept: String,
    pub(crate) body: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &Method, path: &str) -> (Verb, String, String, String, String) {
        let asked = Asked::read(method, path, false).unwrap();
        (asked.verb, asked.group_version(), asked.namespace.clone(), asked.resource_path(), asked.name)
    }

    #[test]
    fn paths() {
        let expect = |verb, parts: [&str; 4]| {
            let [gv, namespace, resource, name] = parts.map(str::to_owned);
            (verb, gv, namespace, resource, name)
        };
        assert_eq!(read(&Method::GET, "/api/v1/pods"), expect(Verb::List, ["v1", "", "pods", ""]));
        assert_eq!(read(&Method::GET, "/api/v1/namespaces/a"), expect(Verb::Get, ["v1", "", "namespaces", "a"]));
        assert_eq!(
            read(&Method::PUT, "/api/v1/namespaces/a/finalize"),
            expect(Verb::Update, ["v1", "", "namespaces/finalize", "a"])
        );
        assert_eq!(
            read(&Method::PATCH, "/apis/ray.io/v1/namespaces/n/rayclusters/a/status"),
            expect(Verb::Patch, ["ray.io/v1", "n", "rayclusters/status", "a"])
        );
        assert_eq!(
            read(&Method::DELETE, "/api/v1/namespaces/n/pods"),
            expect(Verb::DeleteCollection, ["v1", "n", "pods", ""])
        );
        assert!(!Asked::read(&Method::GET, "/apis/ray.io/v1", false).unwrap().is_resource());
        assert_eq!(Asked::read(&Method::PUT, "/api/v1/pods", false), None);
        assert_eq!(Asked::read(&Method::GET, "/api/v1/namespaces/a/pods/b/c/d", false), None);
    }

    #[test]
    fn queries() {
        let query = Query::read("&watch=true&labelSelector=a%3Db%2Cc&timeoutSeconds=290&limit=0&dryRun=All");
        assert!(query.is_watch && query.is_dry_run);
        assert_eq!((query.label_selector.as_str(), query.timeout_s, query.limit), ("a=b,c", Some(290), None));
    }
}

//! gateway.networking.k8s.io `HTTPRoute`, attached to a Service.

use serde::Deserialize;

use super::common::{Checker, Port, TimeSpan};

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteSpec {
    #[serde(default)]
    pub parent_refs: Vec<ParentRef>,
    #[serde(default = "one_default_rule")]
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    pub group: Option<String>,
    pub kind: Option<String>,
    pub name: String,
    pub namespace: Option<String>,
    /// Only this port of the Service.
    pub port: Option<Port>,
    pub section_name: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    pub name: Option<String>,
    /// Any of them; none at all matches everything.
    #[serde(default)]
    pub matches: Vec<Match>,
    #[serde(default)]
    pub filters: Vec<Filter>,
    #[serde(default)]
    pub backend_refs: Vec<BackendRef>,
    #[serde(default)]
    pub timeouts: Timeouts,
}

/// All conditions hold.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    #[serde(default)]
    pub path: PathMatch,
    #[serde(default)]
    pub headers: Vec<NamedMatch>,
    #[serde(default)]
    pub query_params: Vec<NamedMatch>,
    pub method: Option<Method>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PathMatch {
    #[serde(default, rename = "type")]
    pub kind: PathKind,
    #[serde(default = "root")]
    pub value: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum PathKind {
    Exact,
    #[default]
    PathPrefix,
    RegularExpression,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct NamedMatch {
    #[serde(default, rename = "type")]
    pub kind: ValueKind,
    pub name: String,
    pub value: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum ValueKind {
    #[default]
    Exact,
    RegularExpression,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendRef {
    pub group: Option<String>,
    pub kind: Option<String>,
    pub name: String,
    pub namespace: Option<String>,
    pub port: Option<Port>,
    #[serde(default = "one")]
    pub weight: u32,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    #[serde(rename = "type")]
    pub kind: FilterKind,
    pub request_header_modifier: Option<HeaderModifier>,
    pub response_header_modifier: Option<HeaderModifier>,
    pub request_redirect: Option<Redirect>,
    pub url_rewrite: Option<UrlRewrite>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum FilterKind {
    RequestHeaderModifier,
    ResponseHeaderModifier,
    RequestRedirect,
    #[serde(rename = "URLRewrite")]
    UrlRewrite,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct HeaderModifier {
    #[serde(default)]
    pub set: Vec<Header>,
    #[serde(default)]
    pub add: Vec<Header>,
    #[serde(default)]
    pub remove: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Header {
    pub name: String,
    pub value: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Redirect {
    pub scheme: Option<Scheme>,
    pub hostname: Option<String>,
    pub path: Option<PathModifier>,
    pub port: Option<Port>,
    pub status_code: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    Http,
    Https,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct UrlRewrite {
    pub hostname: Option<String>,
    pub path: Option<PathModifier>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathModifier {
    #[serde(rename = "type")]
    pub kind: PathModifierKind,
    pub replace_full_path: Option<String>,
    pub replace_prefix_match: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum PathModifierKind {
    ReplaceFullPath,
    ReplacePrefixMatch,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// Zero means none.
    pub request: Option<TimeSpan>,
    pub backend_request: Option<TimeSpan>,
}

impl Default for PathMatch {
    fn default() -> Self {
        Self { kind: PathKind::PathPrefix, value: root() }
    }
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
        }
    }
}

fn root() -> String {
    "/".into()
}

fn one() -> u32 {
    1
}

fn one_default_rule() -> Vec<Rule> {
    vec![Rule::default()]
}

impl HttpRouteSpec {
    pub(crate) fn check(&self, namespace: &str, check: &mut Checker) {
        check.require(!self.parent_refs.is_empty(), "spec.parentRefs", "an HTTPRoute needs a parent to attach to");
        for (index, parent) in self.parent_refs.iter().enumerate() {
            let path = format!("spec.parentRefs[{index}]");
            check_service_ref(&path, &parent.group, parent.kind.as_deref(), "Gateway", check);
            let own = parent.namespace.as_deref().is_none_or(|name| name == namespace);
            let message = "routes for another namespace's Service are not implemented; write it in that namespace";
            check.require(own, format!("{path}.namespace"), message);
            let wanted = "is not implemented; name the port by number in `port`";
            check.require(parent.section_name.is_none(), format!("{path}.sectionName"), wanted);
        }
        for (index, rule) in self.rules.iter().enumerate() {
            rule.check(&format!("spec.rules[{index}]"), namespace, check);
        }
    }
}

/// Only core Services can be meant; what is left out defaults to `default_kind`.
fn check_service_ref(path: &str, group: &Option<String>, kind: Option<&str>, default_kind: &str, check: &mut Checker) {
    let group = group.as_deref().unwrap_or(if default_kind == "Service" { "" } else { "gateway.networking.k8s.io" });
    match (group, kind.unwrap_or(default_kind)) {
        ("" | "core", "Service") => {}
        (_, "Service") => check.wrong(format!("{path}.group"), "a Service is of the group \"\"; write group: \"\""),
        (_, kind) => check.wrong(format!("{path}.kind"), format!("{kind} is not implemented; write kind: Service")),
    }
}

impl Rule {
    fn check(&self, path: &str, namespace: &str, check: &mut Checker) {
        for (index, matched) in self.matches.iter().enumerate() {
            matched.check(&format!("{path}.matches[{index}]"), check);
        }
        for (index, filter) in self.filters.iter().enumerate() {
            filter.check(&format!("{path}.filters[{index}]"), check);
        }
        let filters = self.filters.iter().enumerate();
        let kinds: Vec<_> =
            filters.map(|(i, f)| (format!("{path}.filters[{i}].type"), format!("{:?}", f.kind))).collect();
        check.unique(&kinds, "the filter");
        let redirects = self.filters.iter().any(|filter| filter.kind == FilterKind::RequestRedirect);
        if redirects && !self.backend_refs.is_empty() {
            check.wrong(format!("{path}.backendRefs"), "cannot stand beside a RequestRedirect");
        }
        if redirects && self.filters.iter().any(|filter| filter.kind == FilterKind::UrlRewrite) {
            check.wrong(format!("{path}.filters"), "RequestRedirect and URLRewrite exclude each other");
        }
        self.check_prefix_rewrites(path, check);
        for (index, backend) in self.backend_refs.iter().enumerate() {
            let path = format!("{path}.backendRefs[{index}]");
            check_service_ref(&path, &backend.group, backend.kind.as_deref(), "Service", check);
            let own = backend.namespace.as_deref().is_none_or(|name| name == namespace);
            let message = "another namespace needs a ReferenceGrant, which is not implemented";
            check.require(own, format!("{path}.namespace"), message);
            check.require(backend.port.is_some(), format!("{path}.port"), "is required for a Service");
            check.require(backend.weight <= 1_000_000, format!("{path}.weight"), "is at most 1000000");
        }
        if let (Some(whole), Some(each)) = (self.timeouts.request, self.timeouts.backend_request) {
            let fits = whole.0.is_zero() || each.0 <= whole.0;
            check.require(fits, format!("{path}.timeouts.backendRequest"), "cannot be longer than `request`");
        }
    }

    fn check_prefix_rewrites(&self, path: &str, check: &mut Checker) {
        let prefixes = !self.matches.is_empty() && self.matches.iter().all(|m| m.path.kind == PathKind::PathPrefix);
        let replaces = |modifier: &Option<PathModifier>| {
            modifier.as_ref().is_some_and(|modifier| modifier.kind == PathModifierKind::ReplacePrefixMatch)
        };
        for (index, filter) in self.filters.iter().enumerate() {
            let redirect = filter.request_redirect.as_ref().is_some_and(|f| replaces(&f.path));
            let rewrite = filter.url_rewrite.as_ref().is_some_and(|f| replaces(&f.path));
            if (redirect || rewrite) && !prefixes {
                let message = "ReplacePrefixMatch needs a match of type PathPrefix, and only such";
                check.wrong(format!("{path}.filters[{index}]"), message);
            }
        }
    }
}

impl Match {
    fn check(&self, path: &str, check: &mut Checker) {
        let value = format!("{path}.path.value");
        match self.path.kind {
            PathKind::RegularExpression => check_regex(&self.path.value, value, check),
            _ => {
                let fits = self.path.value.starts_with('/') && !self.path.value.contains("//");
                check.require(fits, value, format!("{:?} must start with / and hold no //", self.path.value));
            }
        }
        for (field, list) in [("headers", &self.headers), ("queryParams", &self.query_params)] {
            for (index, named) in list.iter().enumerate() {
                let path = format!("{path}.{field}[{index}]");
                check.require(!named.name.is_empty(), format!("{path}.name"), "is empty");
                if named.kind == ValueKind::RegularExpression {
                    check_regex(&named.value, format!("{path}.value"), check);
                }
            }
        }
    }
}

fn check_regex(pattern: &str, path: String, check: &mut Checker) {
    if let Err(error) = regex::Regex::new(pattern) {
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        check.wrong(path, format!("{pattern:?} is not a regular expression: {reason}"));
    }
}

impl Filter {
    fn check(&self, path: &str, check: &mut Checker) {
        let bodies = [
            (FilterKind::RequestHeaderModifier, "requestHeaderModifier", self.request_header_modifier.is_some()),
            (FilterKind::ResponseHeaderModifier, "responseHeaderModifier", self.response_header_modifier.is_some()),
            (FilterKind::RequestRedirect, "requestRedirect", self.request_redirect.is_some()),
            (FilterKind::UrlRewrite, "urlRewrite", self.url_rewrite.is_some()),
        ];
        for (kind, field, present) in bodies {
            if kind == self.kind {
                check.require(present, format!("{path}.{field}"), "is required by the filter's type");
            } else {
                check.require(!present, format!("{path}.{field}"), "does not belong to the filter's type");
            }
        }
        if let Some(redirect) = &self.request_redirect {
            let fits = redirect.status_code.is_none_or(|code| [301, 302, 303, 307, 308].contains(&code));
            let path = format!("{path}.requestRedirect");
            check.require(fits, format!("{path}.statusCode"), "must be 301, 302, 303, 307 or 308");
            check_path_modifier(&redirect.path, &path, check);
        }
        if let Some(rewrite) = &self.url_rewrite {
            check_path_modifier(&rewrite.path, &format!("{path}.urlRewrite"), check);
        }
    }
}

fn check_path_modifier(modifier: &Option<PathModifier>, path: &str, check: &mut Checker) {
    let Some(modifier) = modifier else { return };
    let (full, prefix) = (modifier.replace_full_path.is_some(), modifier.replace_prefix_match.is_some());
    let (fits, field) = match modifier.kind {
        PathModifierKind::ReplaceFullPath => (full && !prefix, "replaceFullPath"),
        PathModifierKind::ReplacePrefixMatch => (prefix && !full, "replacePrefixMatch"),
    };
    check.require(fits, format!("{path}.path"), format!("this type needs `{field}` and nothing else"));
}

//! The name of a workload: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.

use std::fmt;
use std::str::FromStr;

/// A checked SPIFFE ID. Mesh workloads use Istio's path layout; other layouts are valid IDs without a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId(::spiffe::SpiffeId);

#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a SPIFFE ID: {reason}; it should look like spiffe://cluster.local/ns/default/sa/web")]
pub struct SpiffeIdError {
    text: String,
    reason: String,
}

impl SpiffeId {
    pub fn parse(text: &str) -> Result<Self, SpiffeIdError> {
        ::spiffe::SpiffeId::new(text)
            .map(Self)
            .map_err(|e| SpiffeIdError { text: text.to_owned(), reason: e.to_string() })
    }

    pub fn workload(trust_domain: &str, namespace: &str, service_account: &str) -> Result<Self, SpiffeIdError> {
        // A slash would quietly make another identity of the same text.
        let text = format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}");
        for part in [trust_domain, namespace, service_account] {
            if part.is_empty() || part.contains('/') {
                return Err(SpiffeIdError { text, reason: format!("{part:?} is not one path segment") });
            }
        }
        Self::parse(&text)
    }

    pub fn trust_domain(&self) -> &str {
        self.0.trust_domain_name()
    }

    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// Namespace and service account, when the path is laid out as the mesh does it.
    pub fn namespace_and_account(&self) -> Option<(&str, &str)> {
        let mut parts = self.path().strip_prefix("/ns/")?.split('/');
        match (parts.next()?, parts.next()?, parts.next()?, parts.next()) {
            (namespace, "sa", account, None) => Some((namespace, account)),
            _ => None,
        }
    }

    pub fn namespace(&self) -> Option<&str> {
        self.namespace_and_account().map(|(namespace, _)| namespace)
    }

    pub fn service_account(&self) -> Option<&str> {
        self.namespace_and_account().map(|(_, account)| account)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workload_ids_round_trip() {
        let id = SpiffeId::workload("cluster.local", "shop", "web").unwrap();
        assert_eq!(id.to_string(), "spiffe://cluster.local/ns/shop/sa/web");
        assert_eq!(SpiffeId::parse(&id.to_string()).unwrap(), id);
        assert_eq!(id.trust_domain(), "cluster.local");
        assert_eq!(id.namespace_and_account(), Some(("shop", "web")));
    }

    #[test]
    fn other_layouts_have_no_namespace() {
        for text in ["spiffe://td", "spiffe://td/web", "spiffe://td/ns/a", "spiffe://td/ns/a/sa/b/c"] {
            assert_eq!(SpiffeId::parse(text).unwrap().namespace(), None, "{text}");
        }
    }

    #[test]
    fn malformed_ids_are_refused_with_the_text() {
        for text in
            ["", "web", "https://td/ns/a/sa/b", "spiffe://", "spiffe://t!d/x", "spiffe://td/a//b", "spiffe://td/x?y"]
        {
            let error = SpiffeId::parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
        assert!(SpiffeId::workload("td", "a/sa/root", "b").is_err());
        assert!(SpiffeId::workload("td", "", "b").is_err());
    }
}

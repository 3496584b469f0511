//! networking.istio.io `WorkloadEntry`: one process, where it listens and who it is.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use super::common::{Checker, Port};

/// Istio's label on an endpoint that speaks mesh mTLS.
pub const TLS_MODE_LABEL: &str = "security.istio.io/tlsMode";
/// Its value there.
pub const TLS_MODE_ISTIO: &str = "istio";

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadEntrySpec {
    pub address: String,
    /// Port numbers by the names that Services use.
    #[serde(default)]
    pub ports: BTreeMap<String, Port>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub service_account: Option<String>,
    pub weight: Option<u32>,
    /// `region/zone/subzone`.
    pub locality: Option<String>,
}

impl WorkloadEntrySpec {
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.parse().ok()
    }

    pub fn service_account(&self) -> &str {
        self.service_account.as_deref().unwrap_or("default")
    }

    pub(crate) fn check(&self, path: &str, host_names: bool, check: &mut Checker) {
        let address = format!("{path}.address");
        if self.address.starts_with("unix:") {
            check.wrong(address, "Unix sockets are not implemented; write an IP address");
        } else if self.ip().is_none() && !host_names {
            check.wrong(address, format!("{:?} is not an IP address", self.address));
        } else if self.address.is_empty() {
            check.wrong(address, "is empty");
        }
        if let Some(account) = &self.service_account {
            let fits = !account.is_empty() && account.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
            check.require(fits, format!("{path}.serviceAccount"), format!("{account:?} cannot be part of a SPIFFE ID"));
        }
    }
}

//! Hash policies of routes (`RouteAction.hash_policy`).

use super::super::header::header_name;
use super::super::{Result, duration, matcher, not_empty};
use crate::pb::envoy::config::route::v3::route_action::{HashPolicy as PbHashPolicy, hash_policy};
use crate::problem::{At, gather};
use hash_policy::PolicySpecifier;
use model::balance::{CookieHash, HashBy, HashPolicy};

pub(in super::super) fn policies(at: &At<'_>, pb: &[PbHashPolicy]) -> Result<Vec<HashPolicy>> {
    let policies = pb.iter().enumerate().map(|(index, one)| policy(&at.item("hash_policy", index), one));
    Ok(gather(policies)?.into_iter().flatten().collect())
}

/// `None`: there is nothing to hash.
fn policy(at: &At<'_>, pb: &PbHashPolicy) -> Result<Option<HashPolicy>> {
    let by = match at.required("policy_specifier", &pb.policy_specifier)? {
        PolicySpecifier::Header(pb) => {
            let at = at.field("header");
            let rewrite = pb.regex_rewrite.as_ref();
            let rewrite = rewrite.map(|rewrite| matcher::substitution(&at.field("regex_rewrite"), rewrite));
            let name = match pb.header_name.as_str() {
                pseudo if pseudo.starts_with(':') => pseudo.into(),
                name => header_name(&at.field("header_name"), name)?,
            };
            HashBy::Header { name, rewrite: rewrite.transpose()? }
        }
        PolicySpecifier::Cookie(pb) => HashBy::Cookie(cookie(&at.field("cookie"), pb)?),
        PolicySpecifier::ConnectionProperties(pb) if pb.source_ip => HashBy::SourceIp,
        PolicySpecifier::ConnectionProperties(_) => return Ok(None),
        PolicySpecifier::QueryParameter(pb) => {
            HashBy::QueryParameter(not_empty(&at.field("query_parameter"), "name", &pb.name)?.into())
        }
        PolicySpecifier::FilterState(_) => return at.field("filter_state").wrong("is not implemented"),
    };
    Ok(Some(HashPolicy { by, terminal: pb.terminal }))
}

fn cookie(at: &At<'_>, pb: &hash_policy::Cookie) -> Result<CookieHash> {
    // What is put into a header must not end it.
    let plain = |at: &At<'_>, text: &str| {
        if text.bytes().any(|byte| byte < b' ' || byte == 0x7f || byte == b';') {
            return at.wrong("must not hold control characters or `;`");
        }
        Ok(Box::<str>::from(text))
    };
    let attributes = pb.attributes.iter().enumerate().map(|(index, one)| {
        let at = at.item("attributes", index);
        not_empty(&at, "name", &one.name)?;
        Ok((plain(&at.field("name"), &one.name)?, plain(&at.field("value"), &one.value)?))
    });
    not_empty(at, "name", &pb.name)?;
    Ok(CookieHash {
        name: plain(&at.field("name"), &pb.name)?,
        ttl: duration(at, "ttl", &pb.ttl)?,
        path: plain(&at.field("path"), &pb.path)?,
        attributes: gather(attributes)?,
    })
}

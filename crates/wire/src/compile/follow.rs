//! Redirects that the proxy follows itself (`route.v3.InternalRedirectPolicy`).

use super::header::header_name;
use super::{Result, uint, unpack};
use crate::pb::envoy::config::core::v3::TypedExtensionConfig;
use crate::pb::envoy::config::route::v3 as pb;
use crate::pb::envoy::extensions::internal_redirect::allow_listed_routes::v3::AllowListedRoutesConfig;
use crate::problem::{At, gather};
use crate::schema::type_name;
use model::route::{InternalRedirects, RedirectPredicate};
use pb::route_action::InternalRedirectAction;

const PREVIOUS_ROUTES: &str = "envoy.extensions.internal_redirect.previous_routes.v3.PreviousRoutesConfig";
const ALLOW_LISTED: &str = "envoy.extensions.internal_redirect.allow_listed_routes.v3.AllowListedRoutesConfig";
const SAFE_CROSS_SCHEME: &str = "envoy.extensions.internal_redirect.safe_cross_scheme.v3.SafeCrossSchemeConfig";
const REDIRECTS: [u32; 5] = [301, 302, 303, 307, 308];

/// The policy of a route, or the older fields that say the same.
pub(super) fn policy(at: &At<'_>, pb: &pb::RouteAction) -> Result<Option<InternalRedirects>> {
    let Some(policy) = &pb.internal_redirect_policy else {
        let handled = pb.internal_redirect_action == InternalRedirectAction::HandleInternalRedirect as i32;
        return Ok(handled.then(|| InternalRedirects {
            statuses: vec![302],
            most: uint(&pb.max_internal_redirects).unwrap_or(1),
            cross_scheme: false,
            copy: Vec::new(),
            predicates: Vec::new(),
        }));
    };
    let at = at.field("internal_redirect_policy");
    if policy.redirect_response_codes.len() > 5 {
        return at.field("redirect_response_codes").wrong("must not have more than 5 codes");
    }
    // Codes that are no redirects are passed over, as in Envoy.
    let codes = policy.redirect_response_codes.iter().filter(|code| REDIRECTS.contains(code));
    let mut statuses: Vec<u16> = codes.map(|code| *code as u16).collect();
    if policy.redirect_response_codes.is_empty() {
        statuses.push(302);
    }
    let copied = policy.response_headers_to_copy.iter().enumerate().map(|(index, name)| {
        let at = at.item("response_headers_to_copy", index);
        if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
            return at.wrong(":-prefixed headers and host may not be copied");
        }
        header_name(&at, name)
    });
    let predicates = policy.predicates.iter().enumerate();
    let predicates = predicates.map(|(index, one)| predicate(&at.item("predicates", index), one));
    Ok(Some(InternalRedirects {
        statuses,
        most: uint(&policy.max_internal_redirects).unwrap_or(1),
        cross_scheme: policy.allow_cross_scheme_redirect,
        copy: gather(copied)?,
        predicates: gather(predicates)?,
    }))
}

fn predicate(at: &At<'_>, pb: &TypedExtensionConfig) -> Result<RedirectPredicate> {
    let any = at.required("typed_config", &pb.typed_config)?;
    let at = at.field("typed_config");
    match type_name(&any.type_url) {
        PREVIOUS_ROUTES => Ok(RedirectPredicate::PreviousRoutes),
        SAFE_CROSS_SCHEME => Ok(RedirectPredicate::SafeCrossScheme),
        ALLOW_LISTED => {
            let list: AllowListedRoutesConfig = unpack(&at, any)?;
            if list.allowed_route_names.iter().any(String::is_empty) {
                return at.field("allowed_route_names").wrong("must not hold empty names");
            }
            Ok(RedirectPredicate::AllowListed(
                list.allowed_route_names.iter().map(|name| name.as_str().into()).collect(),
            ))
        }
        other => at.wrong(format!(
            "`{other}` is not implemented; previous_routes, allow_listed_routes and safe_cross_scheme are"
        )),
    }
}

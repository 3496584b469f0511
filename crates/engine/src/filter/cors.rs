//! Cross-origin requests (`filters.http.cors.v3`, the Fetch standard's CORS protocol).

use crate::head::Head;
use model::filter::CorsPolicy;

/// What a policy says about a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not a cross-origin request, or not one that the policy knows.
    None,
    /// Answer the preflight now with these fields.
    Preflight(Fields),
    /// Forward, and add these fields to the response.
    Allowed(Fields),
}

pub type Fields = Vec<(&'static [u8], Vec<u8>)>;

/// `policies`: the route's, then the virtual host's, which fills what the first leaves out. `random` decides on
/// `filter_enabled`.
pub fn judge(policies: &[&CorsPolicy], head: &Head, random: u64) -> Verdict {
    let origin = head.get(b"origin").unwrap_or_default();
    let Some(first) = policies.first() else { return Verdict::None };
    if origin.is_empty() || random % 1_000_000 >= u64::from(first.enabled_ppm) {
        return Verdict::None;
    }
    let flag = |pick: fn(&CorsPolicy) -> Option<bool>| policies.iter().find_map(|policy| pick(policy));
    let text = |pick: fn(&CorsPolicy) -> &str| policies.iter().map(|p| pick(p)).find(|text| !text.is_empty());
    let origins = policies.iter().map(|policy| &policy.allow_origin).find(|list| !list.is_empty());
    let asked = head.get(b"access-control-request-method").unwrap_or_default();
    let preflight = head.method() == b"OPTIONS" && !asked.is_empty();
    let allowed = origins.is_some_and(|list| list.iter().any(|matcher| matcher.matches(origin)));
    let forward = flag(|policy| policy.forward_not_matching_preflights).unwrap_or(true);
    if !allowed && (forward || !preflight) {
        return Verdict::None;
    }
    let mut fields = Fields::new();
    let mut add = |name: &'static [u8], text: Option<&str>| {
        fields.extend(text.map(|text| (name, text.as_bytes().to_vec())));
    };
    // A browser takes an answer without this field for a refusal.
    add(b"access-control-allow-origin", std::str::from_utf8(origin).ok().filter(|_| allowed));
    add(b"access-control-allow-credentials", (flag(|policy| policy.allow_credentials) == Some(true)).then_some("true"));
    add(b"access-control-expose-headers", text(|policy| &policy.expose_headers).filter(|_| allowed));
    if !preflight {
        return Verdict::Allowed(fields);
    }
    add(b"access-control-allow-methods", text(|policy| &policy.allow_methods));
    add(b"access-control-allow-headers", text(|policy| &policy.allow_headers));
    add(b"access-control-max-age", text(|policy| &policy.max_age));
    let private = head.get(b"access-control-request-private-network") == Some(b"true")
        && flag(|policy| policy.allow_private_network_access) == Some(true);
    add(b"access-control-allow-private-network", private.then_some("true"));
    Verdict::Preflight(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::matcher::StringMatcher;

    fn policy() -> CorsPolicy {
        CorsPolicy {
            allow_origin: vec![StringMatcher::exact("http://a.test")],
            allow_methods: "GET".into(),
            allow_headers: "".into(),
            expose_headers: "x-seen".into(),
            max_age: "60".into(),
            allow_credentials: Some(true),
            allow_private_network_access: None,
            forward_not_matching_preflights: None,
            enabled_ppm: 1_000_000,
        }
    }

    fn request(method: &str, origin: &str, asks: bool) -> Head {
        let mut head = Head::default();
        head.set_method(method.as_bytes());
        head.push(b"origin", origin.as_bytes());
        if asks {
            head.push(b"access-control-request-method", b"PUT");
        }
        head
    }

    #[test]
    fn verdicts() {
        let names = |verdict: Verdict| match verdict {
            Verdict::None => "none".to_string(),
            Verdict::Preflight(fields) => format!("preflight {}", fields.len()),
            Verdict::Allowed(fields) => format!("allowed {}", fields.len()),
        };
        for (method, origin, asks, wanted) in [
            ("GET", "http://a.test", false, "allowed 3"),
            ("OPTIONS", "http://a.test", false, "allowed 3"),
            ("OPTIONS", "http://a.test", true, "preflight 5"),
            ("OPTIONS", "http://b.test", true, "none"),
            ("GET", "http://b.test", false, "none"),
            ("GET", "", false, "none"),
        ] {
            assert_eq!(
                names(judge(&[&policy()], &request(method, origin, asks), 0)),
                wanted,
                "{method} {origin} {asks}"
            );
        }
        let strict = CorsPolicy { forward_not_matching_preflights: Some(false), ..policy() };
        assert_eq!(names(judge(&[&strict], &request("OPTIONS", "http://b.test", true), 0)), "preflight 3");
        let bare = CorsPolicy { allow_methods: "".into(), allow_credentials: None, ..policy() };
        let verdict = judge(&[&bare, &policy()], &request("OPTIONS", "http://a.test", true), 0);
        assert_eq!(names(verdict), "preflight 5", "the virtual host fills the gaps");
    }
}

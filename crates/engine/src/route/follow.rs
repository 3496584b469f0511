//! Redirects that the proxy follows itself (`InternalRedirectPolicy`).

use crate::head::Head;
use model::route::{InternalRedirects, RedirectPredicate};

/// What was followed so far for one request.
#[derive(Debug, Default)]
pub struct Followed {
    pub count: u32,
    /// From the route of this name to the route of that name.
    pub steps: Vec<(Box<str>, Box<str>)>,
}

/// Why a redirect goes to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declined {
    /// The policy does not follow this status.
    Status,
    BadLocation,
    UnsafeScheme,
    TooMany,
    NoRoute,
    Predicate,
}

/// Where a redirect leads.
#[derive(Debug, PartialEq, Eq)]
pub struct Destination<'l> {
    pub scheme: &'l [u8],
    pub authority: &'l [u8],
    /// With the query, without the fragment; empty when the location has none.
    pub path: &'l [u8],
}

impl<'l> Destination<'l> {
    /// Reads an absolute URL.
    fn of(location: &'l [u8]) -> Option<Self> {
        let at = memchr::memmem::find(location, b"://")?;
        let (scheme, rest) = (&location[..at], &location[at + 3..]);
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        if scheme.is_empty() || !scheme.iter().all(plain) {
            return None;
        }
        let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let authority = memchr::memrchr(b'@', authority).map_or(authority, |at| &authority[at + 1..]);
        let path = memchr::memchr(b'#', path).map_or(path, |at| &path[..at]);
        let sound = |byte: &u8| *byte > b' ' && *byte != 0x7f;
        let rooted = matches!(path.first(), None | Some(b'/'));
        let fits = rooted && !authority.is_empty() && authority.iter().chain(path).all(sound);
        fits.then_some(Destination { scheme, authority, path })
    }

    fn is_plain(&self) -> bool {
        self.scheme.eq_ignore_ascii_case(b"http")
    }
}

/// The request came without TLS, as far as anybody can tell.
fn came_plain(request: &Head, secure: bool) -> bool {
    request.scheme().eq_ignore_ascii_case(b"http") || !secure
}

/// Where `response` leads, if the policy lets it be followed. `secure`: the client's connection is encrypted.
pub fn destination<'l>(
    policy: &InternalRedirects,
    request: &Head,
    response: &'l Head,
    secure: bool,
    followed: &Followed,
) -> Result<Destination<'l>, Declined> {
    if !policy.statuses.contains(&response.status) {
        return Err(Declined::Status);
    }
    let location = response.get(b"location").ok_or(Declined::BadLocation)?;
    let to = Destination::of(location).ok_or(Declined::BadLocation)?;
    if !policy.cross_scheme && to.is_plain() != came_plain(request, secure) {
        return Err(Declined::UnsafeScheme);
    }
    if followed.count >= policy.most {
        return Err(Declined::TooMany);
    }
    Ok(to)
}

/// Makes `request` one for the destination.
pub fn redirect(policy: &InternalRedirects, request: &mut Head, response: &Head, to: &Destination<'_>) {
    for name in &policy.copy {
        request.remove(name.as_bytes());
        for value in response.all(name.as_bytes()) {
            request.push(name.as_bytes(), value);
        }
    }
    if matches!(&*to.scheme.to_ascii_lowercase(), b"http" | b"https") {
        request.set_scheme(to.scheme);
    }
    request.set_authority(to.authority);
    request.set_path(if to.path.is_empty() { b"/" } else { to.path });
}

/// The predicates let the request go on from the route `from` to the route `to`; remembers that it did.
pub fn permitted(
    policy: &InternalRedirects,
    from: &str,
    to: &str,
    (plain, target_plain): (bool, bool),
    followed: &mut Followed,
) -> bool {
    policy.predicates.iter().all(|predicate| match predicate {
        RedirectPredicate::AllowListed(names) => names.iter().any(|name| **name == *to),
        RedirectPredicate::SafeCrossScheme => !plain || target_plain,
        RedirectPredicate::PreviousRoutes => {
            let seen = followed.steps.iter().any(|(start, end)| **start == *from && **end == *to);
            if !seen {
                followed.steps.push((from.into(), to.into()));
            }
            !seen
        }
    })
}

/// Whether the request came, and would go on, without TLS.
pub fn plainness(request: &Head, secure: bool, to: &Destination<'_>) -> (bool, bool) {
    (came_plain(request, secure), to.is_plain())
}

/// The URL that was asked for before, for `x-envoy-original-url`.
pub fn original_url(request: &Head, plain: bool) -> Vec<u8> {
    let scheme: &[u8] = if plain { b"http" } else { b"https" };
    [scheme, b"://", request.authority(), request.path()].concat()
}

/// A 303 is followed by GET, without the body (RFC 9110 section 15.4.4).
pub fn becomes_get(request: &Head, status: u16) -> bool {
    status == 303 && !matches!(request.method(), b"GET" | b"HEAD")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(predicates: Vec<RedirectPredicate>) -> InternalRedirects {
        InternalRedirects {
            statuses: vec![302, 307],
            most: 1,
            cross_scheme: false,
            copy: vec!["x-copy".into()],
            predicates,
        }
    }

    fn heads(location: &[u8]) -> (Head, Head) {
        let (mut request, mut response) = (Head::default(), Head::default());
        request.set_method(b"GET");
        request.set_scheme(b"http");
        request.set_authority(b"a");
        request.set_path(b"/1");
        response.status = 302;
        response.push(b"location", location);
        (request, response)
    }

    #[test]
    fn locations() {
        let ok = |scheme, authority, path| Ok((scheme, authority, path));
        for (location, wanted) in [
            ("http://b/2?q#f", ok("http", "b", "/2?q")),
            ("http://b:80", ok("http", "b:80", "")),
            ("http://u@b/", ok("http", "b", "/")),
            ("http://b?q", Err(Declined::BadLocation)),
            ("/2", Err(Declined::BadLocation)),
            ("//b/2", Err(Declined::BadLocation)),
            ("http:///2", Err(Declined::BadLocation)),
            ("http://b/a b", Err(Declined::BadLocation)),
            ("", Err(Declined::BadLocation)),
            ("https://b/2", Err(Declined::UnsafeScheme)),
        ] {
            let (request, response) = heads(location.as_bytes());
            let text = |bytes| std::str::from_utf8(bytes).unwrap();
            let found = destination(&policy(vec![]), &request, &response, false, &Followed::default());
            let found = found.map(|to| (text(to.scheme), text(to.authority), text(to.path)));
            assert_eq!(found, wanted, "{location}");
        }
    }

    #[test]
    fn limits() {
        let (request, mut response) = heads(b"http://b/2");
        let spent = Followed { count: 1, ..Followed::default() };
        assert_eq!(destination(&policy(vec![]), &request, &response, false, &spent), Err(Declined::TooMany));
        response.status = 301;
        let none = Followed::default();
        assert_eq!(destination(&policy(vec![]), &request, &response, false, &none), Err(Declined::Status));
    }

    #[test]
    fn request_after() {
        let (mut request, mut response) = heads(b"http://b");
        request.push(b"x-copy", b"old");
        response.push(b"x-copy", b"1");
        response.push(b"x-copy", b"2");
        let policy = policy(vec![]);
        let to = destination(&policy, &request, &response, false, &Followed::default()).unwrap();
        redirect(&policy, &mut request, &response, &to);
        assert_eq!((request.authority(), request.path()), (&b"b"[..], &b"/"[..]));
        assert_eq!(request.all(b"x-copy").collect::<Vec<_>>(), [b"1", b"2"]);
    }

    #[test]
    fn predicates() {
        let mut followed = Followed::default();
        let once = policy(vec![RedirectPredicate::PreviousRoutes]);
        assert!(permitted(&once, "a", "b", (true, true), &mut followed));
        assert!(!permitted(&once, "a", "b", (true, true), &mut followed));
        assert!(permitted(&once, "b", "b", (true, true), &mut followed));
        let listed = policy(vec![RedirectPredicate::AllowListed(vec!["b".into()])]);
        assert!(permitted(&listed, "a", "b", (true, true), &mut followed));
        assert!(!permitted(&listed, "a", "c", (true, true), &mut followed));
        let safe = policy(vec![RedirectPredicate::SafeCrossScheme]);
        for (plain, target_plain, wanted) in [(true, true, true), (true, false, false), (false, true, true)] {
            assert_eq!(permitted(&safe, "a", "b", (plain, target_plain), &mut followed), wanted);
        }
    }
}

//! Does a route match a request? (`route.v3.RouteMatch`)

use crate::head::Head;
use crate::info::TlsFacts;
use model::matcher::{HeaderKind, HeaderMatcher, QueryKind, QueryMatcher};
use model::route::{Conditions, CookieMatcher, PathMatch, RouteMatch, TlsMatch};

/// A request that looks for its route.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub head: &'a Head,
    /// Of the client's connection, if it is encrypted.
    pub tls: Option<&'a TlsFacts>,
    /// Decides runtime fractions; uniform over all of `u64`.
    pub random: u64,
}

/// All conditions hold. `cut_parameters`: the path's segments end at their `;`.
pub fn matches(wanted: &RouteMatch, asked: &Asked<'_>, cut_parameters: bool) -> bool {
    path(&wanted.path, asked.head, cut_parameters) && wanted.more.as_ref().is_none_or(|more| conditions(more, asked))
}

fn conditions(wanted: &Conditions, asked: &Asked<'_>) -> bool {
    let head = asked.head;
    wanted.headers.iter().all(|matcher| header(matcher, head))
        && (!wanted.grpc_only || head.is_grpc())
        && (wanted.query.is_empty() || wanted.query.iter().all(|matcher| query(matcher, head.query().unwrap_or(b""))))
        && wanted.cookies.iter().all(|matcher| cookie(matcher, head))
        && wanted.tls.is_none_or(|wanted| certificate(wanted, asked.tls))
        && wanted.fraction_ppm.is_none_or(|ppm| asked.random % 1_000_000 < u64::from(ppm))
}

fn certificate(wanted: TlsMatch, tls: Option<&TlsFacts>) -> bool {
    let presented = tls.is_some_and(|tls| !tls.peer_hash.is_empty());
    let validated = presented && tls.is_some_and(|tls| tls.peer_validated);
    wanted.presented.is_none_or(|wanted| wanted == presented)
        && wanted.validated.is_none_or(|wanted| wanted == validated)
}

/// Of several cookies with the name the first counts.
fn cookie(wanted: &CookieMatcher, head: &Head) -> bool {
    let pairs = head.all(b"cookie").flat_map(|line| line.split(|&byte| byte == b';')).map(<[u8]>::trim_ascii);
    let value = pairs.filter_map(|pair| {
        let at = memchr::memchr(b'=', pair)?;
        (&pair[..at] == wanted.name.as_bytes()).then(|| unquoted(&pair[at + 1..]))
    });
    let mut value = value;
    value.next().is_some_and(|value| wanted.value.matches(value)) != wanted.invert
}

fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value)
}

fn path(wanted: &PathMatch, head: &Head, cut_parameters: bool) -> bool {
    if let PathMatch::Connect = wanted {
        return head.method() == b"CONNECT";
    }
    if head.method() == b"CONNECT" && head.path().is_empty() {
        return false;
    }
    let path = head.path_only();
    if cut_parameters && memchr::memchr(b';', path).is_some() {
        return path_text(wanted, &without_parameters(path));
    }
    path_text(wanted, path)
}

/// Each segment without what follows its `;`.
fn without_parameters(path: &[u8]) -> Vec<u8> {
    let segments = path.split(|&byte| byte == b'/');
    let kept: Vec<&[u8]> = segments.map(|one| &one[..memchr::memchr(b';', one).unwrap_or(one.len())]).collect();
    kept.join(&b'/')
}

fn path_text(wanted: &PathMatch, path: &[u8]) -> bool {
    match wanted {
        PathMatch::Prefix { prefix, ignore_case } => starts_with(path, prefix.as_bytes(), *ignore_case),
        PathMatch::Exact { path: wanted, ignore_case } => equal(path, wanted.as_bytes(), *ignore_case),
        PathMatch::SeparatedPrefix { prefix, ignore_case } => {
            starts_with(path, prefix.as_bytes(), *ignore_case)
                && (path.len() == prefix.len() || path[prefix.len()] == b'/')
        }
        PathMatch::Regex(regex) | PathMatch::Template(regex) => regex.is_match(path),
        PathMatch::Connect => false,
    }
}

fn starts_with(path: &[u8], prefix: &[u8], ignore_case: bool) -> bool {
    path.len() >= prefix.len() && equal(&path[..prefix.len()], prefix, ignore_case)
}

fn equal(left: &[u8], right: &[u8], ignore_case: bool) -> bool {
    if ignore_case { left.eq_ignore_ascii_case(right) } else { left == right }
}

/// What a scope key reads: a field, of several the first, or a part of the request line.
pub(super) fn text_of<'h>(head: &'h Head, name: &str) -> Option<&'h [u8]> {
    match name {
        ":method" => Some(head.method()),
        ":path" => Some(head.path()),
        ":authority" | "host" => Some(head.authority()),
        ":scheme" => Some(head.scheme()),
        _ => head.get(name.as_bytes()),
    }
}

/// One header condition. Of several values of a header any may match, as in Envoy 1.40.
pub fn header(wanted: &HeaderMatcher, head: &Head) -> bool {
    let status;
    let pseudo = match &*wanted.name {
        ":method" => Some(head.method()),
        ":path" => Some(head.path()),
        ":authority" | "host" => Some(head.authority()),
        ":scheme" => Some(head.scheme()),
        ":status" => {
            status = if head.status == 0 { String::new() } else { head.status.to_string() };
            Some(status.as_bytes())
        }
        _ => None,
    };
    if let Some(value) = pseudo {
        return judge(wanted, (!value.is_empty()).then_some(value).into_iter());
    }
    judge(wanted, head.all(wanted.name.as_bytes()))
}

fn judge<'v>(wanted: &HeaderMatcher, values: impl Iterator<Item = &'v [u8]>) -> bool {
    let mut values = values.peekable();
    let there = values.peek().is_some();
    if let HeaderKind::Present(present) = wanted.kind {
        return ((there || wanted.treat_missing_as_empty) == present) != wanted.invert;
    }
    if there {
        return values.any(|value| one_value(&wanted.kind, value)) != wanted.invert;
    }
    // A missing header never matches, inverted or not, unless it counts as empty.
    wanted.treat_missing_as_empty && one_value(&wanted.kind, b"") != wanted.invert
}

fn one_value(wanted: &HeaderKind, value: &[u8]) -> bool {
    match wanted {
        HeaderKind::Present(present) => *present,
        HeaderKind::String(matcher) => matcher.matches(value),
        HeaderKind::Range { start, end } => {
            let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok());
            number.is_some_and(|number| (*start..*end).contains(&number))
        }
    }
}

fn query(wanted: &QueryMatcher, query: &[u8]) -> bool {
    let value = query.split(|&byte| byte == b'&').find_map(|pair| {
        let at = memchr::memchr(b'=', pair);
        let name = &pair[..at.unwrap_or(pair.len())];
        (name == wanted.name.as_bytes()).then(|| at.map_or(&b""[..], |at| &pair[at + 1..]))
    });
    match &wanted.kind {
        QueryKind::Present(present) => value.is_some() == *present,
        QueryKind::String(matcher) => value.is_some_and(|value| matcher.matches(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::matcher::{StringMatcher, full_match_regex};

    fn request(path: &str, headers: &[(&str, &str)]) -> Head {
        let mut head = Head::default();
        head.set_method(b"GET");
        head.set_path(path.as_bytes());
        for (name, value) in headers {
            head.push(name.as_bytes(), value.as_bytes());
        }
        head
    }

    #[test]
    fn paths() {
        let prefix = RouteMatch::at(PathMatch::Prefix { prefix: "/a".into(), ignore_case: false });
        let exact = RouteMatch::at(PathMatch::Exact { path: "/a".into(), ignore_case: true });
        let separated = RouteMatch::at(PathMatch::SeparatedPrefix { prefix: "/a".into(), ignore_case: false });
        let regex = RouteMatch::at(PathMatch::Regex(full_match_regex("/a|/b+").unwrap()));
        for (path, wanted) in [
            ("/a", [true, true, true, true]),
            ("/A", [false, true, false, false]),
            ("/ab", [true, false, false, false]),
            ("/a/b?x", [true, false, true, false]),
            ("/a?x", [true, true, true, true]),
            ("/bb", [false, false, false, true]),
        ] {
            let head = request(path, &[]);
            let found = [&prefix, &exact, &separated, &regex]
                .map(|m| matches(m, &Asked { head: &head, tls: None, random: 0 }, false));
            assert_eq!(found, wanted, "{path}");
        }
    }

    #[test]
    fn headers() {
        let matcher = |kind, invert| HeaderMatcher { name: "x".into(), kind, invert, treat_missing_as_empty: false };
        let one = request("/", &[("X", "5")]);
        let none = request("/", &[]);
        let two = request("/", &[("x", "a"), ("X", "b")]);
        let exact = |text| HeaderKind::String(StringMatcher::exact(text));
        assert!(header(&matcher(exact("5"), false), &one));
        assert!(!header(&matcher(exact("5"), true), &one));
        assert!(!header(&matcher(exact("5"), true), &none));
        assert!(header(&matcher(exact("a"), false), &two));
        assert!(header(&matcher(exact("b"), false), &two));
        assert!(!header(&matcher(exact("b"), true), &two));
        assert!(header(&matcher(HeaderKind::Range { start: 5, end: 6 }, false), &one));
        assert!(!header(&matcher(HeaderKind::Range { start: 4, end: 5 }, false), &one));
        assert!(header(&matcher(HeaderKind::Present(false), false), &none));
        assert!(!header(&matcher(HeaderKind::Present(true), true), &two));
    }

    #[test]
    fn path_parameters() {
        let exact = RouteMatch::at(PathMatch::Exact { path: "/a".into(), ignore_case: false });
        let head = request("/a;v=1?q", &[]);
        let asked = Asked { head: &head, tls: None, random: 0 };
        assert!(matches(&exact, &asked, true));
        assert!(!matches(&exact, &asked, false));
        assert_eq!(without_parameters(b"/a;b/c;d;e/f"), b"/a/c/f");
    }

    #[test]
    fn cookies() {
        let matcher = |invert| CookieMatcher { name: "s".into(), value: StringMatcher::exact("1"), invert };
        for (line, wanted) in [
            ("s=1", true),
            ("a=2; s=1", true),
            ("s=\"1\"", true),
            ("s=2; s=1", false),
            ("S=1", false),
            ("s", false),
            ("", false),
        ] {
            let head = request("/", &[("cookie", line)]);
            assert_eq!(cookie(&matcher(false), &head), wanted, "{line}");
            assert_eq!(cookie(&matcher(true), &head), !wanted, "{line}");
        }
    }

    #[test]
    fn certificates() {
        let tls =
            |hash: &str, peer_validated| TlsFacts { peer_hash: hash.into(), peer_validated, ..Default::default() };
        let (none, seen, proven) = (tls("", false), tls("ab", false), tls("ab", true));
        let presented = TlsMatch { presented: Some(true), validated: None };
        let untrusted = TlsMatch { presented: None, validated: Some(false) };
        let cases =
            [(None, false, true), (Some(&none), false, true), (Some(&seen), true, true), (Some(&proven), true, false)];
        for (facts, shown, doubtful) in cases {
            assert_eq!(certificate(presented, facts), shown);
            assert_eq!(certificate(untrusted, facts), doubtful);
        }
    }

    #[test]
    fn queries() {
        let matcher = |kind| QueryMatcher { name: "q".into(), kind };
        assert!(query(&matcher(QueryKind::Present(true)), b"a=1&q"));
        assert!(!query(&matcher(QueryKind::Present(true)), b"a=q"));
        assert!(query(&matcher(QueryKind::String(StringMatcher::exact("1"))), b"q=1&q=2"));
        assert!(!query(&matcher(QueryKind::String(StringMatcher::exact("2"))), b"q=1&q=2"));
    }
}

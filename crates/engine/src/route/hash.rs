//! What hash policies make of a request (`RouteAction.hash_policy`): the key by which hashing balancers choose.

use crate::balance::hashing::{hash, hash_all};
use crate::head::Head;
use crate::info::ConnectionFacts;
use model::balance::{CookieHash, HashBy, HashPolicy};
use model::matcher::Substitution;
use std::borrow::Cow;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

/// The key of a request, and the cookies that its client is to be given so that the key stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashed {
    pub key: Option<u64>,
    /// Values of `set-cookie`.
    pub cookies: Vec<Vec<u8>>,
}

/// Evaluates `policies` for a request from `client`, the address that is trusted to be its sender's.
pub fn key(policies: &[HashPolicy], head: &Head, client: Option<IpAddr>, connection: &ConnectionFacts) -> Hashed {
    let mut hashed = Hashed::default();
    for policy in policies {
        let found = match &policy.by {
            HashBy::Header { name, rewrite } => header(head, name, rewrite.as_ref()),
            HashBy::Cookie(config) => cookie(head, config, connection, &mut hashed.cookies),
            HashBy::SourceIp => client.map(source_ip),
            HashBy::QueryParameter(name) => query_parameter(head, name).map(hash),
        };
        if let Some(found) = found {
            // Rotated, so that the same value twice does not cancel itself out.
            hashed.key = Some(hashed.key.map_or(0, |key| key.rotate_left(1)) ^ found);
        }
        if policy.terminal && hashed.key.is_some() {
            break;
        }
    }
    hashed
}

/// The hash of an address as text; of the TCP proxy's `hash_policy` too.
pub fn source_ip(address: IpAddr) -> u64 {
    let mut space = [0u8; 64];
    let mut rest = &mut space[..];
    // The text of an address is at most 45 bytes.
    let _ = write!(rest, "{address}");
    let left = rest.len();
    hash(&space[..64 - left])
}

/// Several values count in sorted order.
fn header(head: &Head, name: &str, rewrite: Option<&Substitution>) -> Option<u64> {
    let rewritten = |value| match rewrite {
        Some(rewrite) => rewrite.regex.replace_all(value, rewrite.new.as_bytes()),
        None => Cow::Borrowed(value),
    };
    let first = match name {
        ":path" => Some(head.path()),
        ":method" => Some(head.method()),
        ":authority" | "host" => Some(head.authority()),
        ":scheme" => Some(head.scheme()),
        _ => None,
    };
    if let Some(value) = first {
        return Some(hash(&rewritten(value)));
    }
    let mut values = head.all(name.as_bytes());
    let first = rewritten(values.next()?);
    let Some(second) = values.next() else { return Some(hash(&first)) };
    let mut all = vec![first, rewritten(second)];
    all.extend(values.map(rewritten));
    all.sort_unstable();
    Some(hash_all(all.iter().map(|value| &**value)))
}

fn cookie(head: &Head, config: &CookieHash, connection: &ConnectionFacts, new: &mut Vec<Vec<u8>>) -> Option<u64> {
    if let Some(value) = cookie_value(head, config.name.as_bytes()).filter(|value| !value.is_empty()) {
        return Some(hash(value));
    }
    let ttl = config.ttl?;
    // The same for all requests of a connection.
    let text = |address: Option<SocketAddr>| address.map_or_else(String::new, |address| address.to_string());
    let ends = text(connection.direct_remote) + &text(connection.local);
    let value = format!("{:016x}", hash(ends.as_bytes()));
    let mut set = format!("{}=\"{value}\"", config.name);
    if !ttl.is_zero() {
        set.push_str(&format!("; Max-Age={}", ttl.as_secs()));
    }
    if !config.path.is_empty() {
        set.push_str(&format!("; Path={}", config.path));
    }
    for (name, value) in &config.attributes {
        set.push_str(&format!("; {name}"));
        if !value.is_empty() {
            set.push_str(&format!("={value}"));
        }
    }
    set.push_str("; HttpOnly");
    new.push(set.into_bytes());
    Some(hash(value.as_bytes()))
}

/// The first cookie of that name, without quotes.
fn cookie_value<'h>(head: &'h Head, name: &[u8]) -> Option<&'h [u8]> {
    let pairs = head.all(b"cookie").flat_map(|line| line.split(|byte| *byte == b';'));
    let found = pairs.filter_map(|pair| {
        let at = memchr::memchr(b'=', pair)?;
        (pair[..at].trim_ascii() == name).then(|| pair[at + 1..].trim_ascii_end())
    });
    let value = found.into_iter().next()?;
    match value {
        [b'"', inner @ .., b'"'] => Some(inner),
        _ => Some(value),
    }
}

/// As written, without decoding; the first of that name.
fn query_parameter<'h>(head: &'h Head, name: &str) -> Option<&'h [u8]> {
    head.query()?.split(|byte| *byte == b'&').find_map(|pair| match memchr::memchr(b'=', pair) {
        Some(at) => (&pair[..at] == name.as_bytes()).then(|| &pair[at + 1..]),
        None => (pair == name.as_bytes()).then_some(&[][..]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn head(path: &str, fields: &[(&str, &str)]) -> Head {
        let mut head = Head::default();
        head.set_path(path.as_bytes());
        for (name, value) in fields {
            head.push(name.as_bytes(), value.as_bytes());
        }
        head
    }

    fn facts() -> ConnectionFacts {
        ConnectionFacts {
            id: 1,
            direct_remote: "10.0.0.1:1234".parse().ok(),
            peer: "10.0.0.1:1234".parse().ok(),
            local: "10.0.0.2:80".parse().ok(),
            original: None,
            server_name: "".into(),
            tls: None,
            filter_chain: "".into(),
        }
    }

    fn by(by: HashBy) -> HashPolicy {
        HashPolicy { by, terminal: false }
    }

    fn named(name: &str, ttl: Option<u64>) -> HashBy {
        let attributes = vec![("SameSite".into(), "Strict".into()), ("Secure".into(), "".into())];
        HashBy::Cookie(CookieHash {
            name: name.into(),
            ttl: ttl.map(Duration::from_secs),
            path: "/p".into(),
            attributes,
        })
    }

    fn plain(name: &str) -> HashBy {
        HashBy::Header { name: name.into(), rewrite: None }
    }

    #[test]
    fn what_is_hashed() {
        let rewrite = Some(Substitution { regex: regex::bytes::Regex::new("-.*").unwrap(), new: "".into() });
        let rewriting = HashBy::Header { name: "user".into(), rewrite };
        let fields =
            [("user", "ann-7"), ("Cookie", "a=1; sid=\"x=y\""), ("cookie", "sid=z"), ("two", "b"), ("two", "a")];
        let head = head("/p?q=&r=%20&s&r=2", &fields);
        let cases: [(HashBy, Option<u64>); 11] = [
            (plain("user"), Some(hash(b"ann-7"))),
            (rewriting, Some(hash(b"ann"))),
            (plain("two"), Some(hash_all([&b"a"[..], b"b"]))),
            (plain("none"), None),
            (named("sid", None), Some(hash(b"x=y"))),
            (named("other", None), None),
            (HashBy::SourceIp, Some(hash(b"192.0.2.1"))),
            (HashBy::QueryParameter("q".into()), Some(hash(b""))),
            (HashBy::QueryParameter("r".into()), Some(hash(b"%20"))),
            (HashBy::QueryParameter("s".into()), Some(hash(b""))),
            (HashBy::QueryParameter("t".into()), None),
        ];
        let client = "192.0.2.1".parse().ok();
        for (policy, expected) in cases {
            let found = key(&[by(policy.clone())], &head, client, &facts());
            assert_eq!(found, Hashed { key: expected, cookies: Vec::new() }, "{policy:?}");
        }
    }

    #[test]
    fn policies_add_up_until_a_terminal_one() {
        let head = head("/", &[("a", "1"), ("b", "2")]);
        let (a, b) = (hash(b"1"), hash(b"2"));
        let all = [by(plain("a")), by(plain("b"))];
        assert_eq!(key(&all, &head, None, &facts()).key, Some(a.rotate_left(1) ^ b));
        let terminal =
            [HashPolicy { by: plain("none"), terminal: true }, HashPolicy { terminal: true, ..all[0].clone() }];
        let all = [terminal.as_slice(), &[by(plain("b"))]].concat();
        assert_eq!(key(&all, &head, None, &facts()).key, Some(a));
    }

    #[test]
    fn a_client_without_the_cookie_is_given_one() {
        let found = key(&[by(named("sid", Some(60)))], &head("/", &[]), None, &facts());
        let value = format!("{:016x}", hash(b"10.0.0.1:123410.0.0.2:80"));
        let expected = format!("sid=\"{value}\"; Max-Age=60; Path=/p; SameSite=Strict; Secure; HttpOnly");
        assert_eq!(found.cookies, [expected.into_bytes()]);
        let again = head("/", &[("cookie", &format!("sid={value}"))]);
        assert_eq!(key(&[by(named("sid", Some(60)))], &again, None, &facts()), Hashed { cookies: vec![], ..found });
    }
}

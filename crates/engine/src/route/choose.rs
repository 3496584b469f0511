//! Chooses the virtual host by name and the first route that matches.

use super::matching::{self, Asked};
use crate::head::Head;
use model::route::{Domains, Forward, Route, RouteTable, Target, VirtualCluster, VirtualHost, WeightedCluster};
use std::borrow::Cow;

/// The route a request takes.
#[derive(Clone, Copy)]
pub struct Choice<'t> {
    pub host: &'t VirtualHost,
    pub route: &'t Route,
}

/// The first matching route.
pub fn choose<'t>(table: &'t RouteTable, asked: &Asked<'_>) -> Option<Choice<'t>> {
    let host = virtual_host(table, host_name(table, asked.head))?;
    let cut = table.ignore_path_parameters;
    let matches = |route: &&Route| matching::matches(&route.matches, asked, cut);
    let path = asked.head.path_only();
    let route = match &host.index {
        Some(index) if !(cut && path.contains(&b';')) => {
            index.candidates(path).map(|place| &host.routes[place]).find(matches)
        }
        _ => host.routes.iter().find(matches),
    };
    route.map(|route| Choice { host, route })
}

/// What virtual hosts of the table are chosen by.
pub fn host_name<'h>(table: &RouteTable, head: &'h Head) -> &'h [u8] {
    match &table.host_header {
        None => head.authority(),
        Some(field) => head.get(field.as_bytes()).unwrap_or_default(),
    }
}

/// The group of requests that this one is counted with.
pub fn virtual_cluster<'t>(host: &'t VirtualHost, head: &Head) -> Option<&'t VirtualCluster> {
    host.virtual_clusters.iter().find(|one| one.headers.iter().all(|wanted| matching::header(wanted, head)))
}

/// Exact name first, then the longest suffix wildcard, the longest prefix wildcard, then `*`.
pub fn virtual_host<'t>(table: &'t RouteTable, authority: &[u8]) -> Option<&'t VirtualHost> {
    if let Domains { any: Some(index), exact, suffix, prefix } = &table.domains
        && exact.is_empty()
        && suffix.is_empty()
        && prefix.is_empty()
    {
        return Some(&table.virtual_hosts[*index]);
    }
    let mut buffer = [0u8; 256];
    let authority = if table.ignore_port_in_host { without_port(authority) } else { authority };
    let index = if authority.len() <= buffer.len() {
        let lower = &mut buffer[..authority.len()];
        lower.copy_from_slice(authority);
        lower.make_ascii_lowercase();
        lookup(&table.domains, lower)
    } else {
        lookup(&table.domains, &authority.to_ascii_lowercase())
    };
    index.map(|index| &table.virtual_hosts[index])
}

fn lookup(domains: &Domains, host: &[u8]) -> Option<usize> {
    let exact = std::str::from_utf8(host).ok().and_then(|host| domains.exact.get(host).copied());
    exact
        .or_else(|| {
            let suffix = |(text, _): &&(Box<str>, usize)| host.len() > text.len() && host.ends_with(text.as_bytes());
            domains.suffix.iter().find(suffix).map(|(_, index)| *index)
        })
        .or_else(|| {
            let prefix = |(text, _): &&(Box<str>, usize)| host.len() > text.len() && host.starts_with(text.as_bytes());
            domains.prefix.iter().find(prefix).map(|(_, index)| *index)
        })
        .or(domains.any)
}

/// `host:port` without the port; IPv6 literals keep their brackets.
pub fn without_port(authority: &[u8]) -> &[u8] {
    match memchr::memrchr(b':', authority) {
        Some(at) if authority[at + 1..].iter().all(u8::is_ascii_digit) && !ends_inside_brackets(authority, at) => {
            &authority[..at]
        }
        _ => authority,
    }
}

fn ends_inside_brackets(authority: &[u8], colon: usize) -> bool {
    authority.first() == Some(&b'[') && memchr::memchr(b']', authority).is_none_or(|close| close > colon)
}

/// The cluster a forwarding route sends to, and the weighted entry it came from.
pub fn pick_cluster<'t>(
    forward: &'t Forward,
    head: &Head,
    random: u64,
) -> Option<(Cow<'t, str>, Option<&'t WeightedCluster>)> {
    match &forward.target {
        Target::Cluster(name) => Some((Cow::Borrowed(name), None)),
        Target::ClusterHeader(header) => Some((named(head, header)?, None)),
        Target::Weighted(weighted) => {
            let given = weighted
                .header_name
                .as_ref()
                .and_then(|name| std::str::from_utf8(head.get(name.as_bytes())?).ok()?.parse::<u64>().ok());
            let mut point = given.unwrap_or(random) % weighted.total;
            for cluster in &weighted.clusters {
                if point < u64::from(cluster.weight) {
                    let name = match &cluster.name_header {
                        None => Cow::Borrowed(&*cluster.name),
                        Some(header) => named(head, header)?,
                    };
                    return Some((name, Some(cluster)));
                }
                point -= u64::from(cluster.weight);
            }
            None
        }
    }
}

fn named<'t>(head: &Head, header: &str) -> Option<Cow<'t, str>> {
    let name = head.get(header.as_bytes()).filter(|name| !name.is_empty())?;
    std::str::from_utf8(name).ok().map(|name| Cow::Owned(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::path_index::PathIndex;
    use model::route::{PathMatch, RouteMatch};
    use proptest::prelude::*;
    use regex::bytes::Regex;

    #[test]
    fn ports() {
        for (authority, wanted) in
            [("a:80", "a"), ("a", "a"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("a:b", "a:b"), ("", "")]
        {
            assert_eq!(without_port(authority.as_bytes()), wanted.as_bytes(), "{authority}");
        }
    }

    /// Paths and conditions of few letters, so that many overlap.
    fn conditions() -> impl Strategy<Value = Vec<PathMatch>> {
        let one = ("[/ab]{0,3}", 0..8).prop_map(|(text, kind)| {
            let text: Box<str> = text.into();
            match kind {
                0 => PathMatch::Regex(Regex::new(".*b").expect("a pattern")),
                1 => PathMatch::Connect,
                2 => PathMatch::Prefix { prefix: text.to_ascii_lowercase().into(), ignore_case: true },
                3 => PathMatch::SeparatedPrefix { prefix: text, ignore_case: false },
                4 | 5 => PathMatch::Exact { path: text, ignore_case: false },
                _ => PathMatch::Prefix { prefix: text, ignore_case: false },
            }
        });
        proptest::collection::vec(one, 32..80)
    }

    proptest! {
        #[test]
        fn an_index_changes_nothing(paths in conditions(), path in "/[/abAB;]{0,4}(\\?b)?", cut: bool) {
            let route = |path| Route {
                name: "".into(),
                matches: RouteMatch::at(path),
                action: model::route::Action::NonForwarding,
                edits: None,
                filters: Default::default(),
                stat_prefix: "".into(),
                body_limit: None,
            };
            let routes: Vec<Route> = paths.into_iter().map(route).collect();
            let index = PathIndex::new(&routes);
            assert!(index.is_some());
            let mut head = Head::default();
            head.set_method(b"GET");
            head.set_path(path.as_bytes());
            let asked = Asked { head: &head, tls: None, random: 0 };
            let mut table = RouteTable { ignore_path_parameters: cut, ..RouteTable::default() };
            table.domains.any = Some(0);
            table.virtual_hosts = vec![VirtualHost { routes, index, ..VirtualHost::default() }];
            let place = |table: &RouteTable| {
                let all = &table.virtual_hosts[0].routes;
                choose(table, &asked).map(|choice| all.iter().position(|route| std::ptr::eq(route, choice.route)))
            };
            let with = place(&table);
            table.virtual_hosts[0].index = None;
            assert_eq!(with, place(&table));
        }
    }

    #[test]
    fn wildcard_precedence() {
        let mut domains = Domains::default();
        domains.exact.insert("www.a.com".into(), 0);
        domains.suffix = vec![("-x.a.com".into(), 1), (".a.com".into(), 2)];
        domains.prefix = vec![("www.".into(), 3)];
        domains.any = Some(4);
        for (host, wanted) in [
            ("www.a.com", 0),
            ("q-x.a.com", 1),
            ("b.a.com", 2),
            ("www.b.org", 3),
            (".a.com", 4),
            ("www.", 4),
            ("else", 4),
        ] {
            assert_eq!(lookup(&domains, host.as_bytes()), Some(wanted), "{host}");
        }
    }
}

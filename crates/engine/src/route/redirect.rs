//! The `location` of a redirect route (`RedirectAction`).

use super::choose::without_port;
use super::rewrite;
use crate::head::Head;
use model::format::Format;
use model::route::{Redirect, RedirectPath, RedirectScheme, RouteMatch};

/// An absolute URL built from the request and the redirect's replacements. `render` evaluates a format.
pub fn location(
    redirect: &Redirect,
    matched: &RouteMatch,
    head: &Head,
    render: impl Fn(&Format) -> Vec<u8>,
) -> Vec<u8> {
    let scheme: &[u8] = match &redirect.scheme {
        RedirectScheme::Keep => head.scheme(),
        RedirectScheme::Https => b"https",
        RedirectScheme::Other(scheme) => scheme.as_bytes(),
    };
    let mut out = Vec::with_capacity(64 + head.path().len());
    out.extend_from_slice(scheme);
    out.extend_from_slice(b"://");
    authority(redirect, scheme, head, &mut out);
    path(redirect, matched, head, render, &mut out);
    out
}

/// The request's path as edits and logs of the redirect see it, where that is not what was asked for: Envoy rewrites it.
pub fn rewritten(redirect: &Redirect, matched: &RouteMatch, head: &Head) -> Option<Vec<u8>> {
    match &redirect.path {
        RedirectPath::Prefix(new) => Some(rewrite::replace_prefix(matched, head, new)),
        RedirectPath::Regex(rewrite) => {
            let mut new = rewrite::substitute(rewrite, head.path_only());
            new.extend_from_slice(&head.path()[head.path_only().len()..]);
            Some(new)
        }
        _ => None,
    }
}

fn authority(redirect: &Redirect, scheme: &[u8], head: &Head, out: &mut Vec<u8>) {
    let requested = head.authority();
    match (&redirect.host, redirect.port) {
        (Some(host), None) => out.extend_from_slice(host.as_bytes()),
        (host, Some(port)) => {
            out.extend_from_slice(host.as_ref().map_or(without_port(requested), |host| host.as_bytes()));
            out.extend_from_slice(format!(":{port}").as_bytes());
        }
        (None, None) if matches!(redirect.scheme, RedirectScheme::Keep) => out.extend_from_slice(requested),
        (None, None) if scheme == head.scheme() => out.extend_from_slice(requested),
        (None, None) => out.extend_from_slice(drop_default_port(requested, head.scheme())),
    }
}

/// When the scheme changes, the default port of the old one no longer fits.
fn drop_default_port<'a>(authority: &'a [u8], old_scheme: &[u8]) -> &'a [u8] {
    let default: &[u8] = if old_scheme == b"https" { b":443" } else { b":80" };
    authority.strip_suffix(default).unwrap_or(authority)
}

fn path(
    redirect: &Redirect,
    matched: &RouteMatch,
    head: &Head,
    render: impl Fn(&Format) -> Vec<u8>,
    out: &mut Vec<u8>,
) {
    let query = &head.path()[head.path_only().len()..];
    let kept_query: &[u8] = if redirect.strip_query { b"" } else { query };
    match &redirect.path {
        RedirectPath::Keep => {
            out.extend_from_slice(head.path_only());
            out.extend_from_slice(kept_query);
        }
        RedirectPath::Full(path) => {
            out.extend_from_slice(path.as_bytes());
            // A replacement with a query of its own replaces the request's.
            if !path.contains('?') {
                out.extend_from_slice(kept_query);
            }
        }
        RedirectPath::Formatted(format) => {
            let new = render(format);
            out.extend_from_slice(if new.is_empty() { head.path_only() } else { &new });
            if !new.contains(&b'?') {
                out.extend_from_slice(kept_query);
            }
        }
        RedirectPath::Prefix(new) => {
            let full = rewrite::replace_prefix(matched, head, new);
            let end = full.len() - if redirect.strip_query { query.len() } else { 0 };
            out.extend_from_slice(&full[..end]);
        }
        RedirectPath::Regex(rewrite) => {
            let new = rewrite::substitute(rewrite, head.path_only());
            out.extend_from_slice(if new.is_empty() { head.path_only() } else { &new });
            out.extend_from_slice(kept_query);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::route::PathMatch;

    #[test]
    fn locations() {
        let mut head = Head::default();
        head.set_scheme(b"http");
        head.set_authority(b"shop:80");
        head.set_path(b"/old/x?q=1");
        let matched = RouteMatch::at(PathMatch::Prefix { prefix: "/old".into(), ignore_case: false });
        let base = || Redirect { status: 301, ..Redirect::default() };
        let cases = [
            (Redirect { scheme: RedirectScheme::Https, ..base() }, "https://shop/old/x?q=1"),
            (Redirect { scheme: RedirectScheme::Other("ftp".into()), ..base() }, "ftp://shop/old/x?q=1"),
            (Redirect { scheme: RedirectScheme::Other("http".into()), ..base() }, "http://shop:80/old/x?q=1"),
            (Redirect { host: Some("new".into()), ..base() }, "http://new/old/x?q=1"),
            (Redirect { port: Some(8080), ..base() }, "http://shop:8080/old/x?q=1"),
            (Redirect { path: RedirectPath::Full("/y".into()), ..base() }, "http://shop:80/y?q=1"),
            (Redirect { path: RedirectPath::Full("/y?z".into()), ..base() }, "http://shop:80/y?z"),
            (Redirect { path: RedirectPath::Formatted(Format::literal("x")), ..base() }, "http://shop:80/f?q=1"),
            (
                Redirect { path: RedirectPath::Prefix("/new".into()), strip_query: true, ..base() },
                "http://shop:80/new/x",
            ),
        ];
        for (redirect, wanted) in cases {
            assert_eq!(String::from_utf8(location(&redirect, &matched, &head, |_| b"/f".to_vec())).unwrap(), wanted);
        }
    }
}

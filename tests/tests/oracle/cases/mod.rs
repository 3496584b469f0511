//! The cases, as tables by subject: listener, name, bytes to send.

pub(crate) mod connect;
pub(crate) mod follow;
pub(crate) mod heads;
pub(crate) mod health;
pub(crate) mod limited;
pub(crate) mod manager;
pub(crate) mod matching;
pub(crate) mod options;
pub(crate) mod protocol;
pub(crate) mod routes;
pub(crate) mod web;

use tests::ask::Ask;

/// How requests and answers travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// HTTP/1.1 on both sides.
    Http1,
    /// HTTP/2 from the client.
    Http2(Ask),
    /// HTTP/2 to the upstreams.
    Http2Upstream,
}

/// One exchange with both proxies.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) listener: &'static str,
    /// `{PORT}` is the listener's port.
    pub(crate) raw: Vec<u8>,
    /// Requests in `raw`, so answers to wait for.
    pub(crate) requests: usize,
    /// Something goes on after the answer: wait a moment for the backends to see it.
    pub(crate) settle: bool,
    pub(crate) over: Over,
}

pub(crate) fn case(listener: &'static str, name: &str, raw: impl Into<Vec<u8>>) -> Case {
    Case {
        name: format!("{listener}/{name}"),
        listener,
        raw: raw.into(),
        requests: 1,
        settle: false,
        over: Over::Http1,
    }
}

/// A GET with `Host: test` and more header lines.
pub(crate) fn get(listener: &'static str, path: &str, headers: &[&str]) -> Case {
    let mut name = path.to_string();
    for header in headers {
        name.push(' ');
        name.push_str(header);
    }
    case(listener, &name, request("GET", path, "test", headers, ""))
}

pub(crate) fn request(method: &str, path: &str, host: &str, headers: &[&str], body: &str) -> String {
    let mut raw = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
    for header in headers {
        raw.push_str(header);
        raw.push_str("\r\n");
    }
    raw + "\r\n" + body
}

/// Listeners whose cases say the same in HTTP/2.
const ALSO_FROM_HTTP2: &[&str] = &[
    "routes",
    "edits",
    "rewrites",
    "redirects",
    "hosts",
    "failures",
    "resilience",
    "filters",
    "edge",
    "trusting",
    "matching",
    "follow",
    "mapped",
    "mapped_json",
    "early",
    "limited",
    "limited_wins",
    "web",
    "health",
];

/// Listeners whose cases go to HTTP/2 upstreams too.
const ALSO_TO_HTTP2: &[&str] =
    &["routes", "edits", "rewrites", "failures", "resilience", "filters", "follow", "limited", "web"];

pub(crate) fn all() -> Vec<Case> {
    let subjects = [
        routes::all(),
        heads::all(),
        protocol::all(),
        options::all(),
        matching::all(),
        follow::all(),
        manager::all(),
        limited::all(),
        connect::all(),
        web::all(),
        health::all(),
        crate::resilience::all(),
        crate::filters::all(),
    ];
    let plain: Vec<Case> = subjects.into_iter().flatten().collect();
    let from = plain.iter().filter(|case| case.requests == 1 && ALSO_FROM_HTTP2.contains(&case.listener));
    let from: Vec<Case> = from.filter_map(from_http2).collect();
    let to = plain.iter().filter(|case| case.requests == 1 && ALSO_TO_HTTP2.contains(&case.listener));
    let to: Vec<Case> = to.map(to_http2).collect();
    [plain, from, to].into_iter().flatten().collect()
}

fn from_http2(case: &Case) -> Option<Case> {
    let ask = Ask::parse(&case.raw)?;
    Some(Case { name: format!("from h2: {}", case.name), over: Over::Http2(ask), ..case.clone() })
}

fn to_http2(case: &Case) -> Case {
    Case { name: format!("to h2: {}", case.name), over: Over::Http2Upstream, ..case.clone() }
}

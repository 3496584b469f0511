//! The cases, as tables: listener, name, bytes to send.

/// One exchange with both proxies.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) listener: &'static str,
    /// `{PORT}` is the listener's port.
    pub(crate) raw: Vec<u8>,
    /// Requests in `raw`, so answers to wait for.
    pub(crate) requests: usize,
    /// Something goes on after the answer: wait a moment for the backends to see it.
    pub(crate) settle: bool,
}

pub(crate) fn case(listener: &'static str, name: &str, raw: impl Into<Vec<u8>>) -> Case {
    Case { name: format!("{listener}/{name}"), listener, raw: raw.into(), requests: 1, settle: false }
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

pub(crate) fn all() -> Vec<Case> {
    [
        routes(),
        hosts(),
        edits(),
        rewrites(),
        redirects(),
        bodies(),
        protocol(),
        malformed(),
        options(),
        failures(),
        limits(),
        crate::resilience::all(),
        crate::filters::all(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn routes() -> Vec<Case> {
    let paths = [
        "/exact",
        "/exact?q=1",
        "/exact/",
        "/Exact",
        "/case",
        "/CASE",
        "/Case?x",
        "/sep",
        "/sep/",
        "/sep/x",
        "/separate",
        "/sep?q",
        "/re/12",
        "/re/",
        "/re/12x",
        "/re/12?q=3",
        "/re2/x",
        "/re2/yes/no",
        "/re2/z",
        "/pre",
        "/PREfix",
        "/prEsent",
        "/h/",
        "/absent/",
        "/both/",
        "/missing/",
        "/inv/",
        "/grpc",
        "/grpc/",
        "/grpcx",
        "/w0",
        "/w1",
        "/ch",
        "/nothing",
        "/",
        "/q/?e=1",
        "/q/?e=2",
        "/q/?e=1&e=2",
        "/q/?e=2&e=1",
        "/q/?p",
        "/q/?p=",
        "/q/?p=anything",
        "/q/?r=abc",
        "/q/?r=abcd",
        "/q/?r=",
        "/q/?x=1&p",
        "/q/?%65=1",
        "/q/",
        "/q",
        "/pq?x",
        "/pq",
        "//exact",
        "/exact/../exact",
        "/method/",
        "/sep%2Fx",
        "/exact;v=1",
        "/%65xact",
        "/nocluster",
    ];
    let with_headers: [(&str, &[&str]); 42] = [
        ("/h/", &["x-e: two", "x-e: one"]),
        ("/h/", &["x-e: one,two"]),
        ("/h/", &["x-p: zz", "x-p: ab"]),
        ("/h/", &["x-s: yz", "x-s: q"]),
        ("/h/", &["x-r: aab", "x-r: q"]),
        ("/h/", &["x-n: 100", "x-n: 7"]),
        ("/h/", &["x-e: one"]),
        ("/h/", &["X-E: one"]),
        ("/h/", &["x-e: One"]),
        ("/h/", &["x-e: one", "x-e: two"]),
        ("/h/", &["x-e:   one  "]),
        ("/h/", &["x-p: abc"]),
        ("/h/", &["x-p: ab"]),
        ("/h/", &["x-p: a"]),
        ("/h/", &["x-s: xyz"]),
        ("/h/", &["x-s: yzx"]),
        ("/h/", &["x-c: amidst"]),
        ("/h/", &["x-c: mi d"]),
        ("/h/", &["x-i: mixed"]),
        ("/h/", &["x-i: MIXED"]),
        ("/h/", &["x-r: aab"]),
        ("/h/", &["x-r: aabb"]),
        ("/h/", &["x-n: 5"]),
        ("/h/", &["x-n: 9"]),
        ("/h/", &["x-n: 10"]),
        ("/h/", &["x-n: -5"]),
        ("/h/", &["x-n: five"]),
        ("/h/", &["x-n: 7.5"]),
        ("/h/", &["x-there:"]),
        ("/h/", &["x-there: x"]),
        ("/inv/", &["x-v: no"]),
        ("/inv/", &["x-v: yes"]),
        ("/absent/", &["x-a: 1"]),
        ("/missing/", &["x-m: 1"]),
        ("/missing/", &["x-m:"]),
        ("/both/", &["x-1: 1"]),
        ("/both/", &["x-1: 1", "x-2: 2"]),
        ("/grpc/", &["content-type: application/grpc"]),
        ("/grpc/", &["content-type: application/grpc+proto"]),
        ("/grpc/", &["content-type: application/grpc-web"]),
        ("/ch", &["x-cluster: b"]),
        ("/nocluster", &["x-cluster: unknown"]),
    ];
    let mut cases: Vec<Case> = paths.iter().map(|path| get("routes", path, &[])).collect();
    cases.extend(with_headers.iter().map(|(path, headers)| get("routes", path, headers)));
    cases.push(get("routes", "/ch", &["x-cluster: unknown"]));
    for method in ["POST", "PUT", "OPTIONS", "DELETE", "PATCH", "TRACE", "PROPFIND"] {
        cases.push(case("routes", &format!("{method} /method/"), request(method, "/method/", "test", &[], "")));
    }
    let hosts = [
        "test",
        "TEST",
        "test:80",
        "test:{PORT}",
        "test.",
        "a.wild.example",
        "b.a.wild.example",
        "q-x.wild.example",
        "wild.example",
        ".wild.example",
        "other.example",
        "example",
        "api.foo",
        "api.",
        "API.x",
        "xapi.foo",
        "ported",
        "ported:8080",
        "ported:80",
        "upper.case",
        "UPPER.CASE",
        "empty.host",
        "unknown",
        "a.wild.example:80",
    ];
    cases.extend(
        hosts.iter().map(|host| case("routes", &format!("host {host}"), request("GET", "/exact", host, &[], ""))),
    );
    cases
}

fn hosts() -> Vec<Case> {
    ["shop", "shop:80", "shop:{PORT}", "SHOP:1", "shop:", "[::1]:80", "[::1]", "127.0.0.1:9", "other:7"]
        .iter()
        .map(|host| case("hosts", &format!("host {host}"), request("GET", "/", host, &[], "")))
        .collect()
}

fn edits() -> Vec<Case> {
    let mut cases = vec![
        get("edits", "/append", &[]),
        get("edits", "/append", &["x-one: old", "x-two: old", "x-three: old", "x-four: old"]),
        get("edits", "/append", &["x-three: a", "x-three: b", "x-four: a", "x-four: b", "X-Two: a"]),
        get("edits", "/append", &["x-answer: header=x-one:old;header=x-two:old;header=x-three:old;header=x-four:old"]),
        get("edits", "/remove", &["x-drop: 1", "X-Drop: 2", "x-keep: 3", "User-Agent: me", "x-drop-host: 4"]),
        get("edits", "/remove", &["x-answer: header=x-gone:1;header=x-stays:2;header=x-gone-table:3"]),
        get("edits", "/order", &[]),
        get("edits", "/order", &["x-order: client"]),
        get("edits", "/weighted", &["x-drop: 1"]),
        get("edits", "/format", &["x-in: abcdef"]),
        get("edits", "/format?q=1", &[]),
        get("edits", "/direct", &[]),
        get("edits", "/redirect", &[]),
        get("edits", "/fail", &[]),
        get("edits", "/other", &["x-answer: header=x-order:backend"]),
        get("edits", "/unknown", &["x-answer: header=Server:mine;header=Date:yesterday;header=Via:else"]),
        get("edits", "/hop", &["x-answer: header=Connection:close;header=Keep-Alive:timeout=5"]),
        get("edits", "/hop2", &["x-answer: header=Connection:X-Named;header=X-Named:1;header=Proxy-Connection:close"]),
    ];
    cases.push(case(
        "edits",
        "POST /format",
        request("POST", "/format", "other:99", &["x-in: 1", "Content-Length: 2"], "hi"),
    ));
    cases
}

fn rewrites() -> Vec<Case> {
    let paths = [
        "/old/",
        "/old/x?q=1",
        "/old",
        "/strip",
        "/strip/x",
        "/stripped",
        "/strip?q",
        "/one",
        "/one?q",
        "/sep",
        "/sep/x",
        "/ci/x",
        "/Ci/X",
        "/re/a/b",
        "/re/a/b/c?q=1",
        "/re/a",
        "/all/foo/o",
        "/all/x?o=o",
        "/host/lit",
        "/host/auto",
        "/host/path/abc/d",
        "/host/path/",
        "/host/xfh",
        "/host/hdr",
        "/attempts",
    ];
    let mut cases: Vec<Case> = paths.iter().map(|path| get("rewrites", path, &[])).collect();
    cases.push(get("rewrites", "/host/hdr", &["x-host: from.header"]));
    cases.push(get("rewrites", "/host/hdr", &["x-host:"]));
    cases.push(get("rewrites", "/host/xfh", &["x-forwarded-host: before"]));
    cases.push(get("rewrites", "/old/y", &["x-envoy-original-path: /forged"]));
    cases.push(case("rewrites", "counted", request("GET", "/", "counted", &[], "")));
    cases.push(case("rewrites", "counted forged", request("GET", "/", "counted", &["x-envoy-attempt-count: 7"], "")));
    cases
}

fn redirects() -> Vec<Case> {
    let paths = [
        "/host",
        "/host/x?q=1",
        "/path",
        "/path/y?q=1",
        "/qfix?q=1",
        "/qfix",
        "/pre/",
        "/pre/x?q=1",
        "/rx/a/b?q=1",
        "/https",
        "/https/x?q=1",
        "/scheme/x",
        "/port/x",
        "/hp/x?y",
        "/c302",
        "/c303",
        "/c307",
        "/c308",
        "/strip?q=1",
        "/keepstrip/x?q=1",
        "/d200",
        "/d204",
        "/d418",
        "/d503",
        "/dempty",
        "/none",
    ];
    let mut cases: Vec<Case> = paths.iter().map(|path| get("redirects", path, &[])).collect();
    for (host, path) in [
        ("test:80", "/https"),
        ("test:443", "/https"),
        ("test:8080", "/https"),
        ("test:80", "/port"),
        ("[::1]:80", "/port"),
        ("tls.only", "/x?q"),
        ("tls.only:80", "/x"),
        ("tls.external", "/x"),
    ] {
        cases.push(case("redirects", &format!("{host}{path}"), request("GET", path, host, &[], "")));
    }
    cases.push(get("redirects", "/https", &["x-forwarded-proto: https"]));
    cases.push(case("redirects", "tls.only https", request("GET", "/", "tls.only", &["x-forwarded-proto: https"], "")));
    for (method, path) in [("HEAD", "/d200"), ("HEAD", "/host"), ("POST", "/d200"), ("POST", "/c307")] {
        cases.push(case("redirects", &format!("{method} {path}"), request(method, path, "test", &[], "")));
    }
    cases
}

fn bodies() -> Vec<Case> {
    let post =
        |name: &str, headers: &[&str], body: &str| case("plain", name, request("POST", "/body", "test", headers, body));
    let big = "y".repeat(1_000_000);
    let big_length = format!("Content-Length: {}", big.len());
    let chunked_big = format!("{:x}\r\n{big}\r\n0\r\n\r\n", big.len());
    let chunked = "Transfer-Encoding: chunked";
    vec![
        post("post length", &["Content-Length: 5"], "hello"),
        post("post zero", &["Content-Length: 0"], ""),
        post("post no length", &[], ""),
        post("post chunked", &[chunked], "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"),
        post("post chunked empty", &[chunked], "0\r\n\r\n"),
        post("post chunk extension", &[chunked], "5;a=b\r\nhello\r\n0\r\n\r\n"),
        post("post chunked trailers", &[chunked, "Trailer: x-t"], "5\r\nhello\r\n0\r\nx-t: 1\r\n\r\n"),
        post("post chunked upper", &["Transfer-Encoding: CHUNKED"], "A\r\n0123456789\r\n0\r\n\r\n"),
        post("post chunk leading zeros", &[chunked], "0005\r\nhello\r\n0\r\n\r\n"),
        post("post big", &[&big_length], &big),
        post("post big chunked", &[chunked], &chunked_big),
        post("expect", &["Expect: 100-continue", "Content-Length: 2"], "hi"),
        post("expect chunked", &["Expect: 100-continue", chunked], "2\r\nhi\r\n0\r\n\r\n"),
        post("response chunked", &["Content-Length: 0", "x-answer: chunked;body=abc"], ""),
        post("response empty chunked", &["Content-Length: 0", "x-answer: chunked;body="], ""),
        post("response until close", &["Content-Length: 0", "x-answer: close;body=abc"], ""),
        post("response empty", &["Content-Length: 0", "x-answer: body="], ""),
        post("response big", &["Content-Length: 0", "x-answer: size=1000000"], ""),
        post("response big chunked", &["Content-Length: 0", "x-answer: size=1000000;chunked"], ""),
        post("response 204", &["Content-Length: 0", "x-answer: status=204"], ""),
        post("response 304", &["Content-Length: 0", "x-answer: status=304;body=abc"], ""),
        post("response 404", &["Content-Length: 0", "x-answer: status=404;body=none"], ""),
        post("response 500", &["Content-Length: 0", "x-answer: status=500;body=bad"], ""),
        post("response 599", &["Content-Length: 0", "x-answer: status=599"], ""),
        post("response interim", &["Content-Length: 0", "x-answer: interim;body=after"], ""),
        case("plain", "head", request("HEAD", "/", "test", &[], "")),
        case("plain", "head chunked", request("HEAD", "/", "test", &["x-answer: chunked"], "")),
        case("plain", "get with body", request("GET", "/", "test", &["Content-Length: 3"], "abc")),
        case("plain", "delete with body", request("DELETE", "/", "test", &["Content-Length: 3"], "abc")),
        case("plain", "put chunked", request("PUT", "/", "test", &[chunked], "3\r\nabc\r\n0\r\n\r\n")),
    ]
}

fn protocol() -> Vec<Case> {
    let two = |second: &str| format!("{}{second}", request("GET", "/first", "test", &[], ""));
    let mut cases = vec![
        get("plain", "/close", &["Connection: close"]),
        get("plain", "/close", &["Connection: Close"]),
        get("plain", "/ka", &["Connection: keep-alive"]),
        get("plain", "/ka", &["Keep-Alive: timeout=5", "Proxy-Connection: keep-alive"]),
        get("plain", "/hop", &["Connection: x-hop", "x-hop: 1"]),
        get("plain", "/hop", &["Connection: x-hop, close", "x-hop: 1"]),
        get("plain", "/te", &["TE: trailers"]),
        get("plain", "/te", &["TE: gzip"]),
        get("plain", "/te", &["TE: trailers, deflate", "Connection: TE"]),
        get("plain", "/trailer", &["Trailer: x"]),
        get("plain", "/upgrade", &["Connection: Upgrade", "Upgrade: unknown"]),
        get("plain", "/upgrade", &["Upgrade: websocket"]),
        get(
            "plain",
            "/h2c",
            &["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"],
        ),
        get("plain", "/ws", &["Connection: Upgrade", "Upgrade: websocket", "x-answer: status=403;body=no"]),
        get("plain", "/id", &["x-request-id: mine"]),
        get("plain", "/id", &["x-request-id: 00000000-0000-4000-8000-000000000000"]),
        get("plain", "/xff", &["x-forwarded-for: 1.2.3.4"]),
        get("plain", "/xff", &["x-forwarded-for: 1.2.3.4, 5.6.7.8", "x-forwarded-proto: https"]),
        get("plain", "/xfp", &["x-forwarded-proto: ftp"]),
        get("plain", "/xfp", &["x-forwarded-proto: HTTPS"]),
        get("plain", "/xfh", &["x-forwarded-host: a", "x-forwarded-port: 99"]),
        get("plain", "/internal", &["x-envoy-internal: true", "x-envoy-force-trace: 1"]),
        get("plain", "/expected", &["x-envoy-expected-rq-timeout-ms: 5"]),
        get("plain", "/cookies", &["Cookie: a=1", "Cookie: b=2"]),
        get("plain", "/many", &["x-a: 1", "x-b: 2", "X-A: 3", "x-empty:"]),
        get("plain", "/latin", &["x-tab: a\tb"]),
        get("plain", "/a?b=c#", &[]),
        get("plain", "/a?b=%23&c=%00", &[]),
        get("plain", "/a%20b", &[]),
        get("plain", "/..", &[]),
        get("plain", "/a?b?c", &[]),
        get("plain", "http://abs.example/path?q", &[]),
        get("plain", "http://abs.example:8080", &[]),
        get("plain", "http://abs.example?q", &[]),
        get("plain", "https://abs.example/s", &[]),
        get("plain", "HTTP://Upper.Example/", &[]),
        get("plain", "http://", &[]),
        get("plain", "ftp://abs.example/", &[]),
        get("plain", "*", &[]),
        case("plain", "options star", request("OPTIONS", "*", "test", &[], "")),
        case("plain", "connect", "CONNECT test:443 HTTP/1.1\r\nHost: test:443\r\n\r\n"),
        case("plain", "method odd", request("FOO!", "/", "test", &[], "")),
        case("plain", "host empty", "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
        case("plain", "host with user", request("GET", "/", "user@test", &[], "")),
        case("plain", "leading blank line", format!("\r\n{}", request("GET", "/", "test", &[], ""))),
        case("plain", "name case", "GET / HTTP/1.1\r\nhOsT: test\r\nX-MiXeD: Value\r\n\r\n"),
        case("plain", "value spaces", "GET / HTTP/1.1\r\nHost: test\r\nx-v: \t  a b  \t\r\n\r\n"),
        case("http10", "get", "GET / HTTP/1.0\r\nHost: test\r\n\r\n"),
        case("http10", "no host", "GET / HTTP/1.0\r\n\r\n"),
        case("http10", "keep-alive", "GET / HTTP/1.0\r\nHost: test\r\nConnection: keep-alive\r\n\r\n"),
        case("http10", "chunked answer", "GET / HTTP/1.0\r\nHost: test\r\nx-answer: chunked;body=abc\r\n\r\n"),
        case("http10", "post", "POST / HTTP/1.0\r\nHost: test\r\nContent-Length: 2\r\n\r\nhi"),
        case("http10", "eleven", request("GET", "/", "test", &[], "")),
        case("plain", "ten refused", "GET / HTTP/1.0\r\nHost: test\r\n\r\n"),
    ];
    let mut pipelined = case("plain", "pipelined", two(&request("GET", "/second", "test", &[], "")));
    pipelined.requests = 2;
    cases.push(pipelined);
    let mut after_post = case(
        "plain",
        "pipelined after body",
        format!(
            "{}{}",
            request("POST", "/1", "test", &["Content-Length: 3"], "abc"),
            request("GET", "/2", "test", &[], "")
        ),
    );
    after_post.requests = 2;
    cases.push(after_post);
    cases
}

fn malformed() -> Vec<Case> {
    let post = |name: &str, headers: &str, body: &str| {
        case("plain", &format!("bad {name}"), format!("POST / HTTP/1.1\r\nHost: test\r\n{headers}\r\n{body}"))
    };
    let raw = |name: &str, raw: &str| case("plain", &format!("bad {name}"), raw.to_string());
    let chunked = "Transfer-Encoding: chunked\r\n";
    let mut cases = vec![
        post("length and chunked", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        post("chunked and length", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        post("lengths differ", "Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
        post("lengths equal", "Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        post("length list", "Content-Length: 5, 5\r\n", "hello"),
        post("length plus", "Content-Length: +5\r\n", "hello"),
        post("length minus", "Content-Length: -5\r\n", "hello"),
        post("length hex", "Content-Length: 0x5\r\n", "hello"),
        post("length empty", "Content-Length:\r\n", ""),
        post("length huge", "Content-Length: 99999999999999999999\r\n", ""),
        post("length space", "Content-Length: 5 5\r\n", "hello"),
        post("coding gzip", "Transfer-Encoding: gzip\r\n", ""),
        post("coding gzip chunked", "Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        post("coding chunked twice", "Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
        post("coding two fields", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        post("coding identity", "Transfer-Encoding: identity\r\n", ""),
        post("coding unknown", "Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        post("coding quoted", "Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"),
        post("coding tab", "Transfer-Encoding:\tchunked\r\n", "0\r\n\r\n"),
        post("chunk letters", chunked, "xyz\r\nhello\r\n0\r\n\r\n"),
        post("chunk negative", chunked, "-5\r\nhello\r\n0\r\n\r\n"),
        post("chunk 0x", chunked, "0x5\r\nhello\r\n0\r\n\r\n"),
        post("chunk too long", chunked, "fffffffffffffffff\r\nhello\r\n"),
        post("chunk bare lf", chunked, "5\nhello\r\n0\r\n\r\n"),
        post("chunk data no crlf", chunked, "5\r\nhelloX\r\n0\r\n\r\n"),
        post("chunk empty size", chunked, "\r\nhello\r\n0\r\n\r\n"),
        post("chunk space", chunked, " 5\r\nhello\r\n0\r\n\r\n"),
        raw("bare lf line", "GET / HTTP/1.1\nHost: test\n\n"),
        raw("bare lf header", "GET / HTTP/1.1\r\nHost: test\r\nx: 1\ny: 2\r\n\r\n"),
        raw("bare cr", "GET / HTTP/1.1\r\nHost: test\r\nx: a\rb\r\n\r\n"),
        raw("fold", "GET / HTTP/1.1\r\nHost: test\r\nx: a\r\n b\r\n\r\n"),
        raw("fold first", "GET / HTTP/1.1\r\n Host: test\r\nx: a\r\n\r\n"),
        raw("space before colon", "GET / HTTP/1.1\r\nHost : test\r\n\r\n"),
        raw("space in name", "GET / HTTP/1.1\r\nHost: test\r\nx y: 1\r\n\r\n"),
        raw("no colon", "GET / HTTP/1.1\r\nHost: test\r\nnonsense\r\n\r\n"),
        raw("empty name", "GET / HTTP/1.1\r\nHost: test\r\n: x\r\n\r\n"),
        raw("nul in value", "GET / HTTP/1.1\r\nHost: test\r\nx: a\0b\r\n\r\n"),
        raw("nul in name", "GET / HTTP/1.1\r\nHost: test\r\nx\0: a\r\n\r\n"),
        raw("control in value", "GET / HTTP/1.1\r\nHost: test\r\nx: a\x01b\r\n\r\n"),
        raw("no host", "GET / HTTP/1.1\r\n\r\n"),
        raw("two hosts", "GET / HTTP/1.1\r\nHost: test\r\nHost: other\r\n\r\n"),
        raw("two hosts equal", "GET / HTTP/1.1\r\nHost: test\r\nHost: test\r\n\r\n"),
        raw("version 0.9", "GET /\r\n\r\n"),
        raw("version 1.2", "GET / HTTP/1.2\r\nHost: test\r\n\r\n"),
        raw("version 2.0", "GET / HTTP/2.0\r\nHost: test\r\n\r\n"),
        raw("version case", "GET / http/1.1\r\nHost: test\r\n\r\n"),
        raw("version junk", "GET / HTTP/1.1x\r\nHost: test\r\n\r\n"),
        raw("two spaces", "GET  / HTTP/1.1\r\nHost: test\r\n\r\n"),
        raw("no target", "GET HTTP/1.1\r\nHost: test\r\n\r\n"),
        raw("space in target", "GET /a b HTTP/1.1\r\nHost: test\r\n\r\n"),
        raw("relative target", "GET a/b HTTP/1.1\r\nHost: test\r\n\r\n"),
        raw("fragment", "GET /a#b HTTP/1.1\r\nHost: test\r\n\r\n"),
        raw("preface", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"),
        raw("tls hello", "\x16\x03\x01\x02\r\n\r\n"),
        raw("garbage", "this is not http\r\n\r\n"),
        raw("host with slash", "GET / HTTP/1.1\r\nHost: te/st\r\n\r\n"),
        raw("host with space", "GET / HTTP/1.1\r\nHost: te st\r\n\r\n"),
    ];
    cases.push(case("plain", "bad utf8 path", b"GET /\xff\xfe HTTP/1.1\r\nHost: test\r\n\r\n".to_vec()));
    cases.push(case("plain", "obs-text value", b"GET / HTTP/1.1\r\nHost: test\r\nx: \xe9t\xe9\r\n\r\n".to_vec()));
    cases
}

fn options() -> Vec<Case> {
    let mut cases = Vec::new();
    for path in [
        "/a/../b",
        "/a/./b",
        "/../x",
        "/a//b",
        "/a%2fb",
        "/a%2Fb",
        "/%61",
        "/a%",
        "/a%zz",
        "/a\\b",
        "/a/..?x=/../y",
        "/%2e%2e/x",
        "/a;b/../c",
    ] {
        cases.push(get("normalize", path, &[]));
    }
    for path in ["//a///b", "/a//../b", "/a?x=//"] {
        cases.push(get("merge", path, &[]));
    }
    for listener in ["slash_reject", "slash_redirect", "slash_forward"] {
        for path in ["/a%2Fb", "/a%5cb?q=%2F", "/plain"] {
            cases.push(get(listener, path, &[]));
        }
    }
    for listener in ["underscore_reject", "underscore_drop"] {
        cases.push(get(listener, "/", &["x_y: 1", "x-z: 2"]));
        cases.push(get(listener, "/", &["x-z: 2"]));
    }
    for listener in ["server_pass", "server_append"] {
        cases.push(get(listener, "/", &[]));
        cases.push(get(listener, "/", &["x-answer: header=Server:theirs"]));
    }
    cases.push(get("server_pass", "/", &["x-forwarded-for: 1.1.1.1, 2.2.2.2"]));
    let edge: [&[&str]; 9] = [
        &[],
        &["x-forwarded-for: 9.9.9.9"],
        &["x-forwarded-for: 9.9.9.9, 8.8.8.8", "x-forwarded-proto: https"],
        &["x-envoy-internal: true"],
        &["x-request-id: mine"],
        &["x-envoy-retry-on: 5xx", "x-envoy-max-retries: 5", "x-envoy-upstream-rq-timeout-ms: 99"],
        &["via: 1.1 before"],
        &["x-answer: header=Via:1.1 upstream"],
        &["x-forwarded-client-cert: Hash=forged"],
    ];
    cases.extend(edge.iter().map(|headers| get("edge", "/", headers)));
    cases.push(case(
        "tcp",
        "passes bytes",
        request("GET", "/raw", "test", &["Connection: close", "x-answer: close"], ""),
    ));
    cases.push(case(
        "tcp",
        "passes odd bytes",
        "POST /raw HTTP/1.1\r\nhost: test\r\nX-Odd:  a  \r\nContent-Length: 3\r\n\r\nabc",
    ));
    cases
}

fn failures() -> Vec<Case> {
    let mut cases = vec![
        get("failures", "/gone", &[]),
        get("failures", "/gone", &["content-type: application/grpc"]),
        get("failures", "/empty", &[]),
        get("failures", "/empty", &["content-type: application/grpc"]),
        get("failures", "/quick", &["x-answer: delay-ms=600"]),
        get("failures", "/quick", &["x-answer: delay-ms=600", "content-type: application/grpc"]),
        get("failures", "/quick", &[]),
        get("failures", "/idle", &["x-answer: delay-ms=600"]),
        get("failures", "/never", &[]),
        get("failures", "/reset", &["x-answer: reset"]),
        get("failures", "/garbage", &["x-answer: garbage"]),
        get("failures", "/cut", &["x-answer: cut"]),
        get("failures", "/none", &["content-type: application/grpc", "x-answer: status=404"]),
        get("failures", "/r5xx", &["x-answer: status=503"]),
        get("failures", "/r5xx", &["x-answer: status=404"]),
        get("failures", "/r5xx", &["x-answer: reset"]),
        get("failures", "/rgw", &["x-answer: status=502"]),
        get("failures", "/rgw", &["x-answer: status=500"]),
        get("failures", "/rreset", &["x-answer: reset"]),
        get("failures", "/rreset", &["x-answer: status=503"]),
        get("failures", "/rcodes", &["x-answer: status=418"]),
        get("failures", "/rcodes", &["x-answer: status=429"]),
        get("failures", "/rcodes", &["x-answer: status=503"]),
        get("failures", "/r4xx", &["x-answer: status=409"]),
        get("failures", "/r4xx", &["x-answer: status=404"]),
        get("failures", "/rhdr", &["x-answer: status=200;header=x-again:1"]),
        get("failures", "/rhdr", &[]),
        get("failures", "/rconn", &[]),
        get("failures", "/rtry", &["x-answer: delay-ms=500"]),
        get("failures", "/rmatch", &["x-answer: status=503"]),
        get("failures", "/rmatch", &["x-answer: status=503", "x-retry: 1"]),
        get("failures", "/r5xx", &["x-answer: status=503;header=x-envoy-overloaded:true"]),
    ];
    let post = |name: &str, path: &str, headers: &[&str], body: &str| {
        case("failures", name, request("POST", path, "test", headers, body))
    };
    cases.push(post("post retried with body", "/r5xx", &["x-answer: status=503", "Content-Length: 5"], "hello"));
    cases.push(post(
        "post chunked retried",
        "/r5xx",
        &["x-answer: status=503", "Transfer-Encoding: chunked"],
        "5\r\nhello\r\n0\r\n\r\n",
    ));
    cases.push(post("post reset", "/rreset", &["x-answer: reset", "Content-Length: 5"], "hello"));
    for round in 1..=4 {
        cases.push(case("failures", &format!("rmixed {round}"), request("GET", "/rmixed", "test", &[], "")));
    }
    cases
}

fn limits() -> Vec<Case> {
    let long = |size: usize| format!("x-long: {}", "z".repeat(size));
    let many = |count: usize| -> Vec<String> { (0..count).map(|number| format!("x-{number}: v")).collect() };
    let with = |name: &str, headers: Vec<String>| {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        case("limits", name, request("GET", "/", "test", &headers, ""))
    };
    vec![
        with("head fits", vec![long(4000)]),
        with("head too large", vec![long(9000)]),
        with("head far too large", vec![long(100_000)]),
        with("path too large", vec![]),
        with("fields fit", many(10)),
        with("too many fields", many(40)),
        case("limits", "long path", request("GET", &format!("/{}", "p".repeat(9000)), "test", &[], "")),
    ]
}

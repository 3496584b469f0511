//! Cases about bodies, connections and what is not HTTP.

use super::{Case, case, get, request};

pub(crate) fn all() -> Vec<Case> {
    [bodies(), protocol(), malformed()].into_iter().flatten().collect()
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

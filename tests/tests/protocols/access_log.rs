//! Access logs: the same requests through Envoy and Ripstop leave the same lines.

use crate::support::{BOTH, Proxy, cluster, http};
use serde_json::Value;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tests::backend::{Backend, Log};
use tests::client::exchange;
use tests::process::{Unused, scratch};

const ROUTES: &str = "- { match: { prefix: /old }, route: { cluster: a, prefix_rewrite: /new } }\n\
     - { match: { prefix: /gone }, route: { cluster: gone } }\n\
     - { match: { prefix: /quick }, route: { cluster: a, timeout: 0.2s } }\n\
     - { match: { prefix: /direct }, direct_response: { status: 418, body: { inline_string: tea } } }\n\
     - { match: { prefix: /to }, redirect: { path_redirect: /else } }\n\
     - { match: { prefix: /a }, route: { cluster: a } }\n";

const LOGS: &str = "access_log:\n\
     - name: default\n  typed_config: { \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: \"{FOLDER}/default.log\" }\n\
     - name: json\n  typed_config:\n    \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog\n    path: \"{FOLDER}/json.log\"\n    \
     log_format:\n      json_format:\n        method: \"%REQ(:METHOD)%\"\n        path: \"%REQ(:PATH)%\"\n        code: \"%RESPONSE_CODE%\"\n        \
     details: \"%RESPONSE_CODE_DETAILS%\"\n        flags: \"%RESPONSE_FLAGS%\"\n        received: \"%BYTES_RECEIVED%\"\n        sent: \"%BYTES_SENT%\"\n        \
     route: \"%ROUTE_NAME%\"\n        cluster: \"%UPSTREAM_CLUSTER%\"\n        upstream: \"%UPSTREAM_HOST%\"\n        attempts: \"%UPSTREAM_REQUEST_ATTEMPT_COUNT%\"\n        \
     agent: \"%REQ(USER-AGENT):6%\"\n        missing: \"%REQ(X-NONE)%\"\n        backend: \"%RESP(X-BACKEND)%\"\n        text: \"<%PROTOCOL%> %RESPONSE_CODE%\"\n        \
     machine: \"%HOSTNAME%\"\n        quoted: \"\\\"%REQ(USER-AGENT)%\\\" \\\\ %REQ(X-NONE)%\"\n        \"key \\\"\": 7\n        yes: true\n        \
     nested: { remote: \"%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%\" }\n\
     - name: stdout\n  typed_config:\n    \"@type\": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog\n    \
     log_format: { json_format: { code: \"%RESPONSE_CODE%\", path: \"%REQ(:PATH)%\", sent: \"%BYTES_SENT%\" } }\n";

const REQUESTS: [&str; 10] = [
    "GET /a HTTP/1.1\r\nHost: test\r\nUser-Agent: agent/1.0 \"quoted\"\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello",
    "HEAD /a HTTP/1.1\r\nHost: test\r\n\r\n",
    "GET /a HTTP/1.1\r\nHost: test\r\nx-answer: status=503;size=2000;chunked\r\n\r\n",
    "GET /old/x?q=1 HTTP/1.1\r\nHost: test:80\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n",
    "GET /gone HTTP/1.1\r\nHost: test\r\n\r\n",
    "GET /quick HTTP/1.1\r\nHost: test\r\nx-answer: delay-ms=500\r\n\r\n",
    "GET /direct HTTP/1.1\r\nHost: test\r\n\r\n",
    "GET /to HTTP/1.1\r\nHost: test\r\n\r\n",
    "GET /none HTTP/1.1\r\nHost: test\r\n\r\n",
];

/// The file's lines that begin so, once there are enough: logs are written in batches.
fn lines(file: &Path, begin: char) -> Vec<String> {
    let start = Instant::now();
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let lines: Vec<String> = text.lines().filter(|line| line.starts_with(begin)).map(str::to_string).collect();
        if lines.len() >= REQUESTS.len() {
            return lines;
        }
        assert!(start.elapsed() < Duration::from_secs(15), "{}: {lines:#?}", file.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The default format's time, durations and request id, which differ by nature, replaced by what they are.
fn steady(line: &str) -> String {
    let (time, rest) = line.split_once("] ").unwrap_or_else(|| panic!("{line}"));
    // [2026-01-02T03:04:05.678Z
    assert!(time.len() == 25 && time.starts_with("[20") && time.ends_with('Z'), "{time}");
    let (request, rest) = rest[1..].split_once("\" ").unwrap();
    let mut words: Vec<String> = rest.split(' ').map(str::to_string).collect();
    assert!(words[4].parse::<u32>().is_ok(), "{line}");
    words[4] = "DURATION".into();
    if words[5] != "-" {
        words[5] = "SERVICE".into();
    }
    let words: Vec<String> =
        words.into_iter().map(|word| if word.len() == 38 { "\"UUID\"".into() } else { word }).collect();
    format!("{request} {}", words.join(" "))
}

#[test]
fn the_same_lines_as_envoy() {
    let log: Log = Arc::new(Mutex::new(Vec::new()));
    let backend = Backend::start("a", &log);
    let nobody = Unused::reserve();
    let config = http(LOGS, ROUTES, &(cluster("a", backend.port, "") + &cluster("gone", nobody.port, "")));
    let logs = BOTH.map(|kind| {
        let folder = scratch(&format!("access-log-{kind:?}"));
        let proxy = Proxy::start_in(kind, &folder, &config, &[]);
        for request in REQUESTS {
            exchange(proxy.port, request.as_bytes(), 1);
        }
        let plain: Vec<String> = lines(&folder.join("default.log"), '[').iter().map(|line| steady(line)).collect();
        let parse = |line: &String| -> Value { serde_json::from_str(line).unwrap() };
        // What the process says of itself goes there too.
        let [json, stdout] =
            ["json.log", "proxy.log"].map(|name| lines(&folder.join(name), '{').iter().map(parse).collect::<Vec<_>>());
        (plain, json, stdout)
    });
    let [envoy, ours] = logs;
    for (index, request) in REQUESTS.iter().enumerate() {
        assert_eq!(ours.0[index], envoy.0[index], "{request}: ours is on the left, Envoy's on the right");
        assert_eq!(ours.1[index], envoy.1[index], "{request}: ours is on the left, Envoy's on the right");
        assert_eq!(ours.2[index], envoy.2[index], "{request}: ours is on the left, Envoy's on the right");
    }
}

//! CONNECT where it does not end in a tunnel, and what else of upgrades is declined.

use super::{Case, case, request};

pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for listener in ["connect", "connect_off"] {
        let connect = |target: &str, headers: &[&str], body: &str| {
            let name = format!("{target} {} {body}", headers.join(" "));
            case(listener, name.trim_end(), request("CONNECT", target, target, headers, body))
        };
        let hosts = ["gone", "retried", "denied", "prefix", "direct", "nowhere"].map(|host| format!("{host}.test:80"));
        cases.extend(hosts.iter().map(|host| connect(host, &[], "")));
        for status in [301, 403, 407, 503] {
            let wish = format!("x-answer: status={status}; body=no");
            cases.push(connect("next.test:80", &[&wish], ""));
            cases.push(connect("next.test:80", &["x-b: 1", &wish], ""));
            cases.push(connect("allowed.test:80", &[&wish], ""));
        }
        cases.push(connect("[::1]:80", &["x-answer: status=407"], ""));
        cases.push(connect("next.test:80", &["x-answer: status=407; chunked; body=no"], ""));
        cases.push(connect("next.test:80", &["x-answer: reset"], ""));
        cases.push(connect("next.test:80", &["Content-Length: 0", "x-answer: status=407"], ""));
        cases.push(connect("next.test:80", &["Content-Length: 3"], "abc"));
        cases.push(connect("next.test:80", &["Transfer-Encoding: chunked"], ""));
        cases.push(connect("next.test:80", &["Connection: upgrade", "Upgrade: websocket"], ""));
        cases.push(connect("next.test:80", &["x-answer: status=407"], "begun already"));
        for target in ["next.test", "next.test:", "/path", "http://next.test:80", "next.test:80/path", ":80", "[::1]"] {
            cases.push(connect(target, &[], ""));
        }
        let other = "CONNECT next.test:80 HTTP/1.1\r\nHost: other\r\nx-answer: status=407\r\n\r\n";
        cases.push(case(listener, "another host", other));
        for (method, path) in [("GET", "/"), ("POST", "/"), ("GET", "/web")] {
            let raw = request(method, path, "both.test", &["Content-Length: 0"], "");
            cases.push(case(listener, &format!("{method} {path}"), raw));
            let headers = ["Connection: upgrade", "Upgrade: websocket", "x-answer: status=403"];
            let raw = request(method, path, "both.test", &headers, "");
            cases.push(case(listener, &format!("{method} {path} upgrade"), raw));
        }
    }
    cases
}

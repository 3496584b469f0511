//! h2spec 2.2.1 in strict mode: 146 cases.

use crate::support::Proxy;
use std::process::Command;
use tests::peers;

/// The cases in which the plain-text listener does something else, and why that is right. Over TLS there is none.
const SHORT: [(&str, &str); 1] = [(
    "Sends invalid connection preface",
    "What does not start like HTTP/2 is HTTP/1 to a listener that serves both: it is answered 400 and closed.",
)];

/// Names of the cases that failed, from h2spec's own summary.
fn failed(port: u16, more: &[&str]) -> Vec<String> {
    let port = port.to_string();
    let mut arguments = vec!["-S", "-h", "127.0.0.1", "-p", &port, "-o", "5", "-P", "/up"];
    arguments.extend_from_slice(more);
    let output = Command::new(peers::h2spec()).args(&arguments).output().expect("h2spec runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, summary) = text.split_once("Failures:").unwrap_or(("", ""));
    assert!(text.contains("146 tests"), "{text}");
    let name =
        |line: &str| line.trim().strip_prefix("× ").and_then(|rest| rest.split_once(": ")).map(|(_, n)| n.to_string());
    summary.lines().filter_map(name).collect()
}

#[test]
fn prior_knowledge_and_alpn() {
    let proxy = Proxy::start("h2spec");
    let plain: Vec<&str> = SHORT.iter().map(|(name, _)| *name).collect();
    assert_eq!(failed(proxy.plain, &[]), plain);
    assert!(failed(proxy.tls, &["-t", "-k"]).is_empty());
}

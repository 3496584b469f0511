//! gRPC-Web in front of backends that speak HTTP only: conversions of heads and of errors.

use super::{Case, case, request};

/// The frame `hello`, and the same in base64.
const PLAIN: &str = "\0\0\0\0\u{5}hello";
const TEXT: &str = "AAAAAAVoZWxsbw==";

pub(crate) fn all() -> Vec<Case> {
    let types = ["", "-text", "+proto", "-text+proto", "+json", "; charset=utf-8"];
    let answers = [
        "header=content-type:application/grpc",
        "header=content-type:application/grpc;chunked",
        "header=content-type:application/grpc+proto;body=",
        "header=content-type:application/grpc;header=grpc-status:3;header=grpc-message:why;body=",
        "header=content-type:application/json",
        "status=503;body=no: 100% sure",
        "status=404;body=",
        "status=429;header=content-type:application/grpc;header=grpc-status:8;body=",
        "status=500;size=20000",
    ];
    let mut cases = Vec::new();
    for kind in types {
        let body = if kind.contains("text") { TEXT } else { PLAIN };
        let content = format!("Content-Type: application/grpc-web{kind}");
        let length = format!("Content-Length: {}", body.len());
        // The backend that is away is found before the body has come.
        let headers = [content.as_str(), "Content-Length: 0"];
        cases.push(case("web", &format!("/gone {kind}"), request("POST", "/gone", "test", &headers, "")));
        let mut add = |path: &str, more: &[&str]| {
            let headers = [&[content.as_str(), length.as_str()], more].concat();
            let name = format!("{path} {kind} {}", more.join(" "));
            cases.push(case("web", name.trim_end(), request("POST", path, "test", &headers, body)));
        };
        for accept in ["Accept: application/grpc-web-text", "Accept: application/grpc-web-text+proto", "Accept: */*"] {
            for path in ["/direct", "/moved", "/off"] {
                add(path, &[accept]);
            }
            // Base64 is made of whole frames by Envoy, which HTTP/1.1 backends here do not send; of none it makes nothing,
            // and no end.
            let framed = accept.contains("text");
            for answer in answers.iter().skip(if framed { 4 } else { 0 }) {
                add("/", &[accept, &format!("x-answer: {answer}")]);
            }
        }
        add("/", &["TE: gzip", "grpc-accept-encoding: gzip", "grpc-timeout: 1S"]);
    }
    for (name, body) in [("short", "AAAAAAVoZWxsbw="), ("wrong", "!!!!"), ("none", "")] {
        let length = format!("Content-Length: {}", body.len());
        let headers = ["Content-Type: application/grpc-web-text", &length];
        cases.push(case("web", &format!("text {name}"), request("POST", "/", "test", &headers, body)));
    }
    cases.push(case("web", "no type", request("POST", "/", "test", &["Content-Length: 2"], "hi")));
    cases.push(case("web", "get", request("GET", "/", "test", &["Content-Type: application/grpc-web"], "")));
    cases
}

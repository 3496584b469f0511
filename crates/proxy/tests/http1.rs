//! HTTP/1 through the proxy, byte by byte.

mod support;

use std::io::Write;
use support::*;

#[test]
fn keep_alive_and_header_rules() {
    let proxy = Proxy::http(echo());
    let mut stream = proxy.connect();
    for number in 0..3 {
        let request = format!(
            "GET /n/{number}?q HTTP/1.1\r\nHost: shop\r\nX-Custom: Value\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let answer = read_quiet(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\nX-Backend: echo\r\n"), "{answer}");
        assert!(
            answer.contains("x-envoy-upstream-service-time: ") && answer.contains("server: ripstop\r\n"),
            "{answer}"
        );
        assert!(
            answer.contains(&format!("GET /n/{number}?q HTTP/1.1\r\nhost: shop\r\nX-Custom: Value\r\n")),
            "{answer}"
        );
        assert!(!answer.contains("X-Hop"), "{answer}");
        assert!(answer.contains("x-request-id: ") && answer.contains("x-forwarded-proto: http"), "{answer}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let proxy = Proxy::http(echo());
    let answer =
        proxy.exchange(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let (first, second) = (answer.find("GET /1").unwrap(), answer.find("GET /2").unwrap());
    assert!(first < second, "{answer}");
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("<closed>"), "{answer}");
}

#[test]
fn heads_may_come_byte_by_byte() {
    let proxy = Proxy::http(echo());
    let mut stream = proxy.connect();
    stream.set_nodelay(true).unwrap();
    for byte in b"\r\nGET /slow HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\r\n" {
        stream.write_all(&[*byte]).unwrap();
        std::thread::yield_now();
    }
    let answer = read_until(&mut stream, "\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("GET /slow"), "{answer}");
}

#[test]
fn bodies() {
    let proxy = Proxy::http(echo());
    let answer = proxy.exchange(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert!(answer.ends_with("hello"), "{answer}");
    let answer =
        proxy.exchange(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    assert!(answer.ends_with("5\r\nhello\r\n0\r\n\r\n"), "{answer}");
    let answer = proxy.exchange(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi");
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK") && answer.ends_with("hi"), "{answer}");
    let answer = proxy.exchange(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.to_lowercase().contains("content-length: ") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn large_bodies_both_ways() {
    let proxy = Proxy::http(echo());
    let body = "x".repeat(1_000_000);
    let mut stream = proxy.connect();
    let mut writer = stream.try_clone().unwrap();
    let text = format!("POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let sender = std::thread::spawn(move || writer.write_all(text.as_bytes()).unwrap());
    let answer = read_quiet(&mut stream);
    sender.join().unwrap();
    assert!(answer.len() > 1_000_000 && answer.ends_with(&body), "{}", answer.len());
}

#[test]
fn close_delimited_and_chunked_responses() {
    let until_close = backend(|mut stream| {
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil close").unwrap();
    });
    let answer = Proxy::http(until_close).exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(
        answer.contains("transfer-encoding: chunked") && answer.ends_with("b\r\nuntil close\r\n0\r\n\r\n"),
        "{answer}"
    );
    let bodiless = backend(|mut stream| {
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    });
    let answer = Proxy::http(bodiless).exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 204 No Content\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn what_is_refused() {
    let proxy = Proxy::http(echo());
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(70_000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(150));
    for (raw, status) in [
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (&long, 431),
        (&many, 431),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", 426),
        ("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ] {
        let answer = proxy.exchange(raw.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{raw:.80?}: {answer}");
        assert!(answer.ends_with("<closed>"), "{raw:.80?}: {answer}");
    }
    // The head is fine, the body is not: nothing may reach a second request.
    let answer = proxy.exchange(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("<closed>"), "{answer}");
    assert!(!answer.contains("smuggled"), "{answer}");
}

#[test]
fn dead_and_garbled_upstreams() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let answer = Proxy::http(gone).exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("remote connection failure"), "{answer}");
    let silent = backend(|mut stream| drop(read_request(&mut stream)));
    let answer = Proxy::http(silent).exchange(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("connection termination"), "{answer}");
    let garbled = backend(|mut stream| {
        read_request(&mut stream);
        stream.write_all(b"nonsense\r\n\r\n").unwrap();
    });
    let answer = Proxy::http(garbled).exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("protocol error"), "{answer}");
}

#[test]
fn upgrades_become_tunnels() {
    let upgrading = backend(|mut stream| {
        let request = read_request(&mut stream).unwrap();
        assert!(request.to_lowercase().contains("upgrade: websocket"), "{request}");
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhi")
            .unwrap();
        let mut space = [0; 4];
        std::io::Read::read_exact(&mut stream, &mut space).unwrap();
        stream.write_all(&space).unwrap();
    });
    let proxy = Proxy::http(upgrading);
    let mut stream = proxy.connect();
    stream.write_all(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").unwrap();
    stream.write_all(b"ping").unwrap();
    let answer = read_quiet(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    assert!(answer.contains("\r\n\r\nhiping") && answer.ends_with("<closed>"), "{answer}");
    let denied = proxy.exchange(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n");
    assert!(denied.starts_with("HTTP/1.1 403 "), "{denied}");
}

#[test]
fn a_connection_closed_while_idle_is_not_an_error() {
    let one_shot = backend(|mut stream| {
        if read_request(&mut stream).is_some() {
            // Promises keep-alive and closes.
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let proxy = Proxy::http(one_shot);
    let mut stream = proxy.connect();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    for _ in 0..20 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let answer = read_until(&mut stream, "\r\n\r\nok");
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
}

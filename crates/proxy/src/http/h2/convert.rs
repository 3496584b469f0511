//! Heads between the `http` crate's types and ours (RFC 9113 section 8.3).

use engine::head::{Head, Known};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};

/// A head that the other protocol cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unrepresentable;

/// Fills `head` from a received HTTP/2 request.
pub fn from_request(parts: &http::request::Parts, head: &mut Head) {
    head.clear();
    head.set_method(parts.method.as_str().as_bytes());
    if let Some(scheme) = parts.uri.scheme_str() {
        head.set_scheme(scheme.as_bytes());
    }
    if let Some(authority) = parts.uri.authority() {
        head.set_authority(authority.as_str().as_bytes());
    } else if let Some(host) = parts.headers.get(http::header::HOST) {
        head.set_authority(host.as_bytes());
    }
    if let Some(path) = parts.uri.path_and_query() {
        head.set_path(path.as_str().as_bytes());
    }
    copy_fields(&parts.headers, head);
}

/// Fills `head` from a received HTTP/2 response.
pub fn from_response(parts: &http::response::Parts, head: &mut Head) {
    head.clear();
    head.status = parts.status.as_u16();
    copy_fields(&parts.headers, head);
}

pub fn trailers(map: &HeaderMap) -> Head {
    let mut head = Head::default();
    copy_fields(map, &mut head);
    head
}

/// `cookie` crumbs become one field again (RFC 9113 section 8.2.3); `host` is the authority.
fn copy_fields(map: &HeaderMap, head: &mut Head) {
    let mut cookies: Vec<u8> = Vec::new();
    for (name, value) in map {
        match name.as_str() {
            "host" => {}
            "cookie" => {
                if !cookies.is_empty() {
                    cookies.extend_from_slice(b"; ");
                }
                cookies.extend_from_slice(value.as_bytes());
            }
            name => head.push(name.as_bytes(), value.as_bytes()),
        }
    }
    if !cookies.is_empty() {
        head.push(b"cookie", &cookies);
    }
}

/// The request as HTTP/2 sends it. `length` is the body's, when known.
pub fn to_request(head: &Head) -> Result<Request<()>, Unrepresentable> {
    let method = Method::from_bytes(head.method()).map_err(|_| Unrepresentable)?;
    let mut uri = Uri::builder();
    if !head.authority().is_empty() {
        uri = uri.authority(head.authority());
    }
    if method != Method::CONNECT {
        let scheme = if head.scheme().is_empty() { b"http" } else { head.scheme() };
        uri = uri.scheme(scheme).path_and_query(if head.path().is_empty() { b"/" } else { head.path() });
    }
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri.build().map_err(|_| Unrepresentable)?;
    *request.version_mut() = http::Version::HTTP_2;
    fill_map(head, request.headers_mut(), true)?;
    Ok(request)
}

/// The response as HTTP/2 sends it.
pub fn to_response(head: &Head) -> Result<Response<()>, Unrepresentable> {
    let mut response = Response::new(());
    *response.status_mut() = http::StatusCode::from_u16(head.status).map_err(|_| Unrepresentable)?;
    *response.version_mut() = http::Version::HTTP_2;
    fill_map(head, response.headers_mut(), false)?;
    Ok(response)
}

fn fill_map(head: &Head, map: &mut HeaderMap, request: bool) -> Result<(), Unrepresentable> {
    for field in head.fields() {
        let te = request && field.known == Known::Te;
        if (field.known.hop_by_hop() && !te) || field.known == Known::Host || field.known == Known::Expect {
            continue;
        }
        let name = HeaderName::from_bytes(head.slice(field.name)).map_err(|_| Unrepresentable)?;
        let value = HeaderValue::from_bytes(head.slice(field.value)).map_err(|_| Unrepresentable)?;
        map.append(name, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let request = Request::builder()
            .method("POST")
            .uri("https://shop/a?b")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let mut head = Head::default();
        from_request(&request.into_parts().0, &mut head);
        assert_eq!(head.authority(), b"shop");
        assert_eq!(head.path(), b"/a?b");
        assert_eq!(head.get(b"cookie"), Some(&b"a=1; b=2"[..]));
        head.push(b"Connection", b"close");
        let back = to_request(&head).unwrap();
        assert_eq!(back.uri().to_string(), "https://shop/a?b");
        assert!(back.headers().get("connection").is_none());
        assert_eq!(back.headers()["te"], "trailers");
    }
}

//! Path normalisation as the connection manager offers it (RFC 3986 sections 5.2.4 and 6.2.2).

use model::http::{EscapedSlashes, PathOptions};

/// What became of the path.
#[derive(Debug, PartialEq, Eq)]
pub enum Normalized {
    Unchanged,
    Changed(Vec<u8>),
    /// Answer 307 with this location.
    Redirect(Vec<u8>),
    /// Answer 400.
    Reject,
}

/// Applies `options` to `path` (with query); the query is never touched.
pub fn normalize(path: &[u8], options: &PathOptions) -> Normalized {
    let (only, query) = split_query(path);
    let mut current = std::borrow::Cow::Borrowed(only);
    let mut redirect = false;
    if options.escaped_slashes != EscapedSlashes::Keep && has_escaped_slash(&current) {
        match options.escaped_slashes {
            EscapedSlashes::Reject => return Normalized::Reject,
            EscapedSlashes::UnescapeAndRedirect => redirect = true,
            EscapedSlashes::UnescapeAndForward | EscapedSlashes::Keep => {}
        }
        current = unescape_slashes(&current).into();
    }
    if options.normalize {
        match remove_dots(&current) {
            Some(clean) => current = clean.into(),
            None => return Normalized::Reject,
        }
    }
    if options.merge_slashes {
        current = merge_slashes(&current).into();
    }
    if *current == *only {
        return Normalized::Unchanged;
    }
    let mut full = current.into_owned();
    full.extend_from_slice(query);
    if redirect { Normalized::Redirect(full) } else { Normalized::Changed(full) }
}

fn split_query(path: &[u8]) -> (&[u8], &[u8]) {
    path.split_at(memchr::memchr2(b'?', b'#', path).unwrap_or(path.len()))
}

fn escaped_slash(bytes: &[u8]) -> Option<u8> {
    match bytes {
        [b'%', b'2', b'f' | b'F', ..] => Some(b'/'),
        [b'%', b'5', b'c' | b'C', ..] => Some(b'\\'),
        _ => None,
    }
}

fn has_escaped_slash(path: &[u8]) -> bool {
    (0..path.len()).any(|at| escaped_slash(&path[at..]).is_some())
}

fn unescape_slashes(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        match escaped_slash(&path[at..]) {
            Some(slash) => {
                out.push(slash);
                at += 3;
            }
            None => {
                out.push(path[at]);
                at += 1;
            }
        }
    }
    out
}

/// Removes dot segments, decodes escaped unreserved characters and turns `\` into `/`. `None`: no valid path.
fn remove_dots(path: &[u8]) -> Option<Vec<u8>> {
    let path = decode_unreserved(path)?;
    if path.first() != Some(&b'/') {
        return None;
    }
    let mut out: Vec<&[u8]> = Vec::new();
    let segments: Vec<&[u8]> = path[1..].split(|&byte| byte == b'/').collect();
    let last = segments.len() - 1;
    for (index, segment) in segments.iter().enumerate() {
        match *segment {
            b"." if index == last => out.push(b""),
            b"." => {}
            b".." => {
                out.pop();
                if index == last {
                    out.push(b"");
                }
            }
            other => out.push(other),
        }
    }
    let mut clean = Vec::with_capacity(path.len());
    for segment in &out {
        clean.push(b'/');
        clean.extend_from_slice(segment);
    }
    if clean.is_empty() {
        clean.push(b'/');
    }
    Some(clean)
}

fn decode_unreserved(path: &[u8]) -> Option<Vec<u8>> {
    let hex = |byte: u8| (byte as char).to_digit(16);
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        match path[at] {
            b'%' => {
                let digit = |offset: usize| path.get(at + offset).and_then(|byte| hex(*byte));
                let (Some(high), Some(low)) = (digit(1), digit(2)) else {
                    // Not an escape: left as it is.
                    out.push(b'%');
                    at += 1;
                    continue;
                };
                let byte = (high * 16 + low) as u8;
                if byte == 0 {
                    return None;
                }
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    out.push(byte);
                } else {
                    out.extend_from_slice(&path[at..at + 3]);
                }
                at += 3;
            }
            b'\\' => {
                out.push(b'/');
                at += 1;
            }
            byte => {
                out.push(byte);
                at += 1;
            }
        }
    }
    Some(out)
}

fn merge_slashes(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for &byte in path {
        if byte != b'/' || out.last() != Some(&b'/') {
            out.push(byte);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(path: &str, options: PathOptions) -> String {
        match normalize(path.as_bytes(), &options) {
            Normalized::Unchanged => path.to_string(),
            Normalized::Changed(new) => String::from_utf8(new).unwrap(),
            Normalized::Redirect(new) => format!("redirect {}", String::from_utf8(new).unwrap()),
            Normalized::Reject => "reject".to_string(),
        }
    }

    #[test]
    fn dot_segments() {
        let options = PathOptions { normalize: true, ..PathOptions::default() };
        for (path, wanted) in [
            ("/a/../b", "/b"),
            ("/a/./b/", "/a/b/"),
            ("/../../x", "/x"),
            ("/a/..", "/"),
            ("/a/b/..?q=/../", "/a/?q=/../"),
            ("/%61/%2e%2e/b", "/b"),
            ("/a%2fb", "/a%2fb"),
            ("/a//b", "/a//b"),
            ("/a%", "/a%"),
            ("/a%zz", "/a%zz"),
            ("/a%00", "reject"),
            ("/a\\b", "/a/b"),
        ] {
            assert_eq!(run(path, options), wanted, "{path}");
        }
    }

    #[test]
    fn slashes() {
        let merge = PathOptions { merge_slashes: true, ..PathOptions::default() };
        assert_eq!(run("//a///b//?x=//", merge), "/a/b/?x=//");
        let escaped = |action| PathOptions { escaped_slashes: action, ..PathOptions::default() };
        assert_eq!(run("/a%2Fb%5cc", escaped(EscapedSlashes::UnescapeAndForward)), "/a/b\\c");
        assert_eq!(run("/a%2Fb", escaped(EscapedSlashes::UnescapeAndRedirect)), "redirect /a/b");
        assert_eq!(run("/a%2Fb", escaped(EscapedSlashes::Reject)), "reject");
        assert_eq!(run("/a%2Fb", escaped(EscapedSlashes::Keep)), "/a%2Fb");
    }
}

//! URI templates: `path_match_policy` and `path_rewrite_policy` (`path.match.uri_template`, `path.rewrite.uri_template`).
//!
//! A template is a sequence of segments: text, `*` (one segment), `**` (the rest), `{name}` or `{name=pattern}`. It
//! becomes a regular expression with named groups; a rewrite becomes its substitution.

use super::{Result, not_empty, unpack};
use crate::pb::envoy::config::core::v3::TypedExtensionConfig;
use crate::pb::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use crate::pb::envoy::extensions::path::rewrite::uri_template::v3::UriTemplateRewriteConfig;
use crate::problem::At;
use model::matcher::{Substitution, full_match_regex};
use model::route::PathMatch;
use regex::bytes::Regex;

const MOST_VARIABLES: usize = 5;
const LONGEST_NAME: usize = 16;
/// What a segment may hold, as a regular expression's class.
const SEGMENT: &str = "[a-zA-Z0-9\\-._~%!$&'()*+,;:@=]";

/// The regular expression of a `path_match_policy`.
pub(super) fn path_match(at: &At<'_>, pb: &TypedExtensionConfig) -> Result<Regex> {
    let any = at.required("typed_config", &pb.typed_config)?;
    let at = at.field("typed_config");
    let config: UriTemplateMatchConfig = unpack(&at, any)?;
    let text = not_empty(&at, "path_template", &config.path_template)?;
    let at = at.field("path_template");
    let pattern = pattern(text).map_err(|reason| at.problem(reason))?;
    full_match_regex(&pattern).map_err(|error| at.problem(format!("is not usable: {error}")).into())
}

/// What a `path_rewrite_policy` searches for and what replaces it. It needs a template to take its variables from.
pub(super) fn rewrite(at: &At<'_>, pb: &TypedExtensionConfig, matched: &PathMatch) -> Result<Substitution> {
    let PathMatch::Template(regex) = matched else {
        return at.wrong("needs a path_match_policy with a uri_template in the route's match");
    };
    let any = at.required("typed_config", &pb.typed_config)?;
    let at = at.field("typed_config");
    let config: UriTemplateRewriteConfig = unpack(&at, any)?;
    let text = not_empty(&at, "path_template_rewrite", &config.path_template_rewrite)?;
    let at = at.field("path_template_rewrite");
    let substitution = substitution(text, regex).map_err(|reason| at.problem(reason))?;
    Ok(Substitution { regex: regex.clone(), new: substitution.into() })
}

fn pattern(template: &str) -> std::result::Result<String, String> {
    let mut names: Vec<&str> = Vec::new();
    let mut out = String::new();
    let mut ended = false;
    let body = template.strip_prefix('/').ok_or("must start with `/`")?;
    for segment in segments(body) {
        if ended {
            return Err("`**` must be the last segment".into());
        }
        out.push('/');
        match segment.strip_prefix('{') {
            None => ended = push_plain(segment, &mut out)?,
            Some(rest) => {
                let inner = rest.strip_suffix('}').ok_or_else(|| format!("`{segment}` lacks its `}}`"))?;
                let (name, inner) = inner.split_once('=').unwrap_or((inner, "*"));
                check_name(name, &names)?;
                names.push(name);
                out.push_str(&format!("(?P<{name}>"));
                for (index, part) in inner.split('/').enumerate() {
                    if ended {
                        return Err("`**` must be the last segment".into());
                    }
                    if index > 0 {
                        out.push('/');
                    }
                    ended = push_plain(part, &mut out)?;
                }
                out.push(')');
            }
        }
    }
    Ok(out)
}

/// Splits at slashes outside of braces.
fn segments(body: &str) -> Vec<&str> {
    let (mut out, mut start, mut inside) = (Vec::new(), 0, false);
    for (at, byte) in body.bytes().enumerate() {
        match byte {
            b'{' => inside = true,
            b'}' => inside = false,
            b'/' if !inside => {
                out.push(&body[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    out.push(&body[start..]);
    out
}

/// True when nothing may follow.
fn push_plain(segment: &str, out: &mut String) -> std::result::Result<bool, String> {
    match segment {
        "**" => {
            out.push_str(&format!("{}*", SEGMENT.replacen('[', "[/", 1)));
            Ok(true)
        }
        "*" => {
            out.push_str(&format!("{SEGMENT}+"));
            Ok(false)
        }
        text => {
            let fits = |c: char| c.is_ascii_alphanumeric() || "-._~%!$&'()+,;:@=".contains(c);
            match text.chars().find(|c| !fits(*c)) {
                Some(c) => return Err(format!("`{c}` is not possible in the segment `{text}`")),
                None => out.push_str(&regex::escape(text)),
            }
            Ok(false)
        }
    }
}

fn check_name(name: &str, names: &[&str]) -> std::result::Result<(), String> {
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
    let rest = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !first || !rest || name.len() > LONGEST_NAME {
        return Err(format!("`{name}` is not a variable: a letter, then up to 15 letters, digits and `_`"));
    }
    if names.contains(&name) {
        return Err(format!("the variable `{name}` is there twice"));
    }
    if names.len() >= MOST_VARIABLES {
        return Err(format!("must not have more than {MOST_VARIABLES} variables"));
    }
    Ok(())
}

fn substitution(template: &str, matched: &Regex) -> std::result::Result<String, String> {
    if !template.starts_with('/') || template.contains("//") {
        return Err("must start with `/` and not hold `//`".into());
    }
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at].replace('$', "$$"));
        let inner = rest[at..].strip_prefix('{').ok_or("has a `}` without its `{`")?;
        let (name, after) = inner.split_once('}').ok_or("lacks a `}`")?;
        if !matched.capture_names().flatten().any(|known| known == name) {
            return Err(format!("the match has no variable `{name}`"));
        }
        out.push_str(&format!("${{{name}}}"));
        rest = after;
    }
    out.push_str(&rest.replace('$', "$$"));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(template: &str) -> Regex {
        full_match_regex(&pattern(template).unwrap()).unwrap()
    }

    #[test]
    fn templates_match() {
        for (template, path, wanted) in [
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/b/c", false),
            ("/a/*", "/a/", false),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/a/", true),
            ("/a/{x}/c", "/a/b/c", true),
            ("/a/{x=**}", "/a/b/c", true),
            ("/{x=v1/*}/c", "/v1/b/c", true),
            ("/{x=v1/*}/c", "/v2/b/c", false),
            ("/a.b", "/axb", false),
        ] {
            assert_eq!(compiled(template).is_match(path.as_bytes()), wanted, "{template} {path}");
        }
    }

    #[test]
    fn wrong_templates() {
        for template in ["a", "/**/a", "/{x", "/{1x}", "/{x}/{x}", "/a*b", "/{a}/{b}/{c}/{d}/{e}/{f}", "/a b"] {
            assert!(pattern(template).is_err(), "{template}");
        }
    }

    #[test]
    fn rewrites() {
        let regex = compiled("/a/{x}/{rest=**}");
        let substitution = substitution("/{rest}/$/{x}", &regex).unwrap();
        let new = regex.replace_all(b"/a/1/2/3", substitution.as_bytes());
        assert_eq!(&*new, b"/2/3/$/1");
        for wrong in ["x", "/{y}", "/{x", "/x}", "//a"] {
            assert!(super::substitution(wrong, &regex).is_err(), "{wrong}");
        }
    }
}

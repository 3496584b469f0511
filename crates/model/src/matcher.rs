//! String, header and query matchers (`envoy.type.matcher.v3.StringMatcher`, `route.v3.HeaderMatcher`).

use regex::bytes::Regex;

/// `envoy.type.matcher.v3.StringMatcher`. With `ignore_case`, stored text is already lower case.
#[derive(Clone, Debug)]
pub struct StringMatcher {
    pub kind: StringKind,
    /// Not applied to regular expressions, as in Envoy.
    pub ignore_case: bool,
}

#[derive(Clone, Debug)]
pub enum StringKind {
    Exact(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
    Contains(Box<str>),
    /// Compiled to match the whole value, as RE2 `FullMatch` does.
    Regex(Regex),
}

impl StringMatcher {
    pub fn exact(text: &str) -> Self {
        StringMatcher { kind: StringKind::Exact(text.into()), ignore_case: false }
    }

    pub fn matches(&self, value: &[u8]) -> bool {
        if let StringKind::Regex(regex) = &self.kind {
            return regex.is_match(value);
        }
        if self.ignore_case { self.matches_plain(&value.to_ascii_lowercase()) } else { self.matches_plain(value) }
    }

    fn matches_plain(&self, value: &[u8]) -> bool {
        match &self.kind {
            StringKind::Exact(text) => value == text.as_bytes(),
            StringKind::Prefix(text) => value.starts_with(text.as_bytes()),
            StringKind::Suffix(text) => value.ends_with(text.as_bytes()),
            StringKind::Contains(text) => text.is_empty() || value.windows(text.len()).any(|w| w == text.as_bytes()),
            StringKind::Regex(regex) => regex.is_match(value),
        }
    }
}

/// `envoy.type.matcher.v3.RegexMatchAndSubstitute`.
#[derive(Clone, Debug)]
pub struct Substitution {
    pub regex: Regex,
    /// RE2's `\1` is written `${1}` here.
    pub new: Box<str>,
}

/// Compiles `pattern` so that it must match the whole value (RE2 `FullMatch`).
pub fn full_match_regex(pattern: &str) -> Result<Regex, regex::Error> {
    regex::bytes::RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(1 << 20).build()
}

/// `envoy.config.route.v3.HeaderMatcher`. Of several values of one header any may match.
#[derive(Clone, Debug)]
pub struct HeaderMatcher {
    /// Lower case; may be a pseudo header such as `:method`.
    pub name: Box<str>,
    pub kind: HeaderKind,
    pub invert: bool,
    /// A missing header counts as an empty value instead of never matching.
    pub treat_missing_as_empty: bool,
}

#[derive(Clone, Debug)]
pub enum HeaderKind {
    Present(bool),
    String(StringMatcher),
    /// Half open: `[start, end)` over a base-10 integer.
    Range {
        start: i64,
        end: i64,
    },
}

/// `envoy.config.route.v3.QueryParameterMatcher`.
#[derive(Clone, Debug)]
pub struct QueryMatcher {
    pub name: Box<str>,
    pub kind: QueryKind,
}

#[derive(Clone, Debug)]
pub enum QueryKind {
    Present(bool),
    String(StringMatcher),
}

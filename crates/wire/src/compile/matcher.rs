//! String, header and query matchers, regular expressions and fractions.

use super::{Result, header::loose_name, known, lower, not_empty};
use crate::pb::envoy::config::core::v3 as core;
use crate::pb::envoy::config::route::v3 as route;
use crate::pb::envoy::r#type::matcher::v3 as pb;
use crate::pb::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use crate::problem::{At, gather};
use model::matcher::{
    HeaderKind, HeaderMatcher, QueryKind, QueryMatcher, StringKind, StringMatcher, Substitution, full_match_regex,
};
use model::route::CookieMatcher;
use pb::string_matcher::MatchPattern;
use regex::bytes::Regex;
use route::header_matcher::HeaderMatchSpecifier;
use route::query_parameter_matcher::QueryParameterMatchSpecifier;

pub(super) fn string(at: &At<'_>, pb: &pb::StringMatcher) -> Result<StringMatcher> {
    let ignore_case = pb.ignore_case;
    let text = |text: &str| if ignore_case { lower(text) } else { text.into() };
    let kind = match at.required("match_pattern", &pb.match_pattern)? {
        MatchPattern::Exact(value) => StringKind::Exact(text(value)),
        MatchPattern::Prefix(value) => StringKind::Prefix(text(not_empty(at, "prefix", value)?)),
        MatchPattern::Suffix(value) => StringKind::Suffix(text(not_empty(at, "suffix", value)?)),
        MatchPattern::Contains(value) => StringKind::Contains(text(not_empty(at, "contains", value)?)),
        MatchPattern::SafeRegex(_) if ignore_case => {
            return at.field("ignore_case").wrong("has no effect for safe_regex; write (?i) in the expression");
        }
        MatchPattern::SafeRegex(value) => StringKind::Regex(full_match(&at.field("safe_regex"), value)?),
        MatchPattern::Custom(_) => return at.field("custom").wrong("is not implemented"),
    };
    Ok(StringMatcher { kind, ignore_case })
}

/// Must match the whole value, as RE2's `FullMatch`.
pub(super) fn full_match(at: &At<'_>, pb: &pb::RegexMatcher) -> Result<Regex> {
    let pattern = not_empty(at, "regex", &pb.regex)?;
    full_match_regex(pattern).map_err(|error| bad_regex(at, &error))
}

fn bad_regex(at: &At<'_>, error: &regex::Error) -> crate::Problems {
    let text = error.to_string();
    let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
    at.field("regex").problem(format!("is not a regular expression: {reason}")).into()
}

pub(super) fn substitution(at: &At<'_>, pb: &pb::RegexMatchAndSubstitute) -> Result<Substitution> {
    let pattern = at.required("pattern", &pb.pattern)?;
    let inner = at.field("pattern");
    let text = not_empty(&inner, "regex", &pattern.regex)?;
    let built = regex::bytes::RegexBuilder::new(text).size_limit(1 << 20).build();
    let regex = built.map_err(|error| bad_regex(&inner, &error))?;
    let mut out = String::new();
    let mut chars = pb.substitution.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            ('$', _) => out.push_str("$$"),
            (_, false) => out.push(c),
            _ => match chars.next() {
                Some('\\') => out.push('\\'),
                Some(digit) if digit.to_digit(10).is_some_and(|group| (group as usize) < regex.captures_len()) => {
                    out.push_str(&format!("${{{digit}}}"));
                }
                _ => {
                    let text = "`\\` must be followed by `\\` or by the number of a group of the pattern";
                    return at.field("substitution").wrong(text);
                }
            },
        }
    }
    Ok(Substitution { regex, new: out.into() })
}

pub(super) fn headers(at: &At<'_>, field: &str, pb: &[route::HeaderMatcher]) -> Result<Vec<HeaderMatcher>> {
    gather(pb.iter().enumerate().map(|(index, matcher)| header(&at.item(field, index), matcher)))
}

pub(super) fn header(at: &At<'_>, pb: &route::HeaderMatcher) -> Result<HeaderMatcher> {
    use HeaderMatchSpecifier as Specifier;
    let plain = |kind| HeaderKind::String(StringMatcher { kind, ignore_case: false });
    let kind = match &pb.header_match_specifier {
        None => HeaderKind::Present(true),
        Some(Specifier::PresentMatch(present)) => HeaderKind::Present(*present),
        Some(Specifier::StringMatch(matcher)) => HeaderKind::String(string(&at.field("string_match"), matcher)?),
        Some(Specifier::ExactMatch(text)) => plain(StringKind::Exact(text.as_str().into())),
        Some(Specifier::PrefixMatch(text)) => plain(StringKind::Prefix(not_empty(at, "prefix_match", text)?.into())),
        Some(Specifier::SuffixMatch(text)) => plain(StringKind::Suffix(not_empty(at, "suffix_match", text)?.into())),
        Some(Specifier::ContainsMatch(text)) => {
            plain(StringKind::Contains(not_empty(at, "contains_match", text)?.into()))
        }
        Some(Specifier::SafeRegexMatch(regex)) => {
            plain(StringKind::Regex(full_match(&at.field("safe_regex_match"), regex)?))
        }
        Some(Specifier::RangeMatch(range)) => HeaderKind::Range { start: range.start, end: range.end },
    };
    Ok(HeaderMatcher {
        name: loose_name(&at.field("name"), &pb.name)?,
        kind,
        invert: pb.invert_match,
        treat_missing_as_empty: pb.treat_missing_header_as_empty,
    })
}

pub(super) fn query(at: &At<'_>, pb: &[route::QueryParameterMatcher]) -> Result<Vec<QueryMatcher>> {
    gather(pb.iter().enumerate().map(|(index, matcher)| {
        let at = at.item("query_parameters", index);
        let kind = match &matcher.query_parameter_match_specifier {
            None => QueryKind::Present(true),
            Some(QueryParameterMatchSpecifier::PresentMatch(present)) => QueryKind::Present(*present),
            Some(QueryParameterMatchSpecifier::StringMatch(text)) => {
                QueryKind::String(string(&at.field("string_match"), text)?)
            }
        };
        Ok(QueryMatcher { name: not_empty(&at, "name", &matcher.name)?.into(), kind })
    }))
}

pub(super) fn cookies(at: &At<'_>, pb: &[route::CookieMatcher]) -> Result<Vec<CookieMatcher>> {
    gather(pb.iter().enumerate().map(|(index, matcher)| {
        let at = at.item("cookies", index);
        let value = at.required("string_match", &matcher.string_match)?;
        Ok(CookieMatcher {
            name: not_empty(&at, "name", &matcher.name)?.into(),
            value: string(&at.field("string_match"), value)?,
            invert: matcher.invert_match,
        })
    }))
}

/// Parts per million of the default value; runtime keys have no runtime to look in.
pub(super) fn fraction(at: &At<'_>, pb: &core::RuntimeFractionalPercent) -> Result<u32> {
    percent(at, "default_value", &pb.default_value)
}

/// A required share, in parts per million.
pub(super) fn percent(at: &At<'_>, field: &str, pb: &Option<FractionalPercent>) -> Result<u32> {
    let value = at.required(field, pb)?;
    let at = at.field(field);
    let scale = match known(&at, "denominator", value.denominator)? {
        DenominatorType::Hundred => 10_000,
        DenominatorType::TenThousand => 100,
        DenominatorType::Million => 1,
    };
    Ok(value.numerator.saturating_mul(scale).min(1_000_000))
}

//! Subsets: hosts by their metadata, and what a request gets whose subset has none (`LbSubsetConfig`).

use super::{Hosts, Layout, Pick, Priorities, Rules};
use model::balance::{Fallback, Metadata, Selector, Subsets};
use std::collections::HashMap;

type Values = Box<Metadata>;

#[derive(Clone, Debug)]
pub struct SubsetBalancer {
    /// By the values of a selector's keys.
    subsets: HashMap<Values, Priorities>,
    selectors: Vec<Selector>,
    fallback: Fallback,
    default: Option<Priorities>,
    any: Option<Priorities>,
    panic_mode_any: bool,
}

/// What a request by subset met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Step {
    #[default]
    None,
    Selected,
    FellBack,
    /// The fallback had no host: any was used.
    FellBackInPanic,
}

impl SubsetBalancer {
    pub fn new(config: &Subsets, rules: &Rules<'_>, layout: &Layout, hosts: &impl Hosts, pick: &mut Pick<'_>) -> Self {
        let mut members: HashMap<Values, Vec<usize>> = HashMap::new();
        for selector in &config.selectors {
            for host in 0..hosts.len() {
                for values in combinations(&selector.keys, hosts.metadata(host), config.list_as_any) {
                    let found = members.entry(values).or_default();
                    if (found.is_empty() || !selector.single_host) && found.last() != Some(&host) {
                        found.push(host);
                    }
                }
            }
        }
        let mut make = |members: &[usize]| {
            let layout = weighted(config, layout, hosts, members);
            Priorities::new(rules, &layout, hosts, members.iter().copied(), pick)
        };
        let all: Vec<usize> = (0..hosts.len()).collect();
        let default: Vec<usize> = all
            .iter()
            .copied()
            .filter(|host| satisfies(hosts.metadata(*host), &config.default_subset, config.list_as_any))
            .collect();
        let wanted = |kind: &Fallback| {
            config.fallback == *kind || config.selectors.iter().any(|selector| selector.fallback.as_ref() == Some(kind))
        };
        SubsetBalancer {
            default: wanted(&Fallback::Default).then(|| make(&default)),
            any: (wanted(&Fallback::Any) || config.panic_mode_any).then(|| make(&all)),
            subsets: members.into_iter().map(|(values, members)| (values, make(&members))).collect(),
            selectors: config.selectors.clone(),
            fallback: config.fallback.clone(),
            panic_mode_any: config.panic_mode_any,
        }
    }

    pub fn len(&self) -> usize {
        self.subsets.len()
    }

    pub fn pick(&mut self, hosts: &impl Hosts, pick: &mut Pick<'_>) -> Option<usize> {
        if pick.subset.is_empty() {
            return self.fall_back(hosts, pick);
        }
        if let Some(subset) = self.subsets.get_mut(pick.subset) {
            pick.notes.subset = Step::Selected;
            return subset.pick(hosts, pick);
        }
        let mut asked = pick.subset.to_vec();
        // Each round asks with fewer keys.
        while let Some(Selector { fallback: Some(fallback), .. }) = self.selector_of(&asked) {
            match fallback {
                Fallback::Nothing => return None,
                Fallback::Any => return self.any.as_mut()?.pick(hosts, pick),
                Fallback::Default => return self.default.as_mut()?.pick(hosts, pick),
                Fallback::Keys(keys) => {
                    let keys = keys.clone();
                    asked.retain(|(key, _)| keys.contains(key));
                }
            }
            if let Some(subset) = self.subsets.get_mut(asked.as_slice()) {
                pick.notes.subset = Step::Selected;
                return subset.pick(hosts, pick);
            }
        }
        self.fall_back(hosts, pick)
    }

    /// The selector with exactly these keys.
    fn selector_of(&self, asked: &Metadata) -> Option<&Selector> {
        let same = |selector: &&Selector| selector.keys.iter().eq(asked.iter().map(|(key, _)| key));
        self.selectors.iter().find(same)
    }

    fn fall_back(&mut self, hosts: &impl Hosts, pick: &mut Pick<'_>) -> Option<usize> {
        let found = match &self.fallback {
            Fallback::Any => self.any.as_mut()?.pick(hosts, pick),
            Fallback::Default => self.default.as_mut()?.pick(hosts, pick),
            Fallback::Nothing | Fallback::Keys(_) => return None,
        };
        if found.is_some() {
            pick.notes.subset = Step::FellBack;
            return found;
        }
        let any = self.any.as_mut().filter(|_| self.panic_mode_any)?;
        pick.notes.subset = Step::FellBackInPanic;
        any.pick(hosts, pick)
    }
}

/// The layout with the weights that localities have for a subset.
fn weighted(config: &Subsets, layout: &Layout, hosts: &impl Hosts, members: &[usize]) -> Layout {
    let mut layout = layout.clone();
    for (index, place) in layout.places.iter_mut().enumerate() {
        if !config.locality_weight_aware {
            place.weight = 0.0;
        } else if config.scale_locality_weight {
            let here = |host: &usize| hosts.place(*host) == index;
            let (some, all) = (members.iter().filter(|host| here(host)).count(), (0..hosts.len()).filter(here).count());
            place.weight *= some as f64 / all.max(1) as f64;
        }
    }
    layout
}

fn value<'m>(metadata: &'m Metadata, key: &str) -> Option<&'m str> {
    metadata.iter().find(|(other, _)| **other == *key).map(|(_, value)| &**value)
}

/// A host's metadata has all of these values.
fn satisfies(metadata: &Metadata, wanted: &Metadata, list_as_any: bool) -> bool {
    wanted.iter().all(|(key, wanted)| match value(metadata, key) {
        Some(found) if *found == **wanted => true,
        Some(found) if list_as_any => elements(found).is_some_and(|all| all.contains(&&**wanted)),
        _ => false,
    })
}

/// The values that a host has for the keys; several if lists count as any of their elements.
fn combinations(keys: &[Box<str>], metadata: &Metadata, list_as_any: bool) -> Vec<Values> {
    let mut all: Vec<Vec<(Box<str>, Box<str>)>> = vec![Vec::new()];
    for key in keys {
        let Some(found) = value(metadata, key) else { return Vec::new() };
        let values = if list_as_any { elements(found) } else { None }.unwrap_or_else(|| vec![found]);
        all = all
            .into_iter()
            .flat_map(|before| {
                values.iter().map(move |value| {
                    let mut longer = before.clone();
                    longer.push((key.clone(), (*value).into()));
                    longer
                })
            })
            .collect();
    }
    all.into_iter().map(Into::into).collect()
}

/// The elements of a JSON list, as texts; `None` if it is none.
fn elements(json: &str) -> Option<Vec<&str>> {
    let inner = json.strip_prefix('[')?.strip_suffix(']')?;
    let (mut depth, mut quoted, mut escaped, mut start) = (0u32, false, false, 0);
    let mut found = Vec::new();
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            b',' if depth == 0 => {
                found.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !inner.is_empty() {
        found.push(&inner[start..]);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_json() {
        let cases: [(&str, Option<&[&str]>); 6] = [
            ("1", None),
            ("[]", Some(&[])),
            ("[1]", Some(&["1"])),
            (r#"["a","b,c"]"#, Some(&[r#""a""#, r#""b,c""#])),
            (r#"[[1,2],{"a":[3,4]}]"#, Some(&["[1,2]", r#"{"a":[3,4]}"#])),
            (r#"["\",",2]"#, Some(&[r#""\",""#, "2"])),
        ];
        for (json, expected) in cases {
            assert_eq!(elements(json).as_deref(), expected, "{json}");
        }
    }
}

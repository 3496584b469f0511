//! `tests/oracle-differences.toml`: cases in which Ripstop differs from Envoy on purpose, each with its reason.

use std::collections::BTreeMap;
use tests::peers::workspace;

pub(crate) struct Known(BTreeMap<String, String>);

impl Known {
    /// Lines `"case" = "reason"`; comments begin with `#`.
    pub(crate) fn read() -> Known {
        let path = workspace().join("tests/oracle-differences.toml");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut entries = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') || line.starts_with('[') {
                continue;
            }
            let mut parts = line.split('"');
            let (name, reason) = (parts.nth(1), parts.nth(1));
            let (Some(name), Some(reason)) = (name, reason.filter(|reason| !reason.is_empty())) else {
                panic!("{}:{}: write \"case\" = \"reason\"", path.display(), index + 1);
            };
            entries.insert(name.to_string(), reason.to_string());
        }
        Known(entries)
    }

    /// An entry is for the case in every protocol.
    pub(crate) fn reason(&self, case: &str) -> Option<&str> {
        self.0.get(case).or_else(|| self.0.get(bare(case))).map(String::as_str)
    }

    /// There is an entry for just this case, and it must differ. `Sometimes` begins the reason of a race that either
    /// may win.
    pub(crate) fn must_differ(&self, case: &str) -> bool {
        self.0.get(case).is_some_and(|reason| !reason.starts_with("Sometimes"))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// The name without the protocol it travels in.
fn bare(case: &str) -> &str {
    case.split_once("h2: ").map_or(case, |(_, name)| name)
}

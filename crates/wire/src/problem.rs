//! What is wrong with a configuration: where, what, and what would be right. Everything wrong is collected, so
//! that a user repairs a file in one go.

use std::fmt;

/// A place in a message, as users write it: `static_resources.listeners[0].name`. Lives on the stack; the text
/// is made only when something is wrong there.
#[derive(Clone, Copy)]
pub struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Item(&'a str, usize),
    Key(&'a str, &'a str),
}

impl<'a> At<'a> {
    /// The message itself.
    pub const ROOT: At<'static> = At { parent: None, step: Step::Field("") };

    pub fn field(&'a self, name: &'a str) -> At<'a> {
        At { parent: Some(self), step: Step::Field(name) }
    }

    /// One element of a repeated field.
    pub fn item(&'a self, name: &'a str, index: usize) -> At<'a> {
        At { parent: Some(self), step: Step::Item(name, index) }
    }

    /// One entry of a map field.
    pub fn key(&'a self, name: &'a str, key: &'a str) -> At<'a> {
        At { parent: Some(self), step: Step::Key(name, key) }
    }

    pub fn problem(&self, message: impl Into<String>) -> Problem {
        Problem { path: self.to_string(), message: message.into(), position: None }
    }

    /// For `?` and `return`: one problem as a whole result.
    pub fn wrong<T>(&self, message: impl Into<String>) -> Result<T, Problems> {
        Err(self.problem(message).into())
    }

    /// A required message or oneof that must be there.
    pub fn required<'m, T>(&self, name: &str, value: &'m Option<T>) -> Result<&'m T, Problems> {
        value.as_ref().ok_or_else(|| self.field(name).problem("is required").into())
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(parent) = self.parent else { return Ok(()) };
        parent.fmt(f)?;
        if parent.parent.is_some() {
            f.write_str(".")?;
        }
        match self.step {
            Step::Field(name) => f.write_str(name),
            Step::Item(name, index) => write!(f, "{name}[{index}]"),
            Step::Key(name, key) => write!(f, "{name}[{key:?}]"),
        }
    }
}

/// Line and column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Empty: the whole.
    pub path: String,
    pub message: String,
    /// Known for text; filled in by `json::Document::place` for what was found later.
    pub position: Option<Position>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

/// Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Problems(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

/// All values, or the problems of all that failed.
pub fn gather<T>(results: impl IntoIterator<Item = Result<T, Problems>>) -> Result<Vec<T>, Problems> {
    let mut values = Vec::new();
    let mut problems = Vec::new();
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(Problems(more)) => problems.extend(more),
        }
    }
    // What is gathered is kept, thousands of times in a large configuration.
    values.shrink_to_fit();
    if problems.is_empty() { Ok(values) } else { Err(Problems(problems)) }
}

/// A configuration file that cannot be used: one line per problem, each `file:line:column: path: message`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FileError {
    pub file: String,
    pub problems: Vec<Problem>,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            match problem.position {
                Some(at) => write!(f, "{}:{}:{}: {problem}", self.file, at.line, at.column)?,
                None => write!(f, "{}: {problem}", self.file)?,
            }
        }
        Ok(())
    }
}

/// The candidate nearest to a mistyped word, if near enough to be meant.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = word.len().div_ceil(3).clamp(1, 4);
    let near = candidates.map(|candidate| (distance(word, candidate), candidate));
    near.filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's edit distance over bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_written() {
        let root = At::ROOT;
        let listeners = root.field("static_resources");
        let listener = listeners.item("listeners", 2);
        let metadata = listener.field("metadata");
        assert_eq!(listener.to_string(), "static_resources.listeners[2]");
        assert_eq!(
            metadata.key("filter_metadata", "envoy.lb").to_string(),
            "static_resources.listeners[2].metadata.filter_metadata[\"envoy.lb\"]"
        );
    }

    #[test]
    fn nearest_word() {
        let fields = ["connect_timeout", "type", "load_assignment"];
        assert_eq!(nearest("conect_timeout", fields.into_iter()), Some("connect_timeout"));
        assert_eq!(nearest("tpye", fields.into_iter()), Some("type"));
        assert_eq!(nearest("wholly_other", fields.into_iter()), None);
    }

    #[test]
    fn gathers_every_problem() {
        let at = At::ROOT;
        let results = vec![Ok(1), at.field("a").wrong("bad"), Ok(2), at.field("b").wrong("worse")];
        assert_eq!(gather(results).unwrap_err().to_string(), "a: bad; b: worse");
        assert_eq!(gather([Ok(1), Ok(2)]).unwrap(), [1, 2]);
    }
}

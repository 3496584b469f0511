//! Runs one command as a step: output to the terminal, test results counted from it.

use anyhow::Context;
use regex::Regex;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// What a step's output said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// True when the command succeeded. Lines of both streams are passed on as they come.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<(bool, Counts)> {
    let shown = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {shown}"))?;
    let stdout = child.stdout.take().context("no output")?;
    let mut counts = Counts::default();
    for line in BufReader::new(stdout).lines() {
        let line = line.unwrap_or_default();
        counts.add(read(&line));
        println!("{line}");
    }
    Ok((child.wait()?.success(), counts))
}

/// A result line of cargo's test runner, or `NAME: N passed, M failed`.
fn read(line: &str) -> Counts {
    let number = |pattern: &str| -> u64 {
        let regex = Regex::new(pattern).expect("a constant pattern");
        regex.captures(line).and_then(|found| found[1].parse().ok()).unwrap_or(0)
    };
    let counted = line.starts_with("test result:") || line.starts_with("demo: ");
    if !counted {
        return Counts::default();
    }
    Counts { passed: number(r"(\d+) passed"), failed: number(r"(\d+) failed"), skipped: number(r"(\d+) ignored") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines() {
        let line = "test result: ok. 15 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(read(line), Counts { passed: 15, failed: 1, skipped: 2 });
        assert_eq!(read("demo: 7 passed, 0 failed"), Counts { passed: 7, failed: 0, skipped: 0 });
        assert_eq!(read("running 3 tests: 3 passed"), Counts::default());
    }
}

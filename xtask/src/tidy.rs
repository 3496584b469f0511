//! The house rules that neither rustc nor clippy checks.

use crate::root;
use anyhow::Context;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

const FILE_LIMIT: usize = 600;
const FUNCTION_LIMIT: usize = 70;
/// Crates whose modules stand in reading order and may import only those below them.
const ORDERED: [&str; 2] = ["proxy", "control"];

/// Which crates of ours each crate may depend on.
const ALLOWED: [(&str, &[&str]); 10] = [
    ("kit", &[]),
    ("model", &["kit"]),
    ("engine", &["kit", "model"]),
    ("identity", &["kit", "model"]),
    ("wire", &["kit", "model"]),
    ("runtime", &["kit"]),
    ("api", &["kit"]),
    ("proxy", &["kit", "model", "engine", "wire", "identity", "runtime"]),
    ("control", &["kit", "model", "engine", "api", "wire", "identity", "runtime"]),
    ("cli", &["kit", "model", "engine", "api", "wire", "identity", "runtime", "proxy", "control"]),
];

const BANNED_CRATES: [&str; 11] = [
    "ring",
    "openssl-sys",
    "native-tls",
    "rsa",
    "rustls-pemfile",
    "backoff",
    "serde_yaml",
    "serde_yml",
    "async-std",
    "paste",
    "derivative",
];

/// Words that mark unfinished work. Written in two parts so that this file passes its own check.
const BANNED_WORDS: [&str; 4] =
    [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("#[ig", "nore"), concat!("FIX", "ME")];

pub(crate) fn run() -> anyhow::Result<bool> {
    let mut problems = Vec::new();
    let files = sources(&root())?;
    let exceptions = Exceptions::read(&root().join("tidy.toml"))?;
    let mut lengths = BTreeMap::new();
    for file in &files {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let name = relative(file);
        check_text(&name, &text, &mut problems);
        measure(&name, &text, &mut lengths);
    }
    exceptions.check(&lengths, &mut problems);
    check_orphans(&files, &mut problems)?;
    check_directions(&mut problems)?;
    for name in ORDERED {
        check_order(name, &files, &mut problems)?;
    }
    check_banned_crates(&mut problems)?;
    for problem in &problems {
        println!("{problem}");
    }
    println!("tidy: {} files, {} problems", files.len(), problems.len());
    Ok(problems.is_empty())
}

fn relative(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

/// Every Rust file of the workspace.
fn sources(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = ["crates", "bench", "xtask", "tests"].iter().map(|name| root.join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|suffix| suffix == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn check_text(name: &str, text: &str, problems: &mut Vec<String>) {
    if !text.starts_with("//!") {
        problems.push(format!("{name}:1: begins without `//!`; say in one sentence what the file is for"));
    }
    for (index, line) in text.lines().enumerate() {
        for word in BANNED_WORDS.iter().filter(|word| line.contains(**word)) {
            problems.push(format!("{name}:{}: `{word}`: finish it or leave it out", index + 1));
        }
    }
}

/// Lengths of the file without its tests, and of each function, under `file` and `file::function`.
fn measure(name: &str, text: &str, lengths: &mut BTreeMap<String, usize>) {
    let is_test = name.contains("/tests/") || name.starts_with("tests/") || name.ends_with("tests.rs");
    let production = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text);
    if !is_test {
        lengths.insert(name.to_string(), production.lines().count());
    }
    if is_test {
        return;
    }
    let start = Regex::new(r"^(\s*)(?:pub(?:\([^)]*\))? )?(?:const )?(?:async )?(?:unsafe )?fn (\w+)")
        .expect("a constant pattern");
    let lines: Vec<&str> = production.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let Some(found) = start.captures(line) else { continue };
        let end = format!("{}}}", &found[1]);
        let length = lines[index..].iter().position(|line| *line == end).map_or(1, |length| length + 1);
        lengths.insert(format!("{name}::{}", &found[2]), length);
    }
}

/// `"file" = length` and `"file::function" = length` that are over the limits today. They may only shrink.
struct Exceptions(BTreeMap<String, usize>);

impl Exceptions {
    fn read(path: &Path) -> anyhow::Result<Exceptions> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let entry = Regex::new(r#"^"([^"]+)"\s*=\s*(\d+)"#)?;
        let entries = text.lines().filter_map(|line| {
            let found = entry.captures(line)?;
            Some((found[1].to_string(), found[2].parse().ok()?))
        });
        Ok(Exceptions(entries.collect()))
    }

    fn check(&self, lengths: &BTreeMap<String, usize>, problems: &mut Vec<String>) {
        for (name, &length) in lengths {
            let (limit, what) = if name.contains("::") { (FUNCTION_LIMIT, "function") } else { (FILE_LIMIT, "file") };
            match self.0.get(name) {
                None if length > limit => {
                    problems.push(format!("{name}: {length} lines; a {what} has at most {limit}: split it by idea"));
                }
                Some(&allowed) if length > allowed => problems
                    .push(format!("{name}: {length} lines; tidy.toml allows {allowed}, and exceptions only shrink")),
                Some(&allowed) if length <= limit || length < allowed => problems
                    .push(format!("{name}: now {length} lines; lower or remove its entry ({allowed}) in tidy.toml")),
                _ => {}
            }
        }
        for name in self.0.keys().filter(|name| !lengths.contains_key(*name)) {
            problems.push(format!("tidy.toml: `{name}` does not exist any more; remove its entry"));
        }
    }
}

/// Files that no `mod` reaches are never compiled.
fn check_orphans(files: &[PathBuf], problems: &mut Vec<String>) -> anyhow::Result<()> {
    let mut declared: BTreeSet<PathBuf> = BTreeSet::new();
    let module = Regex::new(r"(?m)^\s*(?:pub(?:\([^)]*\))? )?mod (\w+);")?;
    let path = Regex::new(r#"#\[path = "([^"]+)"\]"#)?;
    for file in files {
        let text = std::fs::read_to_string(file)?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let inner = if matches!(stem, "mod" | "lib" | "main") || is_root(file) {
            folder.to_path_buf()
        } else {
            folder.join(stem)
        };
        for found in module.captures_iter(&text) {
            declared.insert(inner.join(format!("{}.rs", &found[1])));
            declared.insert(inner.join(&found[1]).join("mod.rs"));
        }
        for found in path.captures_iter(&text) {
            declared.insert(folder.join(&found[1]));
        }
    }
    for file in files.iter().filter(|file| !is_root(file) && !declared.contains(*file)) {
        problems.push(format!("{}: no `mod` declares this file, so it is never compiled", relative(file)));
    }
    Ok(())
}

/// Crate roots: `lib.rs`, `main.rs`, `build.rs`, and the files directly under a `tests` folder.
fn is_root(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let folder = file.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    // A suite of several files: tests/NAME/main.rs.
    let above = file.parent().and_then(Path::parent).and_then(Path::file_name).and_then(|name| name.to_str());
    (matches!(name, "lib.rs" | "main.rs") && folder == "src")
        || (name == "main.rs" && above == Some("tests"))
        || name == "build.rs"
        || (folder == "tests" && name != "mod.rs")
}

fn check_directions(problems: &mut Vec<String>) -> anyhow::Result<()> {
    for (name, allowed) in ALLOWED {
        let path = root().join("crates").join(name).join("Cargo.toml");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let normal = text.split("[dev-dependencies]").next().unwrap_or(&text);
        for (other, _) in ALLOWED {
            let depends = normal
                .lines()
                .any(|line| line.starts_with(&format!("{other}.workspace")) || line.starts_with(&format!("{other} =")));
            if depends && !allowed.contains(&other) {
                problems.push(format!("crates/{name}/Cargo.toml: may not depend on `{other}`; see ARCHITECTURE.md"));
            }
        }
    }
    Ok(())
}

/// Module order: what `lib.rs` lists first may import what it lists later, not the other way round.
fn check_order(name: &str, files: &[PathBuf], problems: &mut Vec<String>) -> anyhow::Result<()> {
    let source = root().join("crates").join(name).join("src");
    let text = std::fs::read_to_string(source.join("lib.rs"))?;
    let module = Regex::new(r"(?m)^(?:pub(?:\([^)]*\))? )?mod (\w+);")?;
    let order: Vec<String> = module.captures_iter(&text).map(|found| found[1].to_string()).collect();
    let import = Regex::new(r"crate::(\w+)")?;
    for file in files.iter().filter(|file| file.starts_with(&source)) {
        let inside = file.strip_prefix(&source)?;
        let first = inside.iter().next().and_then(|part| part.to_str()).unwrap_or_default().trim_end_matches(".rs");
        let Some(own) = order.iter().position(|module| module == first) else { continue };
        let text = std::fs::read_to_string(file)?;
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for found in import.captures_iter(line) {
                if order.iter().position(|module| *module == found[1]).is_some_and(|other| other < own) {
                    problems.push(format!(
                        "{}:{}: `{first}` imports `{}`, which stands above it in lib.rs",
                        relative(file),
                        index + 1,
                        &found[1]
                    ));
                }
            }
        }
    }
    Ok(())
}

/// What is really built counts; a name in Cargo.lock alone does no harm.
fn check_banned_crates(problems: &mut Vec<String>) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--workspace", "-e", "normal,build", "--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()?;
    anyhow::ensure!(output.status.success(), "cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8_lossy(&output.stdout);
    let built: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    for name in BANNED_CRATES.iter().filter(|name| built.contains(**name)) {
        problems
            .push(format!("Cargo.toml: `{name}` is banned and yet built; `cargo tree -i {name}` shows who wants it"));
    }
    Ok(())
}

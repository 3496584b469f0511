//! Where the peers are. A suite never passes because a peer is missing.

use std::path::{Path, PathBuf};

/// The folder `cargo xtask peers` fills.
pub fn folder() -> PathBuf {
    let default = || workspace().join("target/peers");
    std::env::var_os("RIPSTOP_PEERS").map_or_else(default, PathBuf::from)
}

/// The workspace's root.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The program, or an end with the way to get it.
fn need(path: PathBuf, hint: &str) -> PathBuf {
    assert!(path.exists(), "{} is missing; {hint}", path.display());
    path
}

pub fn envoy() -> PathBuf {
    need(folder().join("venv/bin/envoy"), "run `cargo xtask peers`")
}

pub fn python() -> PathBuf {
    need(folder().join("venv/bin/python"), "run `cargo xtask peers`")
}

pub fn h2spec() -> PathBuf {
    need(folder().join("bin/h2spec"), "run `cargo xtask peers`")
}

/// The binary under test.
pub fn ripstop() -> PathBuf {
    let default = || workspace().join("target/release/ripstop");
    let path = std::env::var_os("RIPSTOP_BIN").map_or_else(default, PathBuf::from);
    need(path, "run `cargo build --release -p cli`")
}

//! A directory of YAML and JSON files: read whole, told of changes by the system, and looked at every two seconds in
//! any case, since not every file system tells.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// Editors write a file in several steps.
const QUIET: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
#[error("cannot read the configuration directory {}", dir.display())]
pub struct ReadError {
    dir: PathBuf,
    source: std::io::Error,
}

/// Texts by file name. A file that cannot be read as text is an error of that file only.
pub type Texts = BTreeMap<String, Result<String, String>>;

/// Reads all configuration files right in `dir`; hidden ones are left out, as editors keep copies there.
pub fn read(dir: &Path) -> Result<Texts, ReadError> {
    let error = |source| ReadError { dir: dir.to_path_buf(), source };
    let mut texts = Texts::new();
    for entry in std::fs::read_dir(dir).map_err(error)? {
        let path = entry.map_err(error)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
        if name.starts_with('.') || !matches!(suffix, "yaml" | "yml" | "json") || path.is_dir() {
            continue;
        }
        match std::fs::read_to_string(&path) {
            Ok(text) => drop(texts.insert(name.to_owned(), Ok(text))),
            // Gone since it was listed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => drop(texts.insert(name.to_owned(), Err(format!("cannot be read: {error}")))),
        }
    }
    Ok(texts)
}

/// Says when it is time to read again.
pub struct Watch {
    events: mpsc::UnboundedReceiver<()>,
    /// Kept for its watching.
    _watcher: Option<RecommendedWatcher>,
}

impl Watch {
    pub fn start(dir: &Path) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        // The receiver may be gone at the end of the process, when nobody cares any more.
        let watcher = notify::recommended_watcher(move |_| {
            let _ = sender.send(());
        });
        let watcher = watcher.and_then(|mut watcher| {
            watcher.watch(dir, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        if let Err(error) = &watcher {
            tracing::warn!(dir = %dir.display(), %error, "no word of changed files; looking every two seconds");
        }
        Self { events, _watcher: watcher.ok() }
    }

    /// Returns after a change has settled, or when it is time to look anyway.
    pub async fn changed(&mut self) {
        match tokio::time::timeout(POLL, self.events.recv()).await {
            Ok(Some(())) => while let Ok(Some(())) = tokio::time::timeout(QUIET, self.events.recv()).await {},
            // Without a watcher the channel is closed, and the clock is all there is.
            Ok(None) => tokio::time::sleep(POLL).await,
            Err(_) => {}
        }
    }
}

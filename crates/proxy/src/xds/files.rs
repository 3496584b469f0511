//! Resources from files (`path_config_source`), read again when they are replaced.

use super::Discovery;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;
use wire::ResourceKind;
use wire::compile::source::Source;
use wire::resources::read_file;

/// How often the file's metadata is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Follows one file for ever. A broken file changes nothing and is reported once.
pub(super) async fn watch(discovery: Discovery, kind: ResourceKind, path: PathBuf) {
    let source = Source::Path(path.clone());
    let mut last: Option<String> = None;
    let mut seen = None;
    loop {
        let state =
            tokio::fs::metadata(&path).await.ok().map(|file| (file.ino(), file.len(), file.mtime(), file.mtime_nsec()));
        if state.is_some() && state == seen {
            tokio::time::sleep(LOOK).await;
            continue;
        }
        seen = state;
        match tokio::fs::read_to_string(&path).await {
            Ok(text) if last.as_ref() != Some(&text) => {
                match read_file(kind, &path.display().to_string(), &text) {
                    // The reason for a refusal is in the log.
                    Ok(change) => drop(discovery.apply(change, &source).await),
                    Err(error) => tracing::warn!("{error}"),
                }
                last = Some(text);
            }
            Ok(_) => {}
            Err(error) if last.is_none() => {
                tracing::warn!(file = %path.display(), %error, "cannot be read yet");
                last = Some(String::new());
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}

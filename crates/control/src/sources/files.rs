//! A directory of YAML and JSON files: told of changes by the system, and looked at every two seconds in any case, since
//! not every file system tells. Only what may have changed is read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// A file that is being written is left alone until nothing more comes; one that was moved here or closed is whole.
const QUIET: Duration = Duration::from_millis(100);
/// Changes that come together are taken in together.
const TOGETHER: Duration = Duration::from_millis(20);
/// Changes that never stop are taken in all the same.
const LONGEST: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_secs(2);
/// Older changes are surely told apart by their times.
const SETTLED: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
#[error("cannot read the configuration directory {}", dir.display())]
pub struct ReadError {
    dir: PathBuf,
    source: std::io::Error,
}

/// Texts by file name. A file that cannot be read as text is an error of that file only.
pub type Texts = BTreeMap<String, Result<String, String>>;

/// What was found when files were looked at.
#[derive(Debug, Default)]
pub struct Reading {
    /// Texts that may be new.
    pub texts: Texts,
    pub gone: Vec<String>,
}

/// Reads the configuration files right in a directory; hidden ones are left out, as editors keep copies there.
pub struct Reader {
    dir: PathBuf,
    known: BTreeMap<String, Option<Stamp>>,
}

/// By which a file that did not change is known.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    length: u64,
    inode: u64,
}

impl Reader {
    /// `known`: the files that were there before.
    pub fn new(dir: &Path, known: impl Iterator<Item = String>) -> Self {
        Self { dir: dir.to_path_buf(), known: known.map(|name| (name, None)).collect() }
    }

    /// Looks at every file, and reads those that may have changed since.
    pub fn all(&mut self) -> Result<Reading, ReadError> {
        let error = |source| ReadError { dir: self.dir.clone(), source };
        let mut present = BTreeSet::new();
        for entry in std::fs::read_dir(&self.dir).map_err(error)? {
            let path = entry.map_err(error)?.path();
            present.extend(file_name(&path).map(str::to_owned));
        }
        let mut reading = self.some(&present);
        let gone: Vec<String> = self.known.keys().filter(|name| !present.contains(*name)).cloned().collect();
        for name in gone {
            self.known.remove(&name);
            reading.gone.push(name);
        }
        Ok(reading)
    }

    /// Looks at these files only.
    pub fn some(&mut self, names: &BTreeSet<String>) -> Reading {
        let mut reading = Reading::default();
        for name in names {
            self.look(name, &mut reading);
        }
        reading
    }

    fn look(&mut self, name: &str, reading: &mut Reading) {
        let path = self.dir.join(name);
        let metadata = match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => return,
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if self.known.remove(name).is_some() {
                    reading.gone.push(name.to_owned());
                }
                return;
            }
            Err(error) => {
                reading.texts.insert(name.to_owned(), Err(format!("cannot be read: {error}")));
                return;
            }
        };
        let stamp = stamp(&metadata);
        if stamp.is_some() && self.known.get(name) == Some(&stamp) {
            return;
        }
        let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot be read: {error}"));
        // One that cannot be read is tried again each time.
        self.known.insert(name.to_owned(), stamp.filter(|_| text.is_ok()));
        reading.texts.insert(name.to_owned(), text);
    }
}

/// `None` for a file that was written a moment ago: it may change again within one tick of the file system's clock.
fn stamp(metadata: &Metadata) -> Option<Stamp> {
    let modified = metadata.modified().ok()?;
    let settled = SystemTime::now().duration_since(modified).is_ok_and(|age| age > SETTLED);
    settled.then(|| Stamp { modified, length: metadata.len(), inode: metadata.ino() })
}

/// The name, if it is that of a configuration file.
fn file_name(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    let suffix = path.extension()?.to_str()?;
    (!name.starts_with('.') && matches!(suffix, "yaml" | "yml" | "json")).then_some(name)
}

/// Which files to look at.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    All,
    /// Those that the system named.
    Some(BTreeSet<String>),
}

/// Says when it is time to read again.
pub struct Watch {
    events: mpsc::UnboundedReceiver<Event>,
    /// Kept for its watching.
    _watcher: Option<RecommendedWatcher>,
}

/// Files with whether they are whole, or that some were missed.
type Event = Option<Vec<(String, bool)>>;

impl Watch {
    pub fn start(dir: &Path) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        // The receiver may be gone at the end of the process, when nobody cares any more.
        let watcher = notify::recommended_watcher(move |event| {
            if let Some(event) = files(event) {
                let _ = sender.send(event);
            }
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
    pub async fn changed(&mut self) -> Look {
        let mut files: Option<BTreeMap<String, bool>> = match tokio::time::timeout(POLL, self.events.recv()).await {
            Ok(Some(event)) => event.map(|files| files.into_iter().collect()),
            // Without a watcher the channel is closed, and the clock is all there is.
            Ok(None) => {
                tokio::time::sleep(POLL).await;
                return Look::All;
            }
            Err(_) => return Look::All,
        };
        let begun = Instant::now();
        while begun.elapsed() < LONGEST {
            let whole = files.as_ref().is_some_and(|files| files.values().all(|whole| *whole));
            let wait = if whole { TOGETHER.saturating_sub(begun.elapsed()) } else { QUIET };
            let Ok(Some(more)) = tokio::time::timeout(wait, self.events.recv()).await else { break };
            files = files.zip(more).map(|(mut files, more)| {
                files.extend(more);
                files
            });
        }
        files.map_or(Look::All, |files| Look::Some(files.into_keys().collect()))
    }
}

/// `None`: nothing of interest happened.
fn files(event: notify::Result<notify::Event>) -> Option<Event> {
    use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
    let Ok(event) = event else { return Some(None) };
    if event.need_rescan() {
        return Some(None);
    }
    let whole = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Remove(_)
        | EventKind::Modify(ModifyKind::Name(_) | ModifyKind::Metadata(_)) => true,
        // Reading a file is no change.
        EventKind::Access(_) => return None,
        _ => false,
    };
    let files = event.paths.iter().filter_map(|path| file_name(path)).map(|name| (name.to_owned(), whole));
    Some(Some(files.collect())).filter(|files| files.as_ref().is_some_and(|files: &Vec<_>| !files.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_have_changed_is_read() {
        let dir = std::env::temp_dir().join(format!("ripstop-reader-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(3600);
        let write = |name: &str, text: &str, settled: bool| {
            std::fs::write(dir.join(name), text).unwrap();
            if settled {
                std::fs::File::options().write(true).open(dir.join(name)).unwrap().set_modified(long_ago).unwrap();
            }
        };
        write("a.yaml", "a", true);
        write("b.json", "b", false);
        write(".c.yaml", "c", true);
        write("d.txt", "d", true);
        let mut reader = Reader::new(&dir, ["old.yaml".to_owned()].into_iter());
        let names = |reading: &Reading| reading.texts.keys().cloned().collect::<Vec<_>>();
        let first = reader.all().unwrap();
        assert_eq!(
            (names(&first), first.gone),
            (vec!["a.yaml".to_owned(), "b.json".into()], vec!["old.yaml".to_owned()])
        );
        // The young one may have changed again within the clock's tick.
        assert_eq!(names(&reader.all().unwrap()), ["b.json"]);
        write("a.yaml", "other", true);
        std::fs::remove_file(dir.join("b.json")).unwrap();
        let both = BTreeSet::from(["a.yaml".to_owned(), "b.json".into()]);
        let reading = reader.some(&both);
        assert_eq!((names(&reading), reading.gone), (vec!["a.yaml".to_owned()], vec!["b.json".to_owned()]));
        std::fs::remove_dir_all(dir).unwrap();
    }
}

//! The objects of many files; each object lives in exactly one.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::object::{Key, Object};
use crate::problem::{FileError, Problem};

/// Files by name with their objects. A refused change leaves what was there.
#[derive(Debug, Clone, Default)]
pub struct ObjectSet {
    files: BTreeMap<String, Vec<Arc<Object>>>,
    owners: BTreeMap<Key, String>,
}

impl ObjectSet {
    /// Replaces a file's objects, unless one of them is already in another file or twice in this one.
    pub fn replace(&mut self, file: &str, objects: Vec<Object>) -> Result<(), FileError> {
        let problems = self.duplicates(file, &objects);
        if !problems.is_empty() {
            return Err(FileError { file: file.to_owned(), problems });
        }
        self.remove(file);
        for object in &objects {
            self.owners.insert(object.key(), file.to_owned());
        }
        self.files.insert(file.to_owned(), objects.into_iter().map(Arc::new).collect());
        Ok(())
    }

    pub fn remove(&mut self, file: &str) {
        for object in self.files.remove(file).unwrap_or_default() {
            self.owners.remove(&object.key());
        }
    }

    /// A file's objects, in the order written.
    pub fn of_file(&self, file: &str) -> &[Arc<Object>] {
        self.files.get(file).map(Vec::as_slice).unwrap_or_default()
    }

    pub fn contains_file(&self, file: &str) -> bool {
        self.files.contains_key(file)
    }

    /// All objects, by file and in the order written.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.files.values().flatten()
    }

    pub fn file_of(&self, key: &Key) -> Option<&str> {
        self.owners.get(key).map(String::as_str)
    }

    fn duplicates(&self, file: &str, objects: &[Object]) -> Vec<Problem> {
        let mut seen: BTreeMap<Key, &Object> = BTreeMap::new();
        let mut problems = Vec::new();
        for object in objects {
            let key = object.key();
            let elsewhere = match (seen.get(&key), self.owners.get(&key)) {
                (Some(first), _) => Some(format!("line {} of this file", first.place.line)),
                (None, Some(owner)) if owner != file => Some(self.whereabouts(owner, &key)),
                _ => None,
            };
            if let Some(place) = elsewhere {
                let message = format!("{key} is already defined in {place}; keep one of the two");
                problems.push(Problem { place: Some(object.place), path: "metadata.name".into(), message });
            }
            seen.entry(key).or_insert(object);
        }
        problems
    }

    fn whereabouts(&self, owner: &str, key: &Key) -> String {
        match self.of_file(owner).iter().find(|object| object.key() == *key) {
            Some(object) => format!("{owner}:{}", object.place.line),
            None => owner.to_owned(),
        }
    }
}

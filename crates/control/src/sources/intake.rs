//! What of the files' texts is in force: of each file the last good text. No I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{FileError, Object, ObjectSet, Problem, parse_file};

use super::files::{Reading, Texts};

/// A file as reports show it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FileState {
    /// The text in force; empty when none ever was good.
    pub accepted: Option<String>,
    /// What was read last, if that was refused.
    refused: Option<String>,
    /// Why it was refused.
    pub error: Option<FileError>,
    /// When the text in force became so.
    pub revision: u64,
}

#[derive(Debug, Default)]
pub struct Intake {
    /// For messages: the directory as the user wrote it, with a slash; empty in tests.
    prefix: String,
    objects: ObjectSet,
    files: BTreeMap<String, FileState>,
    revision: u64,
}

/// What a round of reading brought.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Files whose text in force is new.
    pub accepted: Vec<String>,
    pub removed: Vec<String>,
    /// Refused anew; not again while the text stays the same.
    pub refused: Vec<FileError>,
    /// The objects of accepted and removed files, as they were and as they are.
    pub change: Change,
}

/// Objects that are gone or replaced, and those that are new.
#[derive(Debug, Default)]
pub struct Change {
    pub before: Vec<Arc<Object>>,
    pub after: Vec<Arc<Object>>,
}

impl Outcome {
    /// Whether the mesh is another one now.
    pub fn changed(&self) -> bool {
        !self.accepted.is_empty() || !self.removed.is_empty()
    }
}

impl Intake {
    pub fn new(prefix: String) -> Self {
        Self { prefix, ..Self::default() }
    }

    /// Takes back what was in force before a restart. A text that is no longer good (a newer version may be stricter)
    /// is left out; its file will say why.
    pub fn restore(&mut self, texts: BTreeMap<String, String>, revision: u64) {
        self.revision = revision;
        for (file, text) in texts {
            let Ok(objects) = parse_file(&self.shown(&file), &text) else { continue };
            if self.objects.replace(&file, objects).is_ok() {
                let state = FileState { accepted: Some(text), revision, ..FileState::default() };
                self.files.insert(file, state);
            }
        }
    }

    /// Takes what was read. What was refused before is tried again: the cure may come from another file.
    pub fn apply(&mut self, reading: &Reading) -> Outcome {
        let mut outcome = Outcome::default();
        for file in &reading.gone {
            if self.files.remove(file).is_some() {
                outcome.change.before.extend_from_slice(self.objects.of_file(file));
                self.objects.remove(file);
                outcome.removed.push(file.clone());
            }
        }
        let refused = self.files.iter().filter_map(|(file, state)| Some((file.clone(), Ok(state.refused.clone()?))));
        let mut texts: Texts = refused.filter(|(file, _)| !self.unreadable(file)).collect();
        texts.extend(reading.texts.iter().map(|(file, text)| (file.clone(), text.clone())));
        let mut pending: Vec<&String> = texts.keys().filter(|file| self.is_new(file, &texts[*file])).collect();
        // An object may have moved from one file to another: what is refused is tried again after the others.
        loop {
            let before = pending.len();
            let mut errors = Vec::new();
            pending.retain(|file| {
                let before = self.objects.of_file(file).to_vec();
                match self.accept(file, &texts[*file]) {
                    Ok(()) => {
                        outcome.change.before.extend(before);
                        outcome.change.after.extend_from_slice(self.objects.of_file(file));
                        outcome.accepted.push((*file).clone());
                        false
                    }
                    Err(error) => {
                        errors.push(error);
                        true
                    }
                }
            });
            if pending.is_empty() || pending.len() == before {
                self.refuse(&pending, &texts, errors, &mut outcome);
                break;
            }
        }
        if outcome.changed() {
            self.revision += 1;
        }
        for file in &outcome.accepted {
            if let Some(state) = self.files.get_mut(file) {
                state.revision = self.revision;
            }
        }
        outcome
    }

    pub fn objects(&self) -> &ObjectSet {
        &self.objects
    }

    pub fn files(&self) -> &BTreeMap<String, FileState> {
        &self.files
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What it said last is not its text.
    fn unreadable(&self, file: &str) -> bool {
        let error = self.files.get(file).and_then(|state| state.error.as_ref());
        error.is_some_and(|error| {
            error.problems.iter().any(|problem| problem.place.is_none() && problem.path.is_empty())
        })
    }

    fn shown(&self, file: &str) -> String {
        format!("{}{file}", self.prefix)
    }

    /// Other than what is in force and than what was refused; what was refused as a duplicate is tried every time,
    /// since the cure may come from another file.
    fn is_new(&mut self, file: &str, text: &Result<String, String>) -> bool {
        let Some(state) = self.files.get_mut(file) else { return true };
        match text {
            Ok(text) if state.accepted.as_ref() == Some(text) => {
                // Back to what is in force: nothing to refuse any more.
                state.error = None;
                state.refused = None;
                false
            }
            _ => true,
        }
    }

    fn accept(&mut self, file: &str, text: &Result<String, String>) -> Result<(), FileError> {
        let shown = self.shown(file);
        let text = text.as_ref().map_err(|message| FileError {
            file: shown.clone(),
            problems: vec![Problem { place: None, path: String::new(), message: message.clone() }],
        })?;
        let objects = parse_file(&shown, text)?;
        self.objects.replace(file, objects).map_err(|error| FileError { file: shown, ..error })?;
        let state = FileState { accepted: Some(text.clone()), ..FileState::default() };
        self.files.insert(file.to_owned(), state);
        Ok(())
    }

    fn refuse(&mut self, files: &[&String], texts: &Texts, errors: Vec<FileError>, outcome: &mut Outcome) {
        for (file, error) in files.iter().zip(errors) {
            let state = self.files.entry((*file).clone()).or_default();
            let text = texts[*file].clone().unwrap_or_else(|message| message);
            let known = state.refused.as_ref() == Some(&text) && state.error.as_ref() == Some(&error);
            state.refused = Some(text);
            state.error = Some(error.clone());
            if !known {
                outcome.refused.push(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> String {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}]}}\n")
    }

    /// All there is, after `intake` has seen what it knows.
    fn apply(intake: &mut Intake, files: &[(&str, String)]) -> Outcome {
        let texts: Texts = files.iter().map(|(name, text)| ((*name).to_owned(), Ok(text.clone()))).collect();
        let gone = intake.files().keys().filter(|file| !texts.contains_key(*file)).cloned().collect();
        intake.apply(&Reading { texts, gone })
    }

    fn names(intake: &Intake) -> Vec<String> {
        intake.objects().objects().map(|object| object.meta.name.clone()).collect()
    }

    #[test]
    fn the_last_good_text_stays_in_force() {
        let mut intake = Intake::default();
        let good = [("a.yaml", service("a")), ("b.yaml", service("b"))];
        assert!(apply(&mut intake, &good).changed());
        assert_eq!((names(&intake), intake.revision()), (vec!["a".to_owned(), "b".to_owned()], 1));

        let broken = [("a.yaml", "kind: Servic\n".to_owned()), ("b.yaml", service("c"))];
        let outcome = apply(&mut intake, &broken);
        assert_eq!(outcome.refused.len(), 1, "{outcome:?}");
        assert_eq!((names(&intake), intake.revision()), (vec!["a".to_owned(), "c".to_owned()], 2));
        assert!(intake.files()["a.yaml"].error.as_ref().unwrap().to_string().contains("did you mean `Service`?"));
        // The same again is not reported again, nor does the revision grow.
        for outcome in [apply(&mut intake, &broken), intake.apply(&Reading::default())] {
            assert!(!outcome.changed() && outcome.refused.is_empty(), "{outcome:?}");
        }
        // Back to the good text: the error is gone.
        let repaired = [("a.yaml", service("a")), ("b.yaml", service("c"))];
        assert!(!apply(&mut intake, &repaired).changed());
        assert_eq!(intake.files()["a.yaml"].error, None);
    }

    #[test]
    fn a_restart_keeps_what_was_good() {
        let mut intake = Intake::new("mesh/".into());
        intake.restore(BTreeMap::from([("a.yaml".to_owned(), service("a"))]), 7);
        let outcome = apply(&mut intake, &[("a.yaml", "broken: [".to_owned())]);
        assert!(outcome.refused[0].to_string().starts_with("mesh/a.yaml:"), "{outcome:?}");
        assert_eq!((names(&intake), intake.revision()), (vec!["a".to_owned()], 7));
        // A file that is gone takes its objects along.
        assert_eq!(apply(&mut intake, &[]).removed, ["a.yaml"]);
        assert_eq!((names(&intake), intake.revision()), (vec![], 8));
    }

    #[test]
    fn objects_may_move_between_files() {
        let mut intake = Intake::default();
        let both = format!("{}---\n{}", service("a"), service("b"));
        apply(&mut intake, &[("1.yaml", service("x")), ("2.yaml", both.clone())]);
        // `b` moves from 2 to 1, which is looked at first.
        let moved = format!("{}---\n{}", service("x"), service("b"));
        let outcome = apply(&mut intake, &[("1.yaml", moved), ("2.yaml", service("a"))]);
        assert_eq!(outcome.refused, [], "{outcome:?}");
        assert_eq!(names(&intake), ["x", "b", "a"]);
        // A duplicate is refused, names the other file, and is accepted once that one is gone.
        let double = [("1.yaml", service("x")), ("2.yaml", service("a")), ("3.yaml", service("a"))];
        let outcome = apply(&mut intake, &double);
        assert!(outcome.refused[0].to_string().contains("already defined in 2.yaml"), "{outcome:?}");
        // It need not be read again for that.
        let outcome = intake.apply(&Reading { gone: vec!["2.yaml".to_owned()], ..Reading::default() });
        assert_eq!((outcome.removed, outcome.accepted), (vec!["2.yaml".to_owned()], vec!["3.yaml".to_owned()]));
    }
}

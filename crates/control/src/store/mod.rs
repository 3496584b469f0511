//! What outlives the process: the last good text of each file, and the revision. One redb file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

const LAST_GOOD: TableDefinition<'_, &str, &str> = TableDefinition::new("last_good");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const REVISION: &str = "revision";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open {}: {source}; is another control plane using this state directory?", path.display())]
    Open { path: PathBuf, source: Box<redb::DatabaseError> },
    #[error("the store cannot be used: {0}")]
    Use(Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Use(Box::new(error.into()))
    }
}

pub struct Store {
    database: Database,
}

/// What was in force when the last process ended.
#[derive(Debug, Default, PartialEq)]
pub struct Saved {
    pub texts: BTreeMap<String, String>,
    pub revision: u64,
}

impl Store {
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::create(path)
            .map_err(|source| StoreError::Open { path: path.to_path_buf(), source: Box::new(source) })?;
        // Creates the tables, so that reading need not ask whether they exist.
        let transaction = database.begin_write()?;
        transaction.open_table(LAST_GOOD)?;
        transaction.open_table(META)?;
        transaction.commit()?;
        Ok(Self { database })
    }

    pub fn load(&self) -> Result<Saved, StoreError> {
        let transaction = self.database.begin_read()?;
        let mut saved = Saved::default();
        for row in transaction.open_table(LAST_GOOD)?.iter()? {
            let (file, text) = row?;
            saved.texts.insert(file.value().to_owned(), text.value().to_owned());
        }
        saved.revision = transaction.open_table(META)?.get(REVISION)?.map_or(0, |revision| revision.value());
        Ok(saved)
    }

    /// One change of the mesh, all or nothing.
    pub fn save(&self, accepted: &[(&str, &str)], removed: &[String], revision: u64) -> Result<(), StoreError> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(LAST_GOOD)?;
            for (file, text) in accepted {
                table.insert(*file, *text)?;
            }
            for file in removed {
                table.remove(file.as_str())?;
            }
            transaction.open_table(META)?.insert(REVISION, revision)?;
        }
        transaction.commit()?;
        Ok(())
    }
}

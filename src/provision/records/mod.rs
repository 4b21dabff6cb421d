//! What this machine has made and whose it is, in an embedded SQLite file: written before the first call that makes anything,
//! so that a run that is killed leaves a trace. No secret is ever in it.

mod schema;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{Name, ProvisionError};

/// How long another process may hold the file.
const PATIENCE: Duration = Duration::from_secs(10);

/// How far a deployment came, as far as this machine knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Being made, or left in the middle of it.
    Creating,
    /// A real prediction succeeded.
    Ready,
    /// Being changed, or left in the middle of it, after it had served: what is wrong with it is for its owner to mend.
    Updating,
    /// It failed, and something may be left of it.
    Failed,
    /// Being taken down, or left in the middle of it.
    Deleting,
}

impl State {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Creating, "creating"),
        (Self::Ready, "ready"),
        (Self::Updating, "updating"),
        (Self::Failed, "failed"),
        (Self::Deleting, "deleting"),
    ];

    /// Whether it has served, so that a failure is no reason to take it down.
    pub fn has_served(self) -> bool {
        matches!(self, Self::Ready | Self::Updating)
    }

    /// As the file writes it.
    pub fn as_str(self) -> &'static str {
        let row = Self::ALL.iter().find(|(state, _)| *state == self);
        row.map_or("creating", |(_, text)| text)
    }

    fn parse(text: &str) -> Option<Self> {
        let row = Self::ALL.iter().find(|(_, word)| *word == text);
        row.map(|(state, _)| *state)
    }
}

/// One deployment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Record {
    /// Its name.
    pub name: Name,
    /// The platform's id.
    pub platform: String,
    /// What the platform is built from again.
    pub options: Value,
    /// The deployment as it was wanted, without secrets.
    pub deployment: Value,
    /// How far it came.
    pub state: State,
    /// Where it is reached, once it was.
    pub url: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was begun, in seconds since 1970.
    pub created: u64,
    /// When it was last changed.
    pub updated: u64,
}

/// The file.
pub struct Records {
    path: PathBuf,
    connection: Mutex<Connection>,
}

/// Held while one process works on one deployment; gone with the process, however it ends.
#[derive(Debug)]
pub struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Why ignored: closing the file gives the lock back as well.
        let _ = self.0.unlock();
    }
}

impl Records {
    /// Opens the file, makes it where there is none, and brings an older one up to date.
    ///
    /// # Errors
    /// [`ProvisionError::Records`].
    pub fn open(path: &Path) -> Result<Self, ProvisionError> {
        let at_fault = |reason: String| ProvisionError::Records {
            path: path.display().to_string(),
            reason,
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| at_fault(error.to_string()))?;
        }
        let mut connection = Connection::open(path).map_err(|error| at_fault(error.to_string()))?;
        let ready = connection.busy_timeout(PATIENCE);
        ready.map_err(|error| at_fault(error.to_string()))?;
        schema::migrate(&mut connection).map_err(at_fault)?;
        Ok(Self {
            path: path.to_owned(),
            connection: Mutex::new(connection),
        })
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, ProvisionError> {
        let connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        work(&connection).map_err(|error| self.at_fault(error.to_string()))
    }

    fn at_fault(&self, reason: String) -> ProvisionError {
        ProvisionError::Records {
            path: self.path.display().to_string(),
            reason,
        }
    }

    /// Whose the deployments of this machine are, unless a person says otherwise: a random id, made at the first use.
    ///
    /// # Errors
    /// [`ProvisionError::Records`].
    pub fn owner(&self) -> Result<String, ProvisionError> {
        let fresh = Uuid::new_v4().simple().to_string();
        let fresh: String = fresh.chars().take(12).collect();
        self.with(|connection| {
            connection.execute(
                "INSERT OR IGNORE INTO settings (key, value) VALUES ('owner', ?1)",
                [fresh],
            )?;
            connection.query_row(
                "SELECT value FROM settings WHERE key = 'owner'",
                [],
                |row| row.get(0),
            )
        })
    }

    /// Keeps other processes of this machine off a deployment.
    ///
    /// # Errors
    /// When one works on it now.
    pub fn lock(&self, name: &Name) -> Result<Lock, ProvisionError> {
        let mut folder = self.path.clone().into_os_string();
        folder.push(".locks");
        let folder = PathBuf::from(folder);
        let opened = std::fs::create_dir_all(&folder)
            .and_then(|()| File::create(folder.join(name.as_str())));
        let file = opened.map_err(|error| self.at_fault(error.to_string()))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(std::fs::TryLockError::WouldBlock) => Err(self.at_fault(format!(
                "another chandler on this machine works on `{name}` now; wait for it to end"
            ))),
            Err(std::fs::TryLockError::Error(error)) => Err(self.at_fault(error.to_string())),
        }
    }

    /// Writes that a deployment is being made or changed.
    ///
    /// # Errors
    /// [`ProvisionError::Records`].
    pub fn begin(&self, record: &Record) -> Result<(), ProvisionError> {
        let now = now();
        self.with(|connection| {
            connection.execute(
                "INSERT OR IGNORE INTO places (platform, options) VALUES (?1, ?2)",
                params![record.platform, record.options.to_string()],
            )?;
            connection.execute(
                "INSERT INTO endpoints (name, platform, options, deployment, state, created, updated)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
                 ON CONFLICT (name) DO UPDATE SET options = ?3, deployment = ?4, state = ?5, error = NULL, updated = ?6",
                params![
                    record.name.as_str(),
                    record.platform,
                    record.options.to_string(),
                    record.deployment.to_string(),
                    record.state.as_str(),
                    now
                ],
            )
        })?;
        self.event(&record.name, record.state.as_str(), None)
    }

    /// Writes how far one came, and where it is reached or why it failed.
    ///
    /// # Errors
    /// [`ProvisionError::Records`].
    pub fn set(
        &self,
        name: &Name,
        state: State,
        url: Option<&str>,
        error: Option<&str>,
    ) -> Result<(), ProvisionError> {
        self.with(|connection| {
            connection.execute(
                "UPDATE endpoints SET state = ?2, url = COALESCE(?3, url), error = ?4, updated = ?5 WHERE name = ?1",
                params![name.as_str(), state.as_str(), url, error, now()],
            )
        })?;
        self.event(name, state.as_str(), error)
    }

    /// Writes another deployment into a record, where only the platform was asked to change.
    ///
    /// # Errors
    /// [`ProvisionError::Records`].
    pub fn amend(&self, name: &Name, deployment: &Value) -> Result<(), ProvisionError> {
        self.with(|connection| {
            connection.execute(
                "UPDATE endpoints SET deployment = ?2, updated = ?3 WHERE name = ?1",
                params![name.as_str(), deployment.to_string(), now()],
            )
        })?;
        self.event(name, "changed", None)
    }

    /// One record of every place where anything was ever made, also where it is gone: so that what was left there is found.
    ///
    /// # Errors
    /// [`ProvisionError::Records`].
    pub fn places(&self) -> Result<Vec<Record>, ProvisionError> {
        let rows = self.with(|connection| {
            let mut query = connection.prepare(
                "SELECT 'gone', platform, options, 'null', 'deleting', NULL, NULL, 0, 0 FROM places ORDER BY platform, options",
            )?;
            let rows = query.query_map([], raw)?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        rows.into_iter().map(|row| self.record(row)).collect()
    }

    /// Forgets one that is gone.
    ///
    /// # Errors
    /// [`ProvisionError::Records`].
    pub fn forget(&self, name: &Name) -> Result<(), ProvisionError> {
        self.with(|connection| {
            connection.execute("DELETE FROM endpoints WHERE name = ?1", [name.as_str()])
        })?;
        self.event(name, "deleted", None)
    }

    fn event(&self, name: &Name, what: &str, detail: Option<&str>) -> Result<(), ProvisionError> {
        self.with(|connection| {
            connection.execute(
                "INSERT INTO events (name, at, what, detail) VALUES (?1, ?2, ?3, ?4)",
                params![name.as_str(), now(), what, detail],
            )
        })?;
        Ok(())
    }

    /// What has happened to one, the oldest first: when (seconds since 1970), what, and more about it.
    ///
    /// # Errors
    /// [`ProvisionError::Records`].
    pub fn history(
        &self,
        name: &Name,
    ) -> Result<Vec<(u64, String, Option<String>)>, ProvisionError> {
        self.with(|connection| {
            let mut query = connection
                .prepare("SELECT at, what, detail FROM events WHERE name = ?1 ORDER BY id")?;
            let rows = query.query_map([name.as_str()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
            rows.collect()
        })
    }

    /// One of them.
    ///
    /// # Errors
    /// [`ProvisionError::Records`].
    pub fn find(&self, name: &Name) -> Result<Option<Record>, ProvisionError> {
        let row = self.with(|connection| {
            let query = format!("{SELECT} WHERE name = ?1");
            connection
                .query_row(&query, [name.as_str()], raw)
                .optional()
        })?;
        row.map(|row| self.record(row)).transpose()
    }

    /// All of them, the oldest first.
    ///
    /// # Errors
    /// [`ProvisionError::Records`].
    pub fn all(&self) -> Result<Vec<Record>, ProvisionError> {
        let rows = self.with(|connection| {
            let mut query = connection.prepare(&format!("{SELECT} ORDER BY created, name"))?;
            let rows = query.query_map([], raw)?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        rows.into_iter().map(|row| self.record(row)).collect()
    }

    fn record(&self, raw: Raw) -> Result<Record, ProvisionError> {
        let json = |text: &str| {
            serde_json::from_str(text).map_err(|error| self.at_fault(error.to_string()))
        };
        let state = State::parse(&raw.state)
            .ok_or_else(|| self.at_fault(format!("unknown state `{}`", raw.state)))?;
        Ok(Record {
            name: Name::parse(&raw.name)?,
            platform: raw.platform,
            options: json(&raw.options)?,
            deployment: json(&raw.deployment)?,
            state,
            url: raw.url,
            error: raw.error,
            created: raw.created,
            updated: raw.updated,
        })
    }
}

const SELECT: &str = "SELECT name, platform, options, deployment, state, url, error, created, updated FROM endpoints";

/// A row as the file has it.
struct Raw {
    name: String,
    platform: String,
    options: String,
    deployment: String,
    state: String,
    url: Option<String>,
    error: Option<String>,
    created: u64,
    updated: u64,
}

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok(Raw {
        name: row.get(0)?,
        platform: row.get(1)?,
        options: row.get(2)?,
        deployment: row.get(3)?,
        state: row.get(4)?,
        url: row.get(5)?,
        error: row.get(6)?,
        created: row.get(7)?,
        updated: row.get(8)?,
    })
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(name: &str) -> Record {
        Record {
            name: Name::parse(name).unwrap(),
            platform: "process".to_owned(),
            options: json!({"port": 8080}),
            deployment: json!({"image": "x"}),
            state: State::Creating,
            url: None,
            error: None,
            created: 0,
            updated: 0,
        }
    }

    #[test]
    fn what_was_begun_is_found_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/endpoints.db");
        let first = Records::open(&path).unwrap();
        let owner = first.owner().unwrap();
        let name = Name::parse("one").unwrap();
        first.begin(&record("one")).unwrap();
        drop(first);
        let second = Records::open(&path).unwrap();
        assert_eq!(second.owner().unwrap(), owner);
        let found = second.find(&name).unwrap().unwrap();
        assert_eq!(
            (found.state, &found.options),
            (State::Creating, &json!({"port": 8080}))
        );
        second
            .set(&name, State::Ready, Some("http://x"), None)
            .unwrap();
        second
            .set(&name, State::Failed, None, Some("it broke"))
            .unwrap();
        let found = second.find(&name).unwrap().unwrap();
        assert_eq!(
            (found.state, found.url.as_deref()),
            (State::Failed, Some("http://x"))
        );
        assert_eq!(found.error.as_deref(), Some("it broke"));
        // Begun again: the same row, its fault forgotten.
        second.begin(&record("one")).unwrap();
        assert_eq!(second.all().unwrap().len(), 1);
        assert_eq!(second.find(&name).unwrap().unwrap().error, None);
        second.amend(&name, &json!({"image": "y"})).unwrap();
        assert_eq!(
            second.find(&name).unwrap().unwrap().deployment,
            json!({"image": "y"})
        );
        second.forget(&name).unwrap();
        assert!(second.all().unwrap().is_empty());
        let places = second.places().unwrap();
        assert_eq!(
            (places.len(), &places[0].options),
            (1, &json!({"port": 8080}))
        );
        let what: Vec<String> = second
            .history(&name)
            .unwrap()
            .into_iter()
            .map(|event| event.1)
            .collect();
        assert_eq!(
            what,
            [
                "creating", "ready", "failed", "creating", "changed", "deleted"
            ]
        );
    }

    #[test]
    fn one_process_at_a_time_works_on_a_deployment() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(&folder.path().join("endpoints.db")).unwrap();
        let (one, two) = (Name::parse("one").unwrap(), Name::parse("two").unwrap());
        let held = records.lock(&one).unwrap();
        assert!(
            records
                .lock(&one)
                .unwrap_err()
                .to_string()
                .contains("works on `one`")
        );
        assert!(records.lock(&two).is_ok());
        drop(held);
        assert!(records.lock(&one).is_ok());
    }
}

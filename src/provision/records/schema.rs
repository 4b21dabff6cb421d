//! The file's tables, as a list of steps from nothing to what is read today. A step that was published is never changed.

use rusqlite::Connection;

const STEPS: &[&str] = &[
    // 1
    "CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
     CREATE TABLE endpoints (
         name TEXT PRIMARY KEY,
         platform TEXT NOT NULL,
         options TEXT NOT NULL,
         deployment TEXT NOT NULL,
         state TEXT NOT NULL,
         url TEXT,
         error TEXT,
         created INTEGER NOT NULL,
         updated INTEGER NOT NULL
     ) STRICT;
     CREATE TABLE places (platform TEXT NOT NULL, options TEXT NOT NULL, UNIQUE (platform, options)) STRICT;
     CREATE TABLE events (
         id INTEGER PRIMARY KEY,
         name TEXT NOT NULL,
         at INTEGER NOT NULL,
         what TEXT NOT NULL,
         detail TEXT
     ) STRICT;",
];

/// Brings a file up to date, each step whole or not at all.
///
/// # Errors
/// What is wrong with the file; that a newer chandler wrote it.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), String> {
    let work = |connection: &mut Connection| -> rusqlite::Result<Result<(), String>> {
        // Immediate: two processes that start together do not both take the first step.
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let at: usize = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if at > STEPS.len() {
            return Ok(Err(format!(
                "they were written by a newer chandler (format {at}; this one knows {}); use that one, or another --records file",
                STEPS.len()
            )));
        }
        for step in STEPS.iter().skip(at) {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "user_version", STEPS.len())?;
        transaction.commit()?;
        Ok(Ok(()))
    };
    work(connection).map_err(|error| error.to_string())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_newer_program_is_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        migrate(&mut connection).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        assert!(
            migrate(&mut connection)
                .unwrap_err()
                .contains("newer chandler")
        );
    }
}

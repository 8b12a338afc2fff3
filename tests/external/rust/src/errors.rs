//! Errors have the kinds that the driver knows, with the right fields, and the session serves on.

use crate::suite::{Checked, KEYSPACE, check, equal, run};
use scylla::client::session::Session;
use scylla::errors::{DbError, ExecutionError, PrepareError, RequestAttemptError};

/// What the server said; an error if it was something else.
pub(crate) fn said<T>(answer: Result<T, ExecutionError>) -> Checked<DbError> {
    match answer {
        Ok(_) => Err("it went well".into()),
        Err(ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, _))) => Ok(error),
        Err(ExecutionError::PrepareError(PrepareError::AllAttemptsFailed {
            first_attempt: RequestAttemptError::DbError(error, _),
        })) => Ok(error),
        Err(error) => Err(format!("no error of the server, but {error}").into()),
    }
}

pub(crate) async fn mistakes(on: &Session) -> Checked {
    run(on, format!("CREATE TABLE {KEYSPACE}.right (k int PRIMARY KEY, v int)")).await?;
    let already = |table: &str| DbError::AlreadyExists {
        keyspace: KEYSPACE.to_owned(),
        table: table.to_owned(),
    };
    let cases = [
        ("SELEC nonsense".to_owned(), DbError::SyntaxError),
        (format!("SELECT * FROM {KEYSPACE}.nothing"), DbError::Invalid),
        (format!("SELECT nothing FROM {KEYSPACE}.right"), DbError::Invalid),
        (format!("INSERT INTO {KEYSPACE}.right (v) VALUES (1)"), DbError::Invalid),
        (format!("SELECT * FROM {KEYSPACE}.right WHERE v = 1"), DbError::Invalid),
        (format!("CREATE TABLE {KEYSPACE}.right (k int PRIMARY KEY)"), already("right")),
        (
            format!(
                "CREATE KEYSPACE {KEYSPACE} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
            ),
            already(""),
        ),
        (
            format!(
                "CREATE KEYSPACE {KEYSPACE}_odd WITH replication = {{'class': 'NoSuchStrategy'}}"
            ),
            DbError::ConfigError,
        ),
    ];
    for (text, wanted) in cases {
        let found = said(on.query_unpaged(text.as_str(), ()).await);
        equal(found.map_err(|error| format!("{text}: {error}"))?, wanted, &text)?;
    }
    // A value of the wrong size, which the driver's own types would not let through.
    let insert = on.prepare(format!("INSERT INTO {KEYSPACE}.right (k, v) VALUES (?, ?)")).await?;
    check(on.execute_unpaged(&insert, (1, "text")).await.is_err(), "text for an int was taken")?;
    run(on, format!("INSERT INTO {KEYSPACE}.right (k, v) VALUES (1, 1)")).await
}

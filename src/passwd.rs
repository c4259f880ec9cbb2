//! `startdb passwd`: a new password for a user of a stopped server, for those who lost the old one. Who may write the data
//! directory owns the server anyway.

use std::fs;
use std::io::{self, BufRead, IsTerminal};
use std::path::Path;

use value::{Error, Result, SqlState};

use crate::config::{Stop, read_secret};
use crate::directory;

/// The new password: from a file, a person (twice), or the first line of the standard input.
pub fn new_password(file: Option<&Path>) -> std::result::Result<String, Stop> {
    let failed = |error: io::Error| Stop::Invalid(format!("the password could not be read: {error}"));
    let password = match file {
        Some(file) => read_secret("--password-file", file)?,
        None if io::stdin().is_terminal() => {
            let first = rpassword::prompt_password("New password: ").map_err(failed)?;
            if first != rpassword::prompt_password("Again: ").map_err(failed)? {
                return Err(Stop::Invalid("the two passwords are not the same".to_owned()));
            }
            first
        }
        None => {
            let mut line = String::new();
            io::stdin().lock().read_line(&mut line).map_err(failed)?;
            line.trim_end_matches(['\r', '\n']).to_owned()
        }
    };
    if password.is_empty() {
        return Err(Stop::Invalid("an empty password is not possible".to_owned()));
    }
    Ok(password)
}

/// Sets it; gives the user's name. 55006 while the server runs, 42704 for an unknown user.
pub fn set(data_dir: &Path, user: Option<&str>, password: &str) -> Result<String> {
    directory::check_existing(data_dir)?;
    let engine = engine::Engine::open(engine::Options::new(data_dir)).map_err(|error| {
        if error.state() == SqlState::OBJECT_IN_USE {
            error.hint("Stop the server first, or change the password in it: ALTER ROLE name PASSWORD '...'.")
        } else {
            error
        }
    })?;
    let changed = change(&engine, user, password);
    let closed = engine.close();
    let user = changed?;
    closed?;
    // What the first start wrote there is no longer true.
    match fs::remove_file(data_dir.join("initial-password")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(user),
    }
}

fn change(engine: &engine::Engine, user: Option<&str>, password: &str) -> Result<String> {
    let database = sql::Database::open(engine.clone(), sql::Options::default())?;
    let first =
        engine.catalog().role(engine::catalog::oid::BOOTSTRAP_SUPERUSER).map(|role| role.name.clone());
    let user = match user {
        Some(user) => user.to_owned(),
        None => first.ok_or_else(|| Error::internal("the directory has no first superuser"))?,
    };
    // The verifier, so that the password stands in no text.
    let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
    let statement = format!("ALTER ROLE {} PASSWORD '{verifier}'", sql::quote_ident(&user));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut session = database.internal_session("template1").await?;
        session.run(&statement).await
    })?;
    Ok(user)
}

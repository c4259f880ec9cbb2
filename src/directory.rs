//! Whose directory it is: a file in it says that it is ours and in which format, before anything else is touched.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use value::{Error, Result, SqlState};

/// Raised when an older server could not read what a newer one writes.
const FORMAT: u32 = 1;
const MARKER: &str = "startdb.format";

/// Makes the directory (0700) or checks that it is ours and not newer than we are. A directory that is in use is
/// found out by the engine's lock.
pub fn prepare(directory: &Path) -> Result<()> {
    let refuse = |message: String| Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message);
    let marker = directory.join(MARKER);
    if let Ok(text) = fs::read_to_string(&marker) {
        let format: u32 = text
            .trim()
            .parse()
            .map_err(|_| refuse(format!("\"{}\" does not hold a format number", marker.display())))?;
        if format > FORMAT {
            return Err(refuse(format!(
                "the data directory \"{}\" has format {format}; this server knows formats up to {FORMAT}",
                directory.display()
            ))
            .hint("Start it with the newer version of StartDB that made it."));
        }
        return Ok(());
    }
    if directory.exists() {
        let mut entries = fs::read_dir(directory).map_err(|error| at(directory, error))?;
        if entries.next().is_some() {
            return Err(refuse(format!(
                "\"{}\" is not empty and is not a StartDB data directory",
                directory.display()
            ))
            .hint("Name an empty or missing directory with --data-dir."));
        }
    } else {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| at(directory, error))?;
    }
    write_private(&marker, &format!("{FORMAT}\n"))
}

/// Writes a file that only its owner may read.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| at(path, error))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| at(path, error))
}

fn at(path: &Path, error: std::io::Error) -> Error {
    Error::new(SqlState::IO_ERROR, format!("\"{}\": {error}", path.display()))
}

//! Whose directory it is: a file in it says that it is ours and in which format, before anything else is touched; another says
//! that its first start is not over.
//!
//! A first start that fails leaves nothing behind: [`Prepared::undo`] removes what was made. One that was killed leaves the second
//! file, and the next start begins anew: no client has been let in, so nothing of anybody's is lost.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use value::{Error, Result, SqlState};

/// Raised when an older server could not read what a newer one writes.
const FORMAT: u32 = 1;
const MARKER: &str = "startdb.format";
/// Exists from the first moment of a first start to its end.
const UNFINISHED: &str = "startdb.initializing";
/// What may stand in a directory that is given to us: what file systems make at a mount point, and our configuration.
const HARMLESS: &[&str] = &["lost+found", crate::config::FILE, crate::config::INCLUDED];

/// A directory that a start may use.
#[derive(Debug)]
pub struct Prepared {
    directory: PathBuf,
    /// The first start: nothing is in it yet.
    pub fresh: bool,
    /// The directory itself was made; with it, the first of its parents that was.
    made: Option<PathBuf>,
    /// Kept or undone, whichever comes first.
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Kept,
    Undone,
}

fn refuse(message: String) -> Error {
    Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message)
}

/// Makes the directory (0700) or checks that it is ours, whole, and not newer than we are. A directory that is in use is
/// found out by the engine's lock. Errors: 55000 for a directory that is not ours, 42501 for one we may not write, 53100 without room.
pub fn prepare(directory: &Path) -> Result<Prepared> {
    let existing =
        |fresh| Prepared { directory: directory.to_owned(), fresh, made: None, state: Mutex::default() };
    if directory.join(MARKER).exists() || directory.join(UNFINISHED).exists() {
        check_owner(directory)?;
        if !directory.join(UNFINISHED).exists() {
            check_existing(directory)?;
            return Ok(existing(false));
        }
        tracing::warn!(
            directory = %directory.display(),
            "the first start of this directory did not come to its end; it begins anew"
        );
        let prepared = existing(true);
        prepared.empty()?;
        return mark(prepared);
    }
    match fs::read_dir(directory) {
        Ok(entries) => {
            let foreign = entries
                .map(|entry| entry.map(|entry| entry.file_name()))
                .find(|name| !name.as_ref().is_ok_and(harmless));
            match foreign {
                None => {}
                Some(Err(error)) => return Err(at(directory, error)),
                Some(Ok(_)) => {
                    return Err(refuse(format!(
                        "\"{}\" is not empty and is not a StartDB data directory",
                        directory.display()
                    ))
                    .hint("Name an empty or missing directory with --data-dir."));
                }
            }
            mark(existing(true))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let absolute = std::path::absolute(directory).map_err(|error| at(directory, error))?;
            let made = absolute.ancestors().take_while(|parent| !parent.exists()).last().map(Path::to_owned);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(|error| at(directory, error))?;
            mark(Prepared { made, ..existing(true) })
        }
        Err(error) => Err(at(directory, error)),
    }
}

/// Writes the two files of a first start. What fails here is undone.
fn mark(prepared: Prepared) -> Result<Prepared> {
    let directory = &prepared.directory;
    let marked = write_private(&directory.join(UNFINISHED), "")
        .and_then(|()| write_private(&directory.join(MARKER), &format!("{FORMAT}\n")));
    match marked {
        Ok(()) => {
            // Only the owner may change it; a mount point of somebody else's keeps its permissions.
            if let Err(error) = fs::set_permissions(directory, fs::Permissions::from_mode(0o700)) {
                tracing::debug!(%error, "the permissions of the data directory stay as they are");
            }
            Ok(prepared)
        }
        Err(error) => {
            prepared.undo();
            Err(error)
        }
    }
}

/// That a directory is ours, finished, and not newer than we are.
pub fn check_existing(directory: &Path) -> Result<()> {
    let marker = directory.join(MARKER);
    let text = fs::read_to_string(&marker).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            refuse(format!("\"{}\" is not a StartDB data directory", directory.display()))
        }
        _ => at(&marker, error),
    })?;
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
    Ok(())
}

/// A server started by another user would leave files that the owner cannot read.
fn check_owner(directory: &Path) -> Result<()> {
    let marker = [MARKER, UNFINISHED].iter().map(|name| directory.join(name)).find(|file| file.exists());
    let Some(marker) = marker else { return Ok(()) };
    let owner = fs::metadata(&marker).map_err(|error| at(&marker, error))?.uid();
    let own = rustix::process::geteuid().as_raw();
    if owner == own {
        return Ok(());
    }
    Err(refuse(format!("data directory \"{}\" has wrong ownership", directory.display()))
        .detail(format!("It belongs to the user with id {owner}; this process runs as {own}."))
        .hint("The server must be started by the user that owns the data directory."))
}

fn harmless(name: &OsString) -> bool {
    HARMLESS.iter().any(|known| name == known)
}

impl Prepared {
    /// The first start came to its end: from now on the directory is kept.
    pub fn finish(&self) -> Result<()> {
        if !self.fresh {
            return Ok(());
        }
        let mut state = self.state.lock();
        if *state == State::Undone {
            return Err(refuse("the first start was stopped".to_owned()));
        }
        let file = self.directory.join(UNFINISHED);
        fs::remove_file(&file).map_err(|error| at(&file, error))?;
        *state = State::Kept;
        fs::File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| at(&self.directory, error))
    }

    /// Removes everything a first start made; does nothing to a directory that was there before or is kept.
    pub fn undo(&self) {
        let mut state = self.state.lock();
        if !self.fresh || *state != State::Open {
            return;
        }
        *state = State::Undone;
        let remove = || match &self.made {
            Some(_) => fs::remove_dir_all(&self.directory),
            None => self.empty().map_err(|error| io::Error::other(error.message().to_owned())),
        };
        // Threads of the start that failed may still make a file or two.
        let mut removed = remove();
        for _ in 0..3 {
            if removed.is_err() {
                std::thread::sleep(std::time::Duration::from_millis(20));
                removed = remove();
            }
        }
        if let (Ok(()), Some(made), Ok(absolute)) =
            (&removed, &self.made, std::path::absolute(&self.directory))
        {
            // Parents that were made go too, if nobody has put anything there meanwhile.
            for parent in absolute.ancestors().skip(1).take_while(|parent| parent.starts_with(made)) {
                if fs::remove_dir(parent).is_err() {
                    break;
                }
            }
        }
        if let Err(error) = removed {
            tracing::warn!(%error, directory = %self.directory.display(), "could not remove what the failed first start left");
        }
    }

    fn empty(&self) -> Result<()> {
        let entries = fs::read_dir(&self.directory).map_err(|error| at(&self.directory, error))?;
        let mut last = None;
        for entry in entries {
            let entry = entry.map_err(|error| at(&self.directory, error))?;
            let path = entry.path();
            if harmless(&entry.file_name()) {
                continue;
            }
            // The file that says what state this is goes last, in case this does not come to its end either.
            if entry.file_name() == UNFINISHED {
                last = Some(path);
                continue;
            }
            let directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed = if directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|error| at(&path, error))?;
        }
        match last {
            Some(path) => fs::remove_file(&path).map_err(|error| at(&path, error)),
            None => Ok(()),
        }
    }
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

fn at(path: &Path, error: io::Error) -> Error {
    let message = format!("\"{}\": {error}", path.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
            let owner = fs::metadata(folder).map(|metadata| metadata.uid()).ok();
            let error = Error::new(SqlState::INSUFFICIENT_PRIVILEGE, message);
            match owner {
                Some(owner) => error.hint(format!(
                    "\"{}\" belongs to the user with id {owner}, and this process runs as {}; name another directory with --data-dir, or change its owner.",
                    folder.display(),
                    rustix::process::geteuid().as_raw()
                )),
                None => error.hint("Name another directory with --data-dir."),
            }
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::new(SqlState::DISK_FULL, message)
            .hint("Make room on that file system, or name a directory on another one with --data-dir."),
        io::ErrorKind::NotADirectory => refuse(format!("\"{}\" is not a directory", path.display()))
            .hint("Name an empty or missing directory with --data-dir."),
        _ => Error::new(SqlState::IO_ERROR, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_first_start_leaves_what_was_there() {
        let folder = tempfile::tempdir().expect("a directory");
        let deep = folder.path().join("a/b/data");
        let prepared = prepare(&deep).expect("made");
        assert!(prepared.fresh);
        fs::create_dir(deep.join("base")).expect("made");
        prepared.undo();
        assert!(!folder.path().join("a").exists());

        let given = folder.path().join("given");
        fs::create_dir_all(given.join("lost+found")).expect("made");
        fs::write(given.join("startdb.toml"), "").expect("written");
        let prepared = prepare(&given).expect("taken");
        fs::write(given.join("wal"), "x").expect("written");
        prepared.undo();
        let mut left: Vec<_> =
            fs::read_dir(&given).expect("there").flatten().map(|entry| entry.file_name()).collect();
        left.sort();
        assert_eq!(left, ["lost+found", "startdb.toml"]);
    }

    #[test]
    fn a_killed_first_start_begins_anew_and_a_finished_one_is_kept() {
        let folder = tempfile::tempdir().expect("a directory");
        let data = folder.path().join("data");
        prepare(&data).expect("made");
        fs::write(data.join("half"), "x").expect("written");
        let prepared = prepare(&data).expect("again");
        assert!(prepared.fresh && !data.join("half").exists());
        prepared.finish().expect("finished");
        prepared.undo();
        fs::write(data.join("whole"), "x").expect("written");
        let prepared = prepare(&data).expect("kept");
        assert!(!prepared.fresh);
        prepared.undo();
        assert!(data.join("whole").exists());
    }
}

//! What only matters to the main process of a container: that a volume is not mounted where nobody writes, and children that
//! lost their parents.

use std::fs;
use std::path::{Path, PathBuf};

use value::{Error, Result, SqlState};

/// Where images of this server and of PostgreSQL keep their data: what people mount by habit.
const USUAL: &[&str] = &["/var/lib/startdb", "/var/lib/postgresql", "/var/lib/postgresql/data"];

/// Refuses to write past a mounted volume: the data would be gone with the container. 55000.
pub fn check_volumes(data_dir: &Path) -> Result<()> {
    let Ok(text) = fs::read_to_string("/proc/self/mountinfo") else { return Ok(()) };
    let directory = std::path::absolute(data_dir)?;
    match unused_volume(&text, &directory) {
        None => Ok(()),
        Some(volume) => Err(Error::new(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("a volume is mounted at \"{}\" and would not be used", volume.display()),
        )
        .detail(format!(
            "The data directory is \"{}\", which is not in it; the data would be lost with the container.",
            directory.display()
        ))
        .hint(format!(
            "Mount the volume at \"{}\", or set PGDATA={}.",
            directory.display(),
            volume.join("data").display()
        ))),
    }
}

/// A usual place that is a mount point while the data go elsewhere. Data on another volume, chosen on purpose, are safe.
fn unused_volume(mountinfo: &str, data_dir: &Path) -> Option<PathBuf> {
    // Fifth field of each line: the mount point, with blanks and the like in octal.
    let points: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(|line| Some(PathBuf::from(line.split(' ').nth(4)?.replace("\\040", " "))))
        .collect();
    let home = points
        .iter()
        .filter(|point| data_dir.starts_with(point))
        .max_by_key(|point| point.components().count());
    let usual = |point: &Path| USUAL.iter().any(|usual| point == Path::new(usual));
    let chosen = home.is_some_and(|home| home != Path::new("/") && !usual(home));
    if chosen {
        return None;
    }
    points.into_iter().find(|point| usual(point) && !data_dir.starts_with(point))
}

/// Takes leave of children that ended and whose parents are gone, as the first process of a container must.
pub fn reap() {
    while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_that_nobody_writes_to() {
        let mounts = |points: &[&str]| -> String {
            ["/", "/proc"]
                .iter()
                .chain(points)
                .map(|point| format!("36 35 98:0 /x {point} rw - ext4 /dev/a rw\n"))
                .collect()
        };
        for (points, data, expected) in [
            (vec![], "/var/lib/startdb", None),
            (vec!["/var/lib/startdb"], "/var/lib/startdb", None),
            (vec!["/var/lib/startdb"], "/var/lib/startdb/data", None),
            (vec!["/var/lib/postgresql/data"], "/var/lib/startdb", Some("/var/lib/postgresql/data")),
            (
                vec!["/var/lib/startdb", "/var/lib/postgresql"],
                "/var/lib/startdb",
                Some("/var/lib/postgresql"),
            ),
            (vec!["/var/lib/postgresql"], "/var/lib/postgresql/18/docker", None),
            (vec!["/var/lib/startdb", "/mine"], "/mine/data", None),
            (vec!["/var/lib/startdb"], "/mine/data", Some("/var/lib/startdb")),
        ] {
            assert_eq!(
                unused_volume(&mounts(&points), Path::new(data)),
                expected.map(PathBuf::from),
                "{points:?} {data}"
            );
        }
    }
}

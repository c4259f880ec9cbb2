//! What ARCHITECTURE.md promises about the tree, as tests: who depends on whom, and which names stay in which room.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Crate -> its folder -> the crates of this workspace it may depend on.
const LAYERS: &[(&str, &str, &[&str])] = &[
    ("value", "engine/value", &[]),
    ("engine", "engine", &["value"]),
    ("session", "sql/session", &["value"]),
    ("function", "sql/function", &["value"]),
    ("resolve", "sql/resolve", &["value", "engine", "function"]),
    ("plan", "sql/plan", &["value", "engine", "function", "resolve"]),
    ("execute", "sql/execute", &["value", "engine", "function", "resolve", "plan"]),
    ("analytic", "sql/analytic", &["value", "engine", "function", "resolve", "plan", "execute"]),
    ("sql", "sql", &["value", "engine", "session", "function", "resolve", "plan", "execute"]),
    ("wire", "wire", &["value", "session"]),
    ("optimizer", "optimizer", &["value", "session", "sql"]),
    ("startdb", ".", &["value", "engine", "session", "sql", "analytic", "wire", "optimizer"]),
];

/// Names that only one room may speak. (folder searched, name, folders where it is at home)
const NAMES: &[(&str, &str, &[&str])] = &[
    (".", "redb::", &["engine/src/base"]),
    (".", "datafusion", &["sql/analytic"]),
    ("engine", "tokio::", &[]),
    (".", "pgwire::", &["wire/src"]),
    (".", "sqlparser::", &["sql/resolve/src", "sql/src/command/view.rs"]),
    ("engine/src", "std::fs", &["engine/src/disk", "engine/src/disk.rs"]),
];

#[test]
fn dependencies_point_one_way() {
    let mut wrong = Vec::new();
    let known: Vec<&str> = LAYERS.iter().map(|(name, _, _)| *name).collect();
    for (name, folder, allowed) in LAYERS {
        let text = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        for dependency in section(&text, "[dependencies]") {
            if known.contains(&dependency.as_str()) && !allowed.contains(&dependency.as_str()) {
                wrong.push(format!("{name} depends on {dependency}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The names in one table of a manifest.
fn section(manifest: &str, header: &str) -> Vec<String> {
    manifest
        .lines()
        .skip_while(|line| line.trim() != header)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| Some(line.split(['.', '=', ' ']).next()?.trim().to_owned()))
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .collect()
}

#[test]
fn names_stay_in_their_rooms() {
    let mut wrong = Vec::new();
    for (folder, name, homes) in NAMES {
        for file in sources(&root().join(folder)) {
            let place = file.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
            let at_home = homes.iter().any(|home| place.starts_with(home));
            if at_home
                || place.contains("/tests/")
                || place.starts_with("tests/")
                || place.contains("/benches/")
            {
                continue;
            }
            let text = fs::read_to_string(&file).expect("a source file");
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                if code.contains(name) {
                    wrong.push(format!("{place}:{}: {name}", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn versions_stand_in_the_root_manifest_only() {
    for (name, folder, _) in LAYERS {
        let text = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        for header in ["[dependencies]", "[dev-dependencies]"] {
            let lines = text.lines().skip_while(|line| line.trim() != header).skip(1);
            for line in lines.take_while(|line| !line.starts_with('[')).filter(|line| line.contains('=')) {
                assert!(line.contains("workspace = true"), "{name}: {line}");
            }
        }
    }
}

/// Documents speak of what is there: every path in backquotes that looks like one of ours exists.
#[test]
fn documents_name_existing_paths() {
    let mut wrong: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for document in ["README.md", "ARCHITECTURE.md", "COMPAT.md"] {
        let text = fs::read_to_string(root().join(document)).expect("a document");
        for piece in text.split('`').skip(1).step_by(2) {
            let ours = ["src/", "wire/", "sql/", "engine/", "optimizer/", "deploy/", "tests/"];
            if ours.iter().any(|start| piece.starts_with(start))
                && !piece.contains([' ', '*', '{', '<'])
                && !root().join(piece).exists()
            {
                wrong.entry(document).or_default().push(piece.to_owned());
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() && !name.to_string_lossy().starts_with('.') && name != "target" {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

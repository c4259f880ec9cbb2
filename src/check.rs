//! `startdb check`: looks at the data of a stopped server, changes nothing.

use std::path::Path;
use std::process::ExitCode;

/// Damage was found.
const DAMAGED: u8 = 5;

/// Prints what was looked at and what is wrong. 0: nothing; 5: damage; 1: it could not look.
pub fn run(directory: &Path) -> ExitCode {
    let report = match engine::check(directory, engine::disk::RealDisk::new()) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("startdb: {}", error.message());
            if let Some(hint) = &error.fields().hint {
                eprintln!("  hint: {hint}");
            }
            return ExitCode::FAILURE;
        }
    };
    println!(
        "checked {} tables ({} rows in {} blocks), {} indexes ({} entries), {} log records{}",
        report.tables,
        report.rows,
        report.blocks,
        report.indexes,
        report.index_entries,
        report.log_records,
        if report.replayed { ", replayed from the first one" } else { "" }
    );
    if report.findings.is_empty() {
        println!("no damage found");
        return ExitCode::SUCCESS;
    }
    for finding in &report.findings {
        println!("damage: {finding}");
    }
    println!("{} findings; restore the database from a backup", report.findings.len());
    ExitCode::from(DAMAGED)
}

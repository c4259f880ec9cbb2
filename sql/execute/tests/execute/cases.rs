//! `cases.txt`: statements, `----`, then the rows (`|` between columns, `~` for NULL) or the error, as PostgreSQL gives them.

use crate::database::Database;

#[test]
fn cases() {
    let database = Database::new();
    let mut failures = Vec::new();
    let text = include_str!("cases.txt");
    for block in text.split("\n\n") {
        let block = block.trim_start_matches('\n');
        let Some((sql, expected)) = block.split_once("\n----") else { continue };
        let expected: Vec<&str> = expected.trim_matches('\n').lines().collect();
        let got = match database.run(sql) {
            Ok(answer) => answer.rows,
            Err(error) => {
                let mut lines = vec![format!("ERROR {}: {}", error.state(), error.message())];
                lines.extend(error.fields().detail.iter().map(|detail| format!("DETAIL {detail}")));
                lines
            }
        };
        if got != expected {
            failures.push(format!(
                "{sql}\n-- expected\n{}\n-- got\n{}\n",
                expected.join("\n"),
                got.join("\n")
            ));
        }
    }
    assert!(failures.is_empty(), "{} cases differ:\n{}", failures.len(), failures.join("\n"));
}

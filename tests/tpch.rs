//! The 22 queries of TPC-H over generated data, loaded through COPY into StartDB and PostgreSQL: every value of every
//! answer is the same text. Scale 0.01 by default; `TPCH_SCALE=0.1 cargo test --release tpch -- --nocapture` is the
//! promised size and prints the time of each query.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::client::{Client, Row};
use crate::postgres::Postgres;
use crate::programs::{cache, command, have, succeed};
use crate::server::{Server, source};

const TABLES: &[&str] =
    &["region", "nation", "part", "supplier", "partsupp", "customer", "orders", "lineitem"];

/// Made once per scale and kept: the generator gives the same bytes every time.
fn data(scale: &str) -> PathBuf {
    let folder = cache().join(format!("tpch-{scale}"));
    if !folder.exists() {
        let making = cache().join(format!("tpch-{scale}-{}", std::process::id()));
        succeed(command("tpchgen-cli").args(["csv", "-s", scale, "--output-dir"]).arg(&making));
        // Another process may have been quicker.
        if fs::rename(&making, &folder).is_err() {
            fs::remove_dir_all(&making).expect("removed");
        }
    }
    folder
}

fn load(client: &mut Client, data: &Path) {
    client.run(&fs::read_to_string(source("tpch/schema.sql")).expect("the schema"));
    for table in TABLES {
        let mut file = File::open(data.join(format!("{table}.csv"))).expect("generated data");
        let chunks = std::iter::from_fn(|| {
            let mut chunk = vec![0; 1 << 16];
            let count = file.read(&mut chunk).expect("readable");
            chunk.truncate(count);
            (count > 0).then_some(chunk)
        });
        let answer = client.copy_in(&format!("COPY {table} FROM STDIN (FORMAT csv, HEADER)"), chunks);
        assert!(answer.unwrap_or_else(|failure| panic!("{table}: {failure}")).tag.starts_with("COPY "));
    }
    // Without it PostgreSQL reads the largest table once for each part that q17 and q20 ask about.
    client.run(&fs::read_to_string(source("tpch/indexes.sql")).expect("the indexes"));
    client.run("ANALYZE");
}

fn queries() -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = fs::read_dir(source("tpch/queries"))
        .expect("queries")
        .flatten()
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                fs::read_to_string(entry.path()).expect("text"),
            )
        })
        .collect();
    found.sort();
    assert_eq!(found.len(), 22);
    found
}

#[test]
fn tpch_gives_the_answers_of_postgres() {
    let Some(postgres) = Postgres::shared().filter(|_| have(&["tpchgen-cli"])) else { return };
    let scale = std::env::var("TPCH_SCALE").unwrap_or_else(|_| String::from("0.01"));
    let data = data(&scale);
    let server = Server::start();
    let mut ours = server.connect();
    let begin = Instant::now();
    load(&mut ours, &data);
    eprintln!("loaded in {:?}", begin.elapsed());
    let mut admin = postgres.login().connect();
    admin.run("DROP DATABASE IF EXISTS tpch");
    admin.run("CREATE DATABASE tpch");
    let mut theirs = postgres.login().database("tpch").connect();
    load(&mut theirs, &data);

    let mut wrong = Vec::new();
    let (mut total, mut total_postgres) = (Duration::ZERO, Duration::ZERO);
    for (name, sql) in queries() {
        let begin = Instant::now();
        let got = ours.simple(&sql);
        let took = begin.elapsed();
        let begin = Instant::now();
        let expected = theirs.run(&sql);
        let took_postgres = begin.elapsed();
        total += took;
        total_postgres += took_postgres;
        eprintln!("{name}: {took:.1?}, PostgreSQL {took_postgres:.1?}");
        match got {
            Err(failure) => wrong.push(format!("{name}: {failure}")),
            Ok(answers) => {
                // Ties come in any order.
                let sorted = |mut rows: Vec<Row>| {
                    rows.sort();
                    rows
                };
                let (expected, got) = (sorted(expected.rows), sorted(answers[0].rows.clone()));
                if expected != got {
                    let pair = expected.iter().zip(&got).find(|(a, b)| a != b);
                    wrong.push(format!(
                        "{name}: {} rows for {}; first difference {pair:?}",
                        got.len(),
                        expected.len()
                    ));
                }
            }
        }
    }
    eprintln!("all 22: {total:.1?}, PostgreSQL {total_postgres:.1?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(total < Duration::from_secs(60), "all 22 took {total:?}");
}

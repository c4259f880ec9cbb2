//! Drivers as applications use them. Each script checks what it reads back, and prints what else it saw; that must be
//! the same for PostgreSQL, line by line.

use std::process::Command;

use crate::postgres::Postgres;
use crate::programs::{self, succeed};
use crate::server::{Server, source};

fn driver(program: &'static str, script: &str) {
    if !programs::have(&[program]) {
        return;
    }
    let server = Server::start();
    let run = |mut command: Command| {
        let node_path = programs::cache().join("node/node_modules");
        if program == "java" {
            command.args(["-cp", programs::JDBC]);
        }
        let command = command.arg(source("clients").join(script)).arg(source("clients/failing.sql"));
        succeed(command.env("NODE_PATH", node_path).env("PYTHONUNBUFFERED", "1").env("TZ", "UTC"))
    };
    let mut own = server.libpq(program);
    own.env("PGSSLMODE", "require");
    let got = run(own);
    let Some(postgres) = Postgres::shared() else { return };
    let mut login = postgres.login().connect();
    login.run(&format!("DROP DATABASE IF EXISTS {}", script.split('.').next().unwrap_or(script)));
    login.run(&format!("CREATE DATABASE {}", script.split('.').next().unwrap_or(script)));
    let mut theirs = postgres.libpq(program);
    theirs.env("PGDATABASE", script.split('.').next().unwrap_or(script)).env("PGSSLMODE", "disable");
    let expected = run(theirs);
    let different: Vec<String> = expected
        .lines()
        .zip(got.lines())
        .filter(|(expected, got)| expected != got)
        .map(|(expected, got)| format!("expected: {expected}\n     got: {got}"))
        .collect();
    assert!(different.is_empty(), "{script}: {} lines differ\n{}", different.len(), different.join("\n"));
    assert_eq!(expected.lines().count(), got.lines().count(), "{script}: lines");
}

#[test]
fn psycopg3() {
    driver("python", "psycopg3.py");
}

#[test]
fn asyncpg() {
    driver("python", "asyncpg_client.py");
}

#[test]
fn jdbc() {
    driver("java", "jdbc.java");
}

#[test]
fn node_postgres() {
    driver("node-pg", "node.js");
}

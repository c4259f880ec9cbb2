//! psql over TLS with the password: what people type first. What `\d` and its kin show is compared with what they
//! show for the same objects in PostgreSQL.

use std::process::Command;

use crate::postgres::Postgres;
use crate::programs::{have, succeed};
use crate::server::{Server, create};

const SCHEMA: &str = r"
CREATE SCHEMA shop;
CREATE TABLE shop.customer (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name varchar(40) NOT NULL,
    email text UNIQUE,
    born date,
    credit numeric(10,2) DEFAULT 0.00 NOT NULL CHECK (credit >= 0.00),
    tags text[],
    created timestamptz(3) DEFAULT now()
);
CREATE TABLE shop.purchase (
    id bigserial PRIMARY KEY,
    customer int NOT NULL REFERENCES shop.customer ON DELETE CASCADE,
    amount numeric NOT NULL,
    note text DEFAULT 'abc',
    code char(3) DEFAULT 'x',
    CONSTRAINT sane CHECK (amount > 0.0 AND amount < 99999.5)
);
CREATE INDEX purchase_customer ON shop.purchase (customer, amount DESC);
CREATE INDEX purchase_big ON shop.purchase (amount) WHERE amount > 100.0;
CREATE INDEX purchase_note ON shop.purchase (lower(note));
CREATE VIEW shop.spent AS SELECT c.name, sum(p.amount) AS total FROM shop.customer c JOIN shop.purchase p ON p.customer = c.id GROUP BY c.name;
CREATE SEQUENCE shop.numbers START 100 INCREMENT 5;
CREATE ROLE clerk LOGIN;
GRANT SELECT, INSERT ON shop.customer TO clerk;
GRANT USAGE ON SCHEMA shop TO clerk;
INSERT INTO shop.customer (name, email, born) VALUES ('Ann', 'ann@x', '1990-01-02'), ('Bob', NULL, NULL);
INSERT INTO shop.purchase (customer, amount) SELECT 1 + g % 2, g FROM generate_series(1, 50) g;
";

const COPY: &str = "\\copy shop.customer (name, email, credit) FROM STDIN (FORMAT csv)\n\
    \"Quoted, Name\",q@x,12.50\nPlain,,3\n\\.\n";

/// Commands whose output is the same for the same objects.
const DESCRIBE: &[&str] = &[
    "SELECT * FROM shop.spent ORDER BY name",
    "SELECT id, name, email, born, credit, tags FROM shop.customer ORDER BY id",
    "\\d shop.customer",
    "\\d shop.purchase",
    "\\d shop.spent",
    "\\d shop.purchase_customer",
    "\\d shop.numbers",
    "\\dt shop.*",
    "\\di shop.*",
    "\\ds shop.*",
    "\\dv shop.*",
    "\\d shop.*",
    "\\dn shop",
    "\\du clerk",
    "\\dp shop.customer",
    "\\d missing",
    "\\x\nSELECT 1 AS a, 'x' AS b",
    "\\gdesc",
    "SELECT 1 AS one, now() AS at, 1.5::numeric(4,2) AS n \\gdesc",
    "SELECT 'a' AS k, 1 AS v UNION ALL SELECT 'b', 2 ORDER BY 1 \\crosstabview",
];

fn psql(mut command: Command, text: &str) -> String {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("input.sql");
    std::fs::write(&file, text).expect("written");
    // Both into one file, so that an error stands where it happened.
    let all = folder.path().join("output");
    let output = create(&all);
    command.args(["-X", "-f"]).arg(&file).stdout(output.try_clone().expect("a handle")).stderr(output);
    command.status().expect("psql");
    std::fs::read_to_string(&all).expect("output").replace(&format!("psql:{}:", file.display()), "")
}

#[test]
fn psql_over_tls() {
    if !have(&["psql"]) {
        return;
    }
    let mut server = Server::start();
    let secure = |server: &Server| {
        let mut command = server.libpq("psql");
        command.env("PGSSLMODE", "require");
        command
    };
    succeed(secure(&server).args(["-X", "-v", "ON_ERROR_STOP=1", "-c", "SELECT 1"]));
    let out = psql(secure(&server), SCHEMA);
    assert!(!out.contains("ERROR"), "{out}");
    let out = psql(secure(&server), COPY);
    assert_eq!(out.trim(), "COPY 2");
    let out = psql(secure(&server), "\\conninfo");
    assert!(out.contains("SSL connection"), "{out}");
    let text: Vec<String> = DESCRIBE
        .iter()
        .map(|command| {
            format!("\\echo == {}\n{command};\n\\x off", command.replace('\\', "").replace('\n', " "))
        })
        .collect();
    let text: String = text.join("\n").replace("gdesc;", "gdesc").replace("crosstabview;", "crosstabview");
    let text: String = text
        .lines()
        .map(|line| if line.starts_with('\\') { line.trim_end_matches(';') } else { line })
        .fold(String::new(), |all, line| all + line + "\n");
    let before = psql(secure(&server), &text);

    if let Some(postgres) = Postgres::shared() {
        let mut admin = postgres.login().connect();
        admin.run("DROP DATABASE IF EXISTS psql");
        admin.run("CREATE DATABASE psql");
        let theirs = || {
            let mut command = postgres.libpq("psql");
            command.env("PGDATABASE", "psql");
            command
        };
        psql(theirs(), SCHEMA);
        psql(theirs(), COPY);
        let expected = psql(theirs(), &text);
        psql(theirs(), "DROP SCHEMA shop CASCADE; DROP ROLE clerk");
        compare(&expected, &before);
    }
    for command in [
        "\\l",
        "\\du",
        "\\dn",
        "\\dt",
        "\\di",
        "\\d",
        "\\dT",
        "\\df",
        "\\dx",
        "\\db",
        "\\dC",
        "\\do",
        "\\drds",
        "\\l+",
        "\\dt+ shop.*",
        "\\d+ shop.customer",
    ] {
        let out = psql(secure(&server), command);
        assert!(!out.contains("ERROR"), "{command}: {out}");
    }
    let databases = psql(secure(&server), "\\l");
    assert!(databases.contains("postgres") && databases.contains("template1"), "{databases}");

    server.terminate();
    server.launch();
    compare(&before, &psql(secure(&server), &text));
    // And again after an end without a goodbye.
    server.kill();
    server.launch();
    compare(&before, &psql(secure(&server), &text));
}

/// Section by section, so that a difference shows with the command it belongs to.
fn compare(expected: &str, got: &str) {
    let sections = |text: &str| -> Vec<String> { text.split("== ").map(str::to_owned).collect() };
    let (expected, got) = (sections(expected), sections(got));
    let different: Vec<String> = expected
        .iter()
        .zip(&got)
        .filter(|(expected, got)| expected != got)
        .map(|(expected, got)| format!("---- expected\n{expected}\n---- got\n{got}"))
        .collect();
    assert!(
        different.is_empty(),
        "{} of {} differ\n{}",
        different.len(),
        expected.len(),
        different.join("\n")
    );
}

//! COPY in and out, byte by byte as PostgreSQL writes and reads it.

use crate::client::{Client, Failure};
use crate::postgres::Postgres;
use crate::server::Server;

const TABLE: &str = r#"
CREATE TABLE c (id int, t text, n numeric(8,2), b bool, y bytea, a text[], d timestamp, j jsonb);
INSERT INTO c VALUES
    (1, 'plain', 1.5, true, '\x00ff', '{a,b}', '2024-01-02 03:04:05', '{"a": [1, null]}'),
    (2, E'tab\tnewline\nreturn\rback\\slash', -0.01, false, '', '{}', 'infinity', '"x"'),
    (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (4, '', 0, true, '\x5c', '{NULL,"",","}', '0001-01-01 BC', '{}'),
    (5, 'quote " comma , semi ; \N end \.', 99, false, 'abc', '{"q\"q"}', '2024-12-31 23:59:59.999999', '[]'),
    (6, '\N', 1, NULL, NULL, NULL, NULL, NULL);
"#;

const OUT: &[&str] = &[
    "COPY c TO STDOUT",
    "COPY c (t, id) TO STDOUT",
    "COPY c TO STDOUT (FORMAT csv)",
    "COPY c TO STDOUT (FORMAT csv, HEADER)",
    "COPY c TO STDOUT WITH CSV HEADER",
    "COPY c TO STDOUT (FORMAT csv, DELIMITER ';', QUOTE '''', NULL 'nix')",
    "COPY c TO STDOUT (FORMAT csv, FORCE_QUOTE *)",
    "COPY c TO STDOUT (FORMAT csv, FORCE_QUOTE (id, n), ESCAPE '\\')",
    "COPY c TO STDOUT (DELIMITER '|', NULL '-')",
    "COPY c TO STDOUT (FORMAT text, HEADER true)",
    "COPY (SELECT id, t FROM c WHERE id < 3 ORDER BY id DESC) TO STDOUT",
    "COPY (SELECT id, n, b, y, a, d FROM c ORDER BY id) TO STDOUT (FORMAT binary)",
    "COPY (VALUES (1::int2, 2::int8, 1.5::float8, 'x'::varchar, date '2024-01-01', interval '1 day 2 hours')) TO STDOUT (FORMAT binary)",
    "COPY (INSERT INTO c (id) VALUES (7) RETURNING id) TO STDOUT",
    "COPY missing TO STDOUT",
    "COPY c (missing) TO STDOUT",
    "COPY c TO STDOUT (FORMAT nothing)",
    "COPY c TO STDOUT (FORMAT csv, DELIMITER ',,')",
    "COPY c TO STDOUT (QUOTE 'x')",
    "COPY (SELECT 1/0) TO STDOUT",
];

/// Statement, data.
const IN: &[(&str, &str)] = &[
    ("COPY i FROM STDIN", "1\tone\t1.5\n2\t\\N\t2\n3\t\\t\\x41\\101\\\\\t3\n"),
    ("COPY i FROM STDIN", "4\tno newline at the end\t4"),
    ("COPY i FROM STDIN", "5\tended\t1\n\\.\n"),
    ("COPY i FROM STDIN", "6\tcarriage\t1\r\n7\treturn\t2\r\n"),
    ("COPY i (id, t) FROM STDIN", "8\tdefault\n"),
    ("COPY i FROM STDIN (FORMAT csv)", "9,\"a \"\"quoted\"\", text\nover lines\",1\n10,,\n11,\"\",2\n"),
    ("COPY i FROM STDIN (FORMAT csv, HEADER)", "id,t,n\n12,x,1\n"),
    ("COPY i FROM STDIN (FORMAT csv, HEADER match)", "id,t,n\n13,x,1\n"),
    ("COPY i FROM STDIN (FORMAT csv, HEADER match)", "id,wrong,n\n14,x,1\n"),
    ("COPY i FROM STDIN (FORMAT csv, NULL 'nix', DELIMITER ';', QUOTE '''')", "15;nix;1\n16;'nix';2\n"),
    ("COPY i FROM STDIN (FORMAT csv, FORCE_NOT_NULL (t))", "17,,1\n"),
    ("COPY i FROM STDIN WHERE id > 18", "18\ta\t1\n19\tb\t1\n"),
    ("COPY i FROM STDIN", "20\ttoo few\n"),
    ("COPY i FROM STDIN", "21\ttoo\t1\tmany\n"),
    ("COPY i FROM STDIN", "x\tnot a number\t1\n"),
    ("COPY i FROM STDIN", "22\tgood\t1\n22\tduplicate\t1\n"),
    ("COPY i FROM STDIN", "23\tcheck\t-5\n"),
    ("COPY i FROM STDIN", "26\tfine\t1\n27\t\\xff\t1\n"),
    ("COPY i FROM STDIN WHERE id / 0 > n", "28\ta\t1\n"),
    ("COPY i FROM STDIN", "\\N\tnull key\t1\n"),
    ("COPY i FROM STDIN (FORMAT csv)", "24,\"open quote\n"),
    ("COPY i FROM STDIN (FORMAT csv)", "25,too,1,many\n"),
    ("COPY i FROM STDIN (FORMAT binary)", "no signature, but long enough for one"),
    ("COPY i FROM STDIN", ""),
    ("COPY missing FROM STDIN", ""),
    ("COPY i (id, id) FROM STDIN", ""),
];

/// With what an error says of its place in the data.
fn show(result: Result<String, Failure>) -> String {
    result.unwrap_or_else(|failure| match &failure {
        Failure::Refused(fields) => format!("{failure} [{}]", fields.context()),
        Failure::Broken(_) => failure.to_string(),
    })
}

fn everything(client: &mut Client) -> Vec<String> {
    let mut seen = Vec::new();
    client.run(TABLE);
    for sql in OUT {
        let answer = client.copy_out(sql).map(|(data, tag)| format!("{tag}: {}", data.escape_ascii()));
        seen.push(format!("{sql}\n  {}", show(answer)));
    }
    client.run("CREATE TABLE i (id int PRIMARY KEY, t text DEFAULT 'd', n numeric CHECK (n > 0) DEFAULT 7)");
    for (sql, data) in IN {
        // In small pieces: a row is rarely a message.
        let pieces = data.as_bytes().chunks(5).map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter();
        let answer = client.copy_in(sql, pieces).map(|answer| answer.tag);
        seen.push(format!("{sql} {data:?}\n  {}", show(answer)));
    }
    let rows = client.run("SELECT * FROM i ORDER BY id").rows;
    seen.extend(rows.iter().map(|row| format!("{row:?}")));
    seen.push(show(client.copy_fail("COPY i FROM STDIN").map(|()| String::from("accepted"))));
    seen.push(client.value("SELECT count(*) FROM i"));
    // Binary there and back.
    let (data, _) =
        client.copy_out("COPY c (id, t, n, b, y, a, d) TO STDOUT (FORMAT binary)").expect("binary");
    client.run("CREATE TABLE back (id int, t text, n numeric(8,2), b bool, y bytea, a text[], d timestamp)");
    let answer = client.copy_in("COPY back FROM STDIN (FORMAT binary)", data.chunks(7).map(<[u8]>::to_vec));
    seen.push(show(answer.map(|answer| answer.tag)));
    let same = "SELECT count(*) FROM c JOIN back USING (id) WHERE (c.t, c.n, c.b, c.y, c.a, c.d) IS NOT DISTINCT FROM (back.t, back.n, back.b, back.y, back.a, back.d)";
    seen.push(client.value(same));
    seen
}

#[test]
fn copy_speaks_as_postgres() {
    let server = Server::start();
    let got = everything(&mut server.connect());
    let Some(postgres) = Postgres::shared() else { return };
    let mut admin = postgres.login().connect();
    admin.run("DROP DATABASE IF EXISTS copying");
    admin.run("CREATE DATABASE copying");
    let expected = everything(&mut postgres.login().database("copying").connect());
    let different: Vec<String> = expected
        .iter()
        .zip(&got)
        .filter(|(expected, got)| expected != got)
        .map(|(expected, got)| format!("expected: {expected}\n     got: {got}"))
        .collect();
    assert!(
        different.is_empty() && expected.len() == got.len(),
        "{}\n{}",
        different.len(),
        different.join("\n")
    );
}

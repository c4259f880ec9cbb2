//! `\d` and its kin: questions to the system catalogs, and how their answers are shown. Names, titles and footers are psql's.

use super::client::{Client, Column, Failure, Rows};
use super::input::literal;

/// A table to show, with psql's title and what stands below it.
pub struct Listing {
    pub title: String,
    pub rows: Rows,
    /// Lines below it; the row count when there are none and it is a list of things.
    pub footers: Vec<String>,
    pub counted: bool,
}

/// What a command found.
pub enum Found {
    Listings(Vec<Listing>),
    /// Nothing; the sentence that says so.
    Nothing(String),
}

/// `\d`-like commands: letters behind the `d` that list relations, and the kinds they stand for.
const RELATION_KINDS: &[(char, &str)] =
    &[('t', "'r','p'"), ('i', "'i','I'"), ('v', "'v'"), ('m', "'m'"), ('s', "'S'"), ('E', "'f'")];

/// Runs a describing command: its name without the backslash, and the pattern. `None`: there is no such command.
pub fn describe(client: &mut Client, command: &str, pattern: Option<&str>) -> Result<Option<Found>, Failure> {
    let more = command.contains('+');
    let system = command.contains('S');
    let plain: String = command.chars().filter(|letter| !matches!(letter, '+' | 'S')).collect();
    let found = match (plain.as_str(), pattern) {
        ("d", Some(pattern)) => relations_in_detail(client, pattern, more)?,
        ("d", None) => relations(client, "'r','p','v','m','S','f'", false, None, more, system)?,
        ("l" | "list", _) => databases(client, pattern, more)?,
        ("dn", _) => schemas(client, pattern, more, system)?,
        ("du" | "dg", _) => roles(client, pattern, more, system)?,
        ("df", _) => functions(client, pattern, system)?,
        ("dT", _) => types(client, pattern, system)?,
        ("dx", _) => extensions(client, pattern)?,
        ("dp" | "z", _) => privileges(client, pattern)?,
        ("db", _) => tablespaces(client, pattern)?,
        ("dconfig", _) => configuration(client, pattern)?,
        ("drds", _) => role_settings(client, pattern)?,
        (letters, _) => {
            let Some(kinds) = letters.strip_prefix('d').filter(|kinds| !kinds.is_empty()) else {
                return Ok(None);
            };
            let mut all = Vec::new();
            for letter in kinds.chars() {
                match RELATION_KINDS.iter().find(|(known, _)| *known == letter) {
                    Some((_, kinds)) => all.push(*kinds),
                    None => return Ok(None),
                }
            }
            relations(client, &all.join(","), kinds.contains('i'), pattern, more, system)?
        }
    };
    Ok(Some(found))
}

/// psql's patterns as conditions: `*` and `?`, a dot between schema and name, quotes for exactness.
pub fn conditions(pattern: &str, schema: &str, name: &str, visible: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        let part = parts.last_mut();
        let Some(part) = part else { break };
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                part.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            '*' if !quoted => part.push_str(".*"),
            '?' if !quoted => part.push('.'),
            '$' => part.push_str("\\$"),
            special if "|+()[]{}.^\\*?".contains(special) => {
                part.push('\\');
                part.push(special);
            }
            other if quoted => part.push(other),
            other => part.extend(other.to_lowercase()),
        }
    }
    let matches = |column: &str, part: &str| format!("{column} ~ {}", literal(&format!("^({part})$")));
    let mut found = Vec::new();
    let last = parts.pop().unwrap_or_default();
    if last != ".*" && !last.is_empty() {
        found.push(matches(name, &last));
    }
    match parts.pop() {
        Some(part) if part != ".*" => found.push(matches(schema, &part)),
        Some(_) => {}
        None if visible.is_empty() => {}
        None => found.push(visible.to_owned()),
    }
    found
}

fn and(conditions: &[String]) -> String {
    conditions.iter().map(|condition| format!("\n  AND {condition}")).collect()
}

fn one(title: &str, rows: Rows) -> Found {
    Found::Listings(vec![Listing { title: title.to_owned(), rows, footers: Vec::new(), counted: true }])
}

const KIND: &str = "CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'i' THEN 'index' WHEN 'S' THEN 'sequence' WHEN 't' THEN 'TOAST table' WHEN 'f' THEN 'foreign table' WHEN 'p' THEN 'partitioned table' WHEN 'I' THEN 'partitioned index' END";

const NOT_SYSTEM: &str =
    "n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_toast' AND n.nspname <> 'information_schema'";

fn relations(
    client: &mut Client,
    kinds: &str,
    indexes: bool,
    pattern: Option<&str>,
    more: bool,
    system: bool,
) -> Result<Found, Failure> {
    let mut wanted = match pattern {
        Some(pattern) => {
            conditions(pattern, "n.nspname", "c.relname", "pg_catalog.pg_table_is_visible(c.oid)")
        }
        None => vec!["pg_catalog.pg_table_is_visible(c.oid)".to_owned()],
    };
    if pattern.is_none() && !system {
        wanted.push(NOT_SYSTEM.to_owned());
    }
    let table = if indexes { ",\n  c2.relname AS \"Table\"" } else { "" };
    let join = if indexes {
        "\n  LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_catalog.pg_class c2 ON i.indrelid = c2.oid"
    } else {
        ""
    };
    let extra = if more {
        ",\n  CASE c.relpersistence WHEN 'p' THEN 'permanent' WHEN 't' THEN 'temporary' WHEN 'u' THEN 'unlogged' END AS \"Persistence\",\n  pg_catalog.pg_size_pretty(pg_catalog.pg_table_size(c.oid)) AS \"Size\",\n  pg_catalog.obj_description(c.oid, 'pg_class') AS \"Description\""
    } else {
        ""
    };
    let rows = client.rows(&format!(
        "SELECT n.nspname AS \"Schema\", c.relname AS \"Name\", {KIND} AS \"Type\", pg_catalog.pg_get_userbyid(c.relowner) AS \"Owner\"{table}{extra}
FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace{join}
WHERE c.relkind IN ({kinds},''){} ORDER BY 1, 2",
        and(&wanted)
    ))?;
    if rows.rows.is_empty() {
        return Ok(Found::Nothing(match pattern {
            Some(pattern) => format!("Did not find any relation named \"{pattern}\"."),
            None => "Did not find any relations.".to_owned(),
        }));
    }
    Ok(one("List of relations", rows))
}

fn relations_in_detail(client: &mut Client, pattern: &str, more: bool) -> Result<Found, Failure> {
    let wanted = conditions(pattern, "n.nspname", "c.relname", "pg_catalog.pg_table_is_visible(c.oid)");
    let found = client.rows(&format!(
        "SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE true{} ORDER BY 2, 3",
        and(&wanted)
    ))?;
    if found.rows.is_empty() {
        return Ok(Found::Nothing(format!("Did not find any relation named \"{pattern}\".")));
    }
    let mut listings = Vec::new();
    for row in 0..found.rows.len() {
        let relation = Relation {
            oid: found.text(row, 0).to_owned(),
            schema: found.text(row, 1).to_owned(),
            name: found.text(row, 2).to_owned(),
            kind: found.text(row, 3).chars().next().unwrap_or('r'),
            unlogged: found.text(row, 4) == "u",
        };
        listings.push(match relation.kind {
            'S' => sequence(client, &relation)?,
            _ => relation_in_detail(client, &relation, more)?,
        });
    }
    Ok(Found::Listings(listings))
}

struct Relation {
    oid: String,
    schema: String,
    name: String,
    kind: char,
    unlogged: bool,
}

fn text_column(name: &str) -> Column {
    Column { name: name.to_owned(), type_oid: 25, typmod: -1 }
}

fn relation_in_detail(client: &mut Client, relation: &Relation, more: bool) -> Result<Listing, Failure> {
    let oid = &relation.oid;
    let is_index = matches!(relation.kind, 'i' | 'I');
    let kind = match relation.kind {
        'r' if relation.unlogged => "Unlogged table",
        'r' => "Table",
        'v' => "View",
        'm' => "Materialized view",
        'i' if relation.unlogged => "Unlogged index",
        'i' => "Index",
        'I' => "Partitioned index",
        'p' => "Partitioned table",
        'f' => "Foreign table",
        'c' => "Composite type",
        't' => "TOAST table",
        _ => "Relation",
    };
    let columns = client.rows(&format!(
        "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
  (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true) FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef),
  a.attnotnull,
  (SELECT c.collname FROM pg_catalog.pg_collation c, pg_catalog.pg_type t WHERE c.oid = a.attcollation AND t.oid = a.atttypid AND a.attcollation <> t.typcollation),
  a.attidentity, a.attgenerated, pg_catalog.col_description(a.attrelid, a.attnum){}
FROM pg_catalog.pg_attribute a WHERE a.attrelid = '{oid}' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
        if is_index {
            format!(",
  CASE WHEN a.attnum <= (SELECT i.indnkeyatts FROM pg_catalog.pg_index i WHERE i.indexrelid = '{oid}') THEN 'yes' ELSE 'no' END,
  pg_catalog.pg_get_indexdef(a.attrelid, a.attnum, true)")
        } else {
            ",
  CASE a.attstorage WHEN 'p' THEN 'plain' WHEN 'e' THEN 'external' WHEN 'm' THEN 'main' WHEN 'x' THEN 'extended' END".to_owned()
        }
    ))?;
    let mut headings = vec![text_column("Column"), text_column("Type")];
    if is_index {
        headings.extend([text_column("Key?"), text_column("Definition")]);
    } else if relation.kind == 'c' {
        headings.extend([text_column("Collation"), text_column("Nullable"), text_column("Default")]);
    } else {
        headings.extend([text_column("Collation"), text_column("Nullable"), text_column("Default")]);
        if more {
            headings.extend([text_column("Storage"), text_column("Description")]);
        }
    }
    let rows = (0..columns.rows.len())
        .map(|row| {
            let cell = |column| Some(columns.text(row, column).to_owned());
            let mut cells = vec![cell(0), cell(1)];
            if is_index {
                cells.extend([cell(8), cell(9)]);
                return cells;
            }
            let default = match (columns.text(row, 5), columns.text(row, 6), columns.text(row, 2)) {
                ("a", _, _) => "generated always as identity".to_owned(),
                ("d", _, _) => "generated by default as identity".to_owned(),
                (_, "s", expression) => format!("generated always as ({expression}) stored"),
                (_, _, expression) => expression.to_owned(),
            };
            let nullable = if columns.text(row, 3) == "t" { "not null" } else { "" };
            cells.extend([cell(4), Some(nullable.to_owned()), Some(default)]);
            if more {
                cells.extend([cell(8), cell(7)]);
            }
            cells
        })
        .collect();
    let mut footers = Vec::new();
    if is_index {
        index_footers(client, oid, &mut footers)?;
    } else {
        if matches!(relation.kind, 'v' | 'm') && more {
            let definition =
                client.rows(&format!("SELECT pg_catalog.pg_get_viewdef('{oid}'::pg_catalog.oid, true)"))?;
            footers.push("View definition:".to_owned());
            footers.extend(definition.text(0, 0).lines().map(str::to_owned));
        }
        if relation.kind != 'v' {
            table_footers(client, oid, &mut footers)?;
        }
    }
    Ok(Listing {
        title: format!("{kind} \"{}.{}\"", relation.schema, relation.name),
        rows: Rows { columns: headings, rows },
        footers,
        counted: false,
    })
}

fn index_footers(client: &mut Client, oid: &str, footers: &mut Vec<String>) -> Result<(), Failure> {
    let found = client.rows(&format!(
        "SELECT i.indisunique, i.indisprimary, i.indisvalid, a.amname, n.nspname, c2.relname, pg_catalog.pg_get_expr(i.indpred, i.indrelid, true),
  con.condeferrable, con.condeferred
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON i.indexrelid = c.oid JOIN pg_catalog.pg_class c2 ON i.indrelid = c2.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = c2.relnamespace JOIN pg_catalog.pg_am a ON c.relam = a.oid
  LEFT JOIN pg_catalog.pg_constraint con ON con.conindid = i.indexrelid AND con.contype IN ('p', 'u', 'x')
WHERE i.indexrelid = '{oid}'"
    ))?;
    let is = |column| found.text(0, column) == "t";
    let mut text = String::new();
    if is(1) {
        text.push_str("primary key, ");
    } else if is(0) {
        text.push_str("unique, ");
    }
    text.push_str(&format!("{}, for table \"{}.{}\"", found.text(0, 3), found.text(0, 4), found.text(0, 5)));
    if !found.text(0, 6).is_empty() {
        text.push_str(&format!(", predicate ({})", found.text(0, 6)));
    }
    if !is(2) {
        text.push_str(", invalid");
    }
    if is(7) {
        text.push_str(", deferrable");
    }
    if is(8) {
        text.push_str(", initially deferred");
    }
    footers.push(text);
    Ok(())
}

fn table_footers(client: &mut Client, oid: &str, footers: &mut Vec<String>) -> Result<(), Failure> {
    let indexes = client.rows(&format!(
        "SELECT c2.relname, i.indisprimary, i.indisunique, i.indisvalid, pg_catalog.pg_get_indexdef(i.indexrelid, 0, true), con.contype, con.condeferrable, con.condeferred
FROM pg_catalog.pg_class c2, pg_catalog.pg_index i
  LEFT JOIN pg_catalog.pg_constraint con ON con.conrelid = i.indrelid AND con.conindid = i.indexrelid AND con.contype IN ('p', 'u', 'x')
WHERE i.indrelid = '{oid}' AND i.indexrelid = c2.oid ORDER BY i.indisprimary DESC, c2.relname"
    ))?;
    if !indexes.rows.is_empty() {
        footers.push("Indexes:".to_owned());
    }
    for row in 0..indexes.rows.len() {
        let is = |column| indexes.text(row, column) == "t";
        let definition = indexes.text(row, 4);
        let how = definition.split_once(" USING ").map_or(definition, |(_, how)| how);
        let mut text = format!("    \"{}\"", indexes.text(row, 0));
        if is(1) {
            text.push_str(" PRIMARY KEY,");
        } else if is(2) {
            text.push_str(if indexes.text(row, 5) == "u" { " UNIQUE CONSTRAINT," } else { " UNIQUE," });
        }
        text.push_str(&format!(" {how}"));
        if is(6) {
            text.push_str(" DEFERRABLE");
        }
        if is(7) {
            text.push_str(" INITIALLY DEFERRED");
        }
        if !is(3) {
            text.push_str(" INVALID");
        }
        footers.push(text);
    }
    let mut constraints = |heading: &str, condition: &str, with_table: bool| -> Result<(), Failure> {
        let found = client.rows(&format!(
            "SELECT conname, pg_catalog.pg_get_constraintdef(oid, true), conrelid::pg_catalog.regclass FROM pg_catalog.pg_constraint WHERE {condition} ORDER BY 1"
        ))?;
        if !found.rows.is_empty() {
            footers.push(heading.to_owned());
        }
        for row in 0..found.rows.len() {
            let (name, definition) = (found.text(row, 0), found.text(row, 1));
            footers.push(if with_table {
                format!("    TABLE \"{}\" CONSTRAINT \"{name}\" {definition}", found.text(row, 2))
            } else {
                format!("    \"{name}\" {definition}")
            });
        }
        Ok(())
    };
    constraints("Check constraints:", &format!("conrelid = '{oid}' AND contype = 'c'"), false)?;
    constraints("Foreign-key constraints:", &format!("conrelid = '{oid}' AND contype = 'f'"), false)?;
    constraints("Referenced by:", &format!("confrelid = '{oid}' AND contype = 'f'"), true)
}

fn sequence(client: &mut Client, relation: &Relation) -> Result<Listing, Failure> {
    let oid = &relation.oid;
    let rows = client.rows(&format!(
        "SELECT pg_catalog.format_type(seqtypid, NULL) AS \"Type\", seqstart AS \"Start\", seqmin AS \"Minimum\", seqmax AS \"Maximum\", seqincrement AS \"Increment\", CASE WHEN seqcycle THEN 'yes' ELSE 'no' END AS \"Cycles?\", seqcache AS \"Cache\" FROM pg_catalog.pg_sequence WHERE seqrelid = '{oid}'"
    ))?;
    let owned = client.rows(&format!(
        "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) || '.' || pg_catalog.quote_ident(a.attname), d.deptype
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.refobjid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = '{oid}' AND d.deptype IN ('a', 'i')"
    ))?;
    let footers = match (owned.text(0, 0), owned.text(0, 1)) {
        ("", _) => Vec::new(),
        (column, "i") => vec![format!("Sequence for identity column: {column}")],
        (column, _) => vec![format!("Owned by: {column}")],
    };
    let title = format!("Sequence \"{}.{}\"", relation.schema, relation.name);
    Ok(Listing { title, rows, footers, counted: false })
}

fn databases(client: &mut Client, pattern: Option<&str>, more: bool) -> Result<Found, Failure> {
    let wanted = pattern.map(|pattern| conditions(pattern, "''", "d.datname", "")).unwrap_or_default();
    let extra = if more {
        ",\n  pg_catalog.pg_size_pretty(pg_catalog.pg_database_size(d.datname)) AS \"Size\", pg_catalog.shobj_description(d.oid, 'pg_database') AS \"Description\""
    } else {
        ""
    };
    Ok(one(
        "List of databases",
        client.rows(&format!(
            "SELECT d.datname AS \"Name\", pg_catalog.pg_get_userbyid(d.datdba) AS \"Owner\", pg_catalog.pg_encoding_to_char(d.encoding) AS \"Encoding\", d.datcollate AS \"Collate\", d.datctype AS \"Ctype\", pg_catalog.array_to_string(d.datacl, E'\\n') AS \"Access privileges\"{extra}
FROM pg_catalog.pg_database d WHERE true{} ORDER BY 1",
            and(&wanted)
        ))?,
    ))
}

fn schemas(client: &mut Client, pattern: Option<&str>, more: bool, system: bool) -> Result<Found, Failure> {
    let mut wanted = pattern.map(|pattern| conditions(pattern, "''", "n.nspname", "")).unwrap_or_default();
    if pattern.is_none() && !system {
        wanted.push("n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'".to_owned());
    }
    let extra = if more {
        ", pg_catalog.array_to_string(n.nspacl, E'\\n') AS \"Access privileges\", pg_catalog.obj_description(n.oid, 'pg_namespace') AS \"Description\""
    } else {
        ""
    };
    Ok(one(
        "List of schemas",
        client.rows(&format!(
            "SELECT n.nspname AS \"Name\", pg_catalog.pg_get_userbyid(n.nspowner) AS \"Owner\"{extra} FROM pg_catalog.pg_namespace n WHERE true{} ORDER BY 1",
            and(&wanted)
        ))?,
    ))
}

fn roles(client: &mut Client, pattern: Option<&str>, more: bool, system: bool) -> Result<Found, Failure> {
    let mut wanted = pattern.map(|pattern| conditions(pattern, "''", "r.rolname", "")).unwrap_or_default();
    if pattern.is_none() && !system {
        wanted.push("r.rolname !~ '^pg_'".to_owned());
    }
    let found = client.rows(&format!(
        "SELECT r.rolname, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolconnlimit, r.rolvaliduntil, r.rolreplication, r.rolbypassrls,
  ARRAY(SELECT b.rolname FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles b ON m.roleid = b.oid WHERE m.member = r.oid),
  pg_catalog.shobj_description(r.oid, 'pg_authid')
FROM pg_catalog.pg_roles r WHERE true{} ORDER BY 1",
        and(&wanted)
    ))?;
    let mut columns = vec![text_column("Role name"), text_column("Attributes"), text_column("Member of")];
    if more {
        columns.push(text_column("Description"));
    }
    let rows = (0..found.rows.len())
        .map(|row| {
            let is = |column| found.text(row, column) == "t";
            let mut attributes = Vec::new();
            for (set, name) in [
                (is(1), "Superuser"),
                (!is(2), "No inheritance"),
                (is(3), "Create role"),
                (is(4), "Create DB"),
                (!is(5), "Cannot login"),
                (is(8), "Replication"),
                (is(9), "Bypass RLS"),
            ] {
                if set {
                    attributes.push(name);
                }
            }
            let mut text = attributes.join(", ");
            let lines = match found.text(row, 6) {
                "-1" | "" => None,
                "0" => Some("No connections".to_owned()),
                "1" => Some("1 connection".to_owned()),
                count => Some(format!("{count} connections")),
            };
            let until = found.text(row, 7);
            for line in
                lines.into_iter().chain((!until.is_empty()).then(|| format!("Password valid until {until}")))
            {
                text.push_str(if text.is_empty() { "" } else { "\n" });
                text.push_str(&line);
            }
            let mut cells =
                vec![Some(found.text(row, 0).to_owned()), Some(text), Some(found.text(row, 10).to_owned())];
            if more {
                cells.push(Some(found.text(row, 11).to_owned()));
            }
            cells
        })
        .collect();
    let listing = Listing {
        title: "List of roles".to_owned(),
        rows: Rows { columns, rows },
        footers: Vec::new(),
        counted: false,
    };
    Ok(Found::Listings(vec![listing]))
}

fn functions(client: &mut Client, pattern: Option<&str>, system: bool) -> Result<Found, Failure> {
    let mut wanted = match pattern {
        Some(pattern) => {
            conditions(pattern, "n.nspname", "p.proname", "pg_catalog.pg_function_is_visible(p.oid)")
        }
        None => vec!["pg_catalog.pg_function_is_visible(p.oid)".to_owned()],
    };
    if pattern.is_none() && !system {
        wanted.push("n.nspname <> 'pg_catalog' AND n.nspname <> 'information_schema'".to_owned());
    }
    Ok(one(
        "List of functions",
        client.rows(&format!(
            "SELECT n.nspname AS \"Schema\", p.proname AS \"Name\", pg_catalog.pg_get_function_result(p.oid) AS \"Result data type\", pg_catalog.pg_get_function_arguments(p.oid) AS \"Argument data types\", CASE p.prokind WHEN 'a' THEN 'agg' WHEN 'w' THEN 'window' WHEN 'p' THEN 'proc' ELSE 'func' END AS \"Type\"
FROM pg_catalog.pg_proc p LEFT JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE true{} ORDER BY 1, 2, 4",
            and(&wanted)
        ))?,
    ))
}

fn types(client: &mut Client, pattern: Option<&str>, system: bool) -> Result<Found, Failure> {
    let mut wanted = match pattern {
        Some(pattern) => conditions(
            pattern,
            "n.nspname",
            "pg_catalog.format_type(t.oid, NULL)",
            "pg_catalog.pg_type_is_visible(t.oid)",
        ),
        None => vec!["pg_catalog.pg_type_is_visible(t.oid)".to_owned()],
    };
    if pattern.is_none() && !system {
        wanted.push("n.nspname <> 'pg_catalog' AND n.nspname <> 'information_schema'".to_owned());
    }
    Ok(one(
        "List of data types",
        client.rows(&format!(
            "SELECT n.nspname AS \"Schema\", pg_catalog.format_type(t.oid, NULL) AS \"Name\", pg_catalog.obj_description(t.oid, 'pg_type') AS \"Description\"
FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE t.typrelid = 0 AND t.typname !~ '^_'{} ORDER BY 1, 2",
            and(&wanted)
        ))?,
    ))
}

fn extensions(client: &mut Client, pattern: Option<&str>) -> Result<Found, Failure> {
    let wanted = pattern.map(|pattern| conditions(pattern, "''", "e.extname", "")).unwrap_or_default();
    Ok(one(
        "List of installed extensions",
        client.rows(&format!(
            "SELECT e.extname AS \"Name\", e.extversion AS \"Version\", n.nspname AS \"Schema\", c.description AS \"Description\"
FROM pg_catalog.pg_extension e LEFT JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
  LEFT JOIN pg_catalog.pg_description c ON c.objoid = e.oid AND c.classoid = 'pg_catalog.pg_extension'::pg_catalog.regclass
WHERE true{} ORDER BY 1",
            and(&wanted)
        ))?,
    ))
}

fn tablespaces(client: &mut Client, pattern: Option<&str>) -> Result<Found, Failure> {
    let wanted = pattern.map(|pattern| conditions(pattern, "''", "spcname", "")).unwrap_or_default();
    Ok(one(
        "List of tablespaces",
        client.rows(&format!(
            "SELECT spcname AS \"Name\", pg_catalog.pg_get_userbyid(spcowner) AS \"Owner\", pg_catalog.pg_tablespace_location(oid) AS \"Location\" FROM pg_catalog.pg_tablespace WHERE true{} ORDER BY 1",
            and(&wanted)
        ))?,
    ))
}

/// Settings that fit, or those that are not as they are built in.
fn configuration(client: &mut Client, pattern: Option<&str>) -> Result<Found, Failure> {
    let (title, wanted) = match pattern {
        Some(pattern) => (
            "List of configuration parameters",
            conditions(&pattern.to_lowercase(), "''", "pg_catalog.lower(s.name)", ""),
        ),
        None => (
            "List of non-default configuration parameters",
            vec!["s.source <> 'default' AND s.setting IS DISTINCT FROM s.boot_val".to_owned()],
        ),
    };
    Ok(one(
        title,
        client.rows(&format!(
            "SELECT s.name AS \"Parameter\", pg_catalog.current_setting(s.name) AS \"Value\" FROM pg_catalog.pg_settings s WHERE true{} ORDER BY 1",
            and(&wanted)
        ))?,
    ))
}

fn role_settings(client: &mut Client, pattern: Option<&str>) -> Result<Found, Failure> {
    let wanted = pattern.map(|pattern| conditions(pattern, "''", "r.rolname", "")).unwrap_or_default();
    let rows = client.rows(&format!(
        "SELECT r.rolname AS \"Role\", d.datname AS \"Database\", pg_catalog.array_to_string(s.setconfig, E'\\n') AS \"Settings\"
FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
  LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole WHERE true{} ORDER BY 1, 2",
        and(&wanted)
    ))?;
    if rows.rows.is_empty() {
        return Ok(Found::Nothing("Did not find any settings.".to_owned()));
    }
    Ok(one("List of settings", rows))
}

fn privileges(client: &mut Client, pattern: Option<&str>) -> Result<Found, Failure> {
    let mut wanted = match pattern {
        Some(pattern) => {
            conditions(pattern, "n.nspname", "c.relname", "pg_catalog.pg_table_is_visible(c.oid)")
        }
        None => vec!["pg_catalog.pg_table_is_visible(c.oid)".to_owned()],
    };
    if pattern.is_none() {
        wanted.push(NOT_SYSTEM.to_owned());
    }
    Ok(one(
        "Access privileges",
        client.rows(&format!(
            "SELECT n.nspname AS \"Schema\", c.relname AS \"Name\", {KIND} AS \"Type\", pg_catalog.array_to_string(c.relacl, E'\\n') AS \"Access privileges\"
FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r','v','m','S','f','p'){} ORDER BY 1, 2",
            and(&wanted)
        ))?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let c = |pattern| conditions(pattern, "s", "n", "visible").join(" & ");
        assert_eq!(c("Orders"), "n ~ '^(orders)$' & visible");
        assert_eq!(c("a.b*"), "n ~ '^(b.*)$' & s ~ '^(a)$'");
        assert_eq!(c("*.*"), "");
        assert_eq!(c("\"A.b\"\"\""), "n ~  E'^(A\\\\.b\")$' & visible");
        assert_eq!(c("it's"), "n ~ '^(it''s)$' & visible");
    }
}

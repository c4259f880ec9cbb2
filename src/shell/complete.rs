//! What Tab offers, from the catalog of the database and the words before the cursor: relations behind FROM, columns of the
//! statement's own tables elsewhere, and settings, roles, databases where only those fit.

use std::collections::BTreeSet;

use super::client::{Client, Failure};

/// What the words of a database are, as of the last look.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    pub relations: Vec<Relation>,
    pub schemas: Vec<String>,
    pub databases: Vec<String>,
    pub roles: Vec<String>,
    pub functions: Vec<String>,
    pub settings: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Relation {
    pub schema: String,
    pub name: String,
    /// Found without naming its schema.
    pub visible: bool,
    /// Of pg_catalog or information_schema: offered only once a letter of it is typed.
    pub system: bool,
    pub columns: Vec<String>,
}

impl Catalog {
    pub fn load(client: &mut Client) -> Result<Catalog, Failure> {
        let mut catalog = Catalog::default();
        let found = client.rows(
            "SELECT n.nspname, c.relname, pg_catalog.pg_table_is_visible(c.oid), a.attname
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p') ORDER BY n.nspname LIKE 'pg%', 1, 2, a.attnum LIMIT 20000",
        )?;
        for row in 0..found.rows.len() {
            let (schema, name) = (found.text(row, 0), found.text(row, 1));
            if !catalog.relations.last().is_some_and(|last| last.schema == schema && last.name == name) {
                catalog.relations.push(Relation {
                    schema: schema.to_owned(),
                    name: name.to_owned(),
                    visible: found.text(row, 2) == "t",
                    system: schema.starts_with("pg_") || schema == "information_schema",
                    columns: Vec::new(),
                });
            }
            if let Some(relation) = catalog.relations.last_mut()
                && !found.text(row, 3).is_empty()
            {
                relation.columns.push(found.text(row, 3).to_owned());
            }
        }
        let mut list = |text: &str| -> Result<Vec<String>, Failure> {
            Ok(client.rows(text)?.rows.into_iter().filter_map(|row| row.into_iter().next()?).collect())
        };
        catalog.schemas =
            list("SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_t' ORDER BY 1")?;
        catalog.databases = list("SELECT datname FROM pg_catalog.pg_database WHERE datallowconn ORDER BY 1")?;
        catalog.roles = list("SELECT rolname FROM pg_catalog.pg_roles WHERE rolname !~ '^pg_' ORDER BY 1")?;
        catalog.functions = list(
            "SELECT DISTINCT proname FROM pg_catalog.pg_proc WHERE proname !~ '^(_|pg_|.*(in|out|send|recv)$)' ORDER BY 1",
        )?;
        catalog.settings = list("SELECT name FROM pg_catalog.pg_settings ORDER BY 1")?;
        Ok(catalog)
    }
}

/// Words a statement may begin with.
pub const FIRST: &[&str] = &[
    "ABORT",
    "ALTER",
    "ANALYZE",
    "BEGIN",
    "CHECKPOINT",
    "CLOSE",
    "COMMENT ON",
    "COMMIT",
    "COPY",
    "CREATE",
    "DEALLOCATE",
    "DECLARE",
    "DELETE FROM",
    "DISCARD",
    "DO",
    "DROP",
    "END",
    "EXECUTE",
    "EXPLAIN",
    "FETCH",
    "GRANT",
    "INSERT INTO",
    "LOCK",
    "MOVE",
    "PREPARE",
    "RELEASE",
    "RESET",
    "REVOKE",
    "ROLLBACK",
    "SAVEPOINT",
    "SELECT",
    "SET",
    "SHOW",
    "START TRANSACTION",
    "TABLE",
    "TRUNCATE",
    "UPDATE",
    "VACUUM",
    "VALUES",
    "WITH",
];

/// Words that follow.
pub const KEYWORDS: &[&str] = &[
    "ADD",
    "ALL",
    "ANALYZE",
    "AND",
    "ANY",
    "ARRAY",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASCADE",
    "CASE",
    "CAST",
    "CHECK",
    "COLUMN",
    "CONCURRENTLY",
    "CONFLICT",
    "CONSTRAINT",
    "CROSS JOIN",
    "CURRENT_DATE",
    "CURRENT_TIMESTAMP",
    "CURRENT_USER",
    "DATABASE",
    "DEFAULT",
    "DESC",
    "DISTINCT",
    "DO NOTHING",
    "DO UPDATE SET",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "FALSE",
    "FILTER",
    "FOR UPDATE",
    "FOREIGN KEY",
    "FROM",
    "FULL JOIN",
    "GROUP BY",
    "HAVING",
    "IF EXISTS",
    "IF NOT EXISTS",
    "ILIKE",
    "IN",
    "INDEX",
    "INNER JOIN",
    "INTERSECT",
    "INTO",
    "IS",
    "JOIN",
    "KEY",
    "LATERAL",
    "LEFT JOIN",
    "LIKE",
    "LIMIT",
    "NOT",
    "NULL",
    "NULLS FIRST",
    "NULLS LAST",
    "OFFSET",
    "ON",
    "OR",
    "ORDER BY",
    "OUTER",
    "OVER",
    "OWNER TO",
    "PARTITION BY",
    "PASSWORD",
    "PRIMARY KEY",
    "REFERENCES",
    "RENAME TO",
    "RETURNING",
    "RIGHT JOIN",
    "ROLE",
    "SCHEMA",
    "SEQUENCE",
    "SET",
    "TABLE",
    "THEN",
    "TO",
    "TRUE",
    "UNION",
    "UNION ALL",
    "UNIQUE",
    "UPDATE",
    "USER",
    "USING",
    "VALUES",
    "VIEW",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
    // Types.
    "bigint",
    "boolean",
    "bytea",
    "char",
    "date",
    "double precision",
    "integer",
    "interval",
    "json",
    "jsonb",
    "numeric",
    "real",
    "smallint",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "uuid",
    "varchar",
];

/// Behind these words stands a relation.
const BEFORE_RELATION: &[&str] = &[
    "from",
    "join",
    "into",
    "update",
    "table",
    "truncate",
    "copy",
    "analyze",
    "vacuum",
    "view",
    "only",
    "lock",
    "references",
];

const COMMANDS_WITH_RELATION: &[&str] =
    &["\\d", "\\d+", "\\dt", "\\dt+", "\\di", "\\dv", "\\ds", "\\dp", "\\z", "\\copy"];

/// Where the word at the cursor begins, and what could stand there, best first.
pub fn complete(catalog: &Catalog, text: &str, commands: &[&str]) -> (usize, Vec<String>) {
    let start = text
        .char_indices()
        .rev()
        .take_while(|(_, character)| character.is_alphanumeric() || "_$.\"\\+".contains(*character))
        .last()
        .map_or(text.len(), |(place, _)| place);
    let word = &text[start..];
    let before = text[..start].trim_end();
    let last =
        before.split(|c: char| c.is_whitespace() || c == '(').next_back().unwrap_or_default().to_lowercase();
    if word.starts_with('\\') {
        return (start, with_prefix(commands.iter().map(|name| format!("\\{name}")), word));
    }
    let first_command = before.trim_start();
    if first_command.starts_with('\\') {
        let command = first_command.split_whitespace().next().unwrap_or_default();
        let candidates: Vec<String> = match command {
            "\\c" | "\\connect" => catalog.databases.clone(),
            "\\du" | "\\dg" | "\\password" => catalog.roles.clone(),
            "\\dn" => catalog.schemas.clone(),
            "\\df" => catalog.functions.clone(),
            "\\x" => ["on", "off", "auto"].map(str::to_owned).to_vec(),
            "\\timing" | "\\a" | "\\t" => ["on", "off"].map(str::to_owned).to_vec(),
            _ if COMMANDS_WITH_RELATION.contains(&command) => return (start, relations(catalog, word)),
            _ => Vec::new(),
        };
        return (start, with_prefix(candidates.into_iter(), word));
    }
    if word.contains('.') {
        return (start, qualified(catalog, text, word));
    }
    let in_list = last.ends_with(',') && in_from_list(before);
    if BEFORE_RELATION.contains(&last.as_str()) || in_list {
        return (start, relations(catalog, word));
    }
    let names = |list: &[String]| with_prefix(list.iter().map(|name| quote(name)), word);
    let offered = match last.as_str() {
        "set" | "show" | "reset" if !before.to_lowercase().contains("update") => names(&catalog.settings),
        "database" => names(&catalog.databases),
        "schema" => names(&catalog.schemas),
        "role" | "user" | "owner to" => names(&catalog.roles),
        _ if before.is_empty() || before.ends_with(';') => keywords(FIRST, word),
        _ => expression(catalog, text, word),
    };
    (start, offered)
}

/// Columns of the tables that the statement names, then functions and keywords.
fn expression(catalog: &Catalog, text: &str, word: &str) -> Vec<String> {
    let tables = mentioned(catalog, text);
    let mut columns: BTreeSet<&str> = BTreeSet::new();
    for (_, relation) in &tables {
        columns.extend(relation.columns.iter().map(String::as_str));
    }
    if tables.is_empty() && !word.is_empty() {
        // The FROM may come later; what people made themselves is the best guess.
        for relation in catalog.relations.iter().filter(|relation| !relation.system) {
            columns.extend(relation.columns.iter().map(String::as_str));
        }
    }
    let mut offered = with_prefix(columns.into_iter().map(quote), word);
    if word.is_empty() {
        if offered.is_empty() {
            offered = keywords(KEYWORDS, word);
        }
        return offered;
    }
    offered.extend(with_prefix(tables.iter().map(|(alias, _)| format!("{alias}.")), word));
    let own = !offered.is_empty() && !tables.is_empty();
    offered.extend(keywords(KEYWORDS, word));
    if own {
        // The hundreds of functions would bury what is meant.
        return offered;
    }
    offered.extend(with_prefix(catalog.functions.iter().map(|name| format!("{name}(")), word));
    offered
}

/// `table.`, `alias.` or `schema.`
fn qualified(catalog: &Catalog, text: &str, word: &str) -> Vec<String> {
    let (qualifier, part) = word.rsplit_once('.').unwrap_or((word, ""));
    let plain = qualifier.trim_matches('"');
    let mut offered = Vec::new();
    let join = |name: &str| format!("{qualifier}.{}", quote(name));
    for (alias, relation) in mentioned(catalog, text) {
        if alias.eq_ignore_ascii_case(plain) || relation.name == plain {
            offered.extend(relation.columns.iter().map(|name| join(name)));
        }
    }
    for relation in &catalog.relations {
        if relation.schema == plain {
            offered.push(join(&relation.name));
        } else if offered.is_empty() && relation.name == plain && relation.visible {
            offered.extend(relation.columns.iter().map(|name| join(name)));
        }
    }
    offered.dedup();
    with_prefix(offered.into_iter(), &format!("{qualifier}.{part}"))
}

fn relations(catalog: &Catalog, word: &str) -> Vec<String> {
    if word.contains('.') {
        return qualified(catalog, "", word);
    }
    let shown = catalog
        .relations
        .iter()
        .filter(|relation| relation.visible && (!relation.system || !word.is_empty()));
    let mut offered = with_prefix(shown.map(|relation| quote(&relation.name)), word);
    let foreign: BTreeSet<&str> = catalog
        .relations
        .iter()
        .filter(|relation| !relation.visible && !relation.system)
        .map(|relation| relation.schema.as_str())
        .chain(["pg_catalog", "information_schema"].into_iter().filter(|_| !word.is_empty()))
        .collect();
    offered.extend(with_prefix(foreign.into_iter().map(|schema| format!("{}.", quote(schema))), word));
    offered
}

/// Relations that stand behind FROM, JOIN, UPDATE or INTO, by the name they go by in the statement.
fn mentioned<'a>(catalog: &'a Catalog, text: &str) -> Vec<(String, &'a Relation)> {
    let statement = text.rsplit(';').next().unwrap_or(text);
    let spaced: String = statement.chars().map(|c| if "(),\n\t".contains(c) { ' ' } else { c }).collect();
    let words: Vec<&str> = spaced.split(' ').filter(|word| !word.is_empty()).collect();
    let mut found = Vec::new();
    for (place, word) in words.iter().enumerate() {
        let (schema, name) = match word.rsplit_once('.') {
            Some((schema, name)) => (Some(schema.trim_matches('"')), name.trim_matches('"')),
            None => (None, word.trim_matches('"')),
        };
        let lower = name.to_lowercase();
        let relation = catalog.relations.iter().find(|relation| {
            (relation.name == name || relation.name == lower)
                && schema.map_or(relation.visible, |schema| relation.schema == schema)
        });
        let Some(relation) = relation else { continue };
        if place == 0 {
            continue;
        }
        let mut alias = words.get(place + 1).copied().unwrap_or_default();
        if alias.eq_ignore_ascii_case("as") {
            alias = words.get(place + 2).copied().unwrap_or_default();
        }
        let usable = !alias.is_empty()
            && alias.chars().all(|c| c.is_alphanumeric() || c == '_')
            && !KEYWORDS
                .iter()
                .any(|keyword| keyword.split(' ').next().is_some_and(|k| k.eq_ignore_ascii_case(alias)));
        found.push((if usable { alias.to_owned() } else { relation.name.clone() }, relation));
    }
    found
}

/// Whether a comma at the end belongs to a FROM list rather than to an expression.
fn in_from_list(before: &str) -> bool {
    let lower = before.to_lowercase();
    let clause = lower.split(|c: char| !c.is_alphanumeric() && c != '_').rfind(|word| {
        ["select", "from", "where", "group", "order", "set", "values", "having", "into"].contains(word)
    });
    clause == Some("from")
}

fn keywords(list: &[&str], word: &str) -> Vec<String> {
    // As the person types: lower case stays lower.
    let lower = word.chars().next().is_some_and(char::is_lowercase);
    let prefix = word.to_lowercase();
    list.iter()
        .filter(|keyword| keyword.to_lowercase().starts_with(&prefix))
        .map(|keyword| if lower { keyword.to_lowercase() } else { (*keyword).to_owned() })
        .collect()
}

fn with_prefix(names: impl Iterator<Item = String>, word: &str) -> Vec<String> {
    let prefix = word.to_lowercase();
    names.filter(|name| name.to_lowercase().starts_with(&prefix) && name.as_str() != word).collect()
}

/// A name as it must be typed.
fn quote(name: &str) -> String {
    let plain = name.chars().next().is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.' || c == '$');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        let relation = |schema: &str, name: &str, visible: bool, columns: &[&str]| Relation {
            schema: schema.to_owned(),
            name: name.to_owned(),
            visible,
            system: schema.starts_with("pg_"),
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
        };
        Catalog {
            relations: vec![
                relation("public", "orders", true, &["id", "status", "Total"]),
                relation("public", "customers", true, &["id", "name", "state"]),
                relation("shop", "stock", false, &["item"]),
                relation("pg_catalog", "pg_class", true, &["oid", "relname"]),
            ],
            schemas: vec!["public".to_owned(), "shop".to_owned()],
            databases: vec!["app".to_owned(), "postgres".to_owned()],
            roles: vec!["ann".to_owned()],
            functions: vec!["statement_timestamp".to_owned()],
            settings: vec!["search_path".to_owned(), "work_mem".to_owned()],
        }
    }

    #[test]
    fn what_fits_is_offered() {
        let catalog = catalog();
        for (text, expected) in [
            ("sel", vec!["select"]),
            ("SEL", vec!["SELECT"]),
            ("select * from ", vec!["orders", "customers", "shop."]),
            ("select * from o", vec!["orders"]),
            ("select * from orders, cu", vec!["customers"]),
            ("select * from shop.", vec!["shop.stock"]),
            ("select * from pg_c", vec!["pg_class", "pg_catalog."]),
            ("select * from orders where sta", vec!["status"]),
            ("select * from orders o join customers c on o.", vec!["o.id", "o.status", "o.\"Total\""]),
            ("update orders set sta", vec!["status"]),
            ("select statem", vec!["statement_timestamp("]),
            ("set wor", vec!["work_mem"]),
            ("\\c a", vec!["app"]),
            ("\\d cu", vec!["customers"]),
            ("\\tim", vec!["\\timing"]),
            ("drop database a", vec!["app"]),
        ] {
            let (_, mut offered) = complete(&catalog, text, &["timing", "x"]);
            let expected: Vec<&str> =
                expected.into_iter().filter(|word| *word != "start transaction").collect();
            offered.retain(|word| expected.contains(&word.as_str()) || !word.starts_with(char::is_uppercase));
            for wanted in &expected {
                assert!(offered.iter().any(|word| word == wanted), "{text}: {offered:?} lacks {wanted}");
            }
            let customers_only = offered.iter().any(|word| word == "state");
            assert!(!customers_only || !text.contains("from orders where"), "{text}: {offered:?}");
        }
    }
}

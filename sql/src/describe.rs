//! Objects in SQL again: what pg_get_indexdef, pg_get_constraintdef, pg_get_expr and their kin print.

use engine::catalog::{ConstraintKind, Index, IndexKind, ReferentialAction, Table};
use value::Oid;

use crate::lex::quote_name;
use crate::scope::Scope;

fn column(table: &Table, number: i16) -> String {
    table.columns.get(number as usize - 1).map_or_else(|| "?".into(), |c| quote_name(&c.name))
}

fn columns(table: &Table, numbers: &[i16]) -> String {
    numbers.iter().map(|n| column(table, *n)).collect::<Vec<_>>().join(", ")
}

/// One key column (1-based) of an index, without its order.
pub fn index_column(table: &Table, index: &Index, number: usize) -> String {
    match index.keys.get(number - 1) {
        Some(key) => match &key.expression {
            Some(text) if is_call(text) => text.clone(),
            Some(text) => format!("({text})"),
            None => column(table, key.column),
        },
        None => {
            index.include.get(number - 1 - index.keys.len()).map_or_else(String::new, |n| column(table, *n))
        }
    }
}

/// `name(...)` and nothing more.
fn is_call(text: &str) -> bool {
    let name: usize = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').map(char::len_utf8).sum();
    if name == 0 || !text[name..].starts_with('(') || !text.ends_with(')') {
        return false;
    }
    let mut depth = 0;
    for (n, c) in text.char_indices().skip(name) {
        match c {
            '(' => depth += 1,
            ')' => {
                depth -= 1;
                if depth == 0 {
                    return n + 1 == text.len();
                }
            }
            _ => {}
        }
    }
    false
}

/// What PostgreSQL calls a key column that is an expression: by its function, else "expr".
pub fn key_name(expression: &str) -> String {
    let word: String = expression.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let call = !word.is_empty() && expression[word.len()..].trim_start().starts_with('(');
    if call { word.to_lowercase() } else { String::from("expr") }
}

/// CREATE INDEX as PostgreSQL writes it: the table with its schema. `pretty` leaves out needless parentheses.
pub fn index(scope: &Scope, index: &Index, pretty: bool) -> String {
    let Some(table) = scope.catalog.table(index.table) else { return String::new() };
    let keys: Vec<String> = (1..=index.keys.len())
        .map(|n| {
            let key = &index.keys[n - 1];
            let mut text = index_column(table, index, n);
            // An expression that is no function call stands in parentheses of its own.
            if !pretty && key.expression.is_some() && text.starts_with('(') {
                text = format!("({text})");
            }
            if key.descending {
                text.push_str(" DESC");
            }
            if key.nulls_first != key.descending {
                text.push_str(if key.nulls_first { " NULLS FIRST" } else { " NULLS LAST" });
            }
            text
        })
        .collect();
    let mut out = format!(
        "CREATE {}INDEX {} ON {}.{} USING {} ({})",
        if index.unique { "UNIQUE " } else { "" },
        quote_name(&index.name),
        quote_name(&scope.schema_name(table.schema)),
        quote_name(&table.name),
        if index.kind == IndexKind::Hash { "hash" } else { "btree" },
        keys.join(", ")
    );
    if !index.include.is_empty() {
        out.push_str(&format!(" INCLUDE ({})", columns(table, &index.include)));
    }
    if index.unique && !index.nulls_distinct {
        out.push_str(" NULLS NOT DISTINCT");
    }
    if let Some((_, text)) = &index.predicate {
        out.push_str(&if pretty { format!(" WHERE {text}") } else { format!(" WHERE ({text})") });
    }
    out
}

fn action(action: ReferentialAction) -> &'static str {
    match action {
        ReferentialAction::NoAction => "NO ACTION",
        ReferentialAction::Restrict => "RESTRICT",
        ReferentialAction::Cascade => "CASCADE",
        ReferentialAction::SetNull => "SET NULL",
        ReferentialAction::SetDefault => "SET DEFAULT",
    }
}

/// A constraint as it stands in ALTER TABLE ... ADD.
pub fn constraint(
    scope: &Scope,
    table: &Table,
    constraint: &engine::catalog::Constraint,
    pretty: bool,
) -> String {
    let mut out = match &constraint.kind {
        ConstraintKind::Check { expression } if pretty => format!("CHECK ({expression})"),
        ConstraintKind::Check { expression } => format!("CHECK (({expression}))"),
        ConstraintKind::Primary { index } | ConstraintKind::Unique { index } => {
            let word = if matches!(constraint.kind, ConstraintKind::Primary { .. }) {
                "PRIMARY KEY"
            } else {
                "UNIQUE"
            };
            match scope.catalog.index(*index) {
                Some(index) => {
                    let keys: Vec<i16> = index.keys.iter().map(|k| k.column).collect();
                    let nulls = if index.nulls_distinct { "" } else { " NULLS NOT DISTINCT" };
                    let include = if index.include.is_empty() {
                        String::new()
                    } else {
                        format!(" INCLUDE ({})", columns(table, &index.include))
                    };
                    format!("{word}{nulls} ({}){include}", columns(table, &keys))
                }
                None => word.to_string(),
            }
        }
        ConstraintKind::Foreign(key) => {
            let target = scope.catalog.table(key.referenced_table);
            let name = target.map_or_else(|| "?".into(), |t| scope.relation_text(t.schema, &t.name));
            let theirs = target.map_or_else(String::new, |t| columns(t, &key.referenced_columns));
            let mut text =
                format!("FOREIGN KEY ({}) REFERENCES {name}({theirs})", columns(table, &key.columns));
            if key.match_full {
                text.push_str(" MATCH FULL");
            }
            if key.on_update != ReferentialAction::NoAction {
                text.push_str(&format!(" ON UPDATE {}", action(key.on_update)));
            }
            if key.on_delete != ReferentialAction::NoAction {
                text.push_str(&format!(" ON DELETE {}", action(key.on_delete)));
            }
            text
        }
    };
    if constraint.deferrable {
        out.push_str(" DEFERRABLE");
    }
    if constraint.initially_deferred {
        out.push_str(" INITIALLY DEFERRED");
    }
    if !constraint.validated {
        out.push_str(" NOT VALID");
    }
    out
}

/// A stored expression for people: sequences by name instead of oid.
pub fn expression(scope: &Scope, text: &str) -> String {
    let mut out = text.to_string();
    while let Some(end) = find_oid(&out) {
        let Some(start) = out[..end].rfind('\'') else { break };
        let Ok(oid) = out[start + 1..end].parse::<Oid>() else { break };
        let name = match scope.catalog.get(oid) {
            Some(object) => scope.relation_text(object.relation_schema().unwrap_or_default(), object.name()),
            None => format!("?{oid}"),
        };
        out.replace_range(start + 1..end, &name.replace('\'', "''"));
    }
    out
}

/// Where a quoted number before `::regclass` ends.
fn find_oid(text: &str) -> Option<usize> {
    text.match_indices("'::regclass").map(|(n, _)| n).find(|n| {
        text[..*n].rfind('\'').is_some_and(|start| {
            let inner = &text[start + 1..*n];
            !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_digit())
        })
    })
}

//! Statements against a small catalog, compared with what PostgreSQL 15 answered to Parse and Describe:
//! `postgres.txt` holds, for each line of `statements.sql`, the parameter types and columns, or the error with
//! state, position, detail and hint. `differences.txt` lists the statements where StartDB answers otherwise on purpose.

use std::sync::Arc;

use engine::catalog::{
    Catalog, Change, Column, Constraint, ConstraintKind, Database, Identity, Index, IndexKey, IndexKind,
    IndexState, Object, Persistence, Schema, Sequence, Table, View, ViewColumn, oid as fixed,
};
use function::{Environment, Function};
use resolve::{ExprScope, Names, Parameters, Purpose, SystemRelation};
use value::text::Style;
use value::types::{format_type, length_typmod, numeric_typmod, oid};
use value::{Datum, Error, Oid, Result};

struct World {
    catalog: Catalog,
    style: Style,
    path: Vec<Oid>,
}

impl Environment for World {
    fn style(&self) -> &Style {
        &self.style
    }
    fn transaction_time(&self) -> i64 {
        0
    }
    fn statement_time(&self) -> i64 {
        0
    }
    fn setting(&self, _: &str) -> Option<String> {
        None
    }
    fn system(&self, function: &'static Function, _: &[Datum]) -> Result<Datum> {
        Err(Error::internal(format!("{} is not for folding", function.name)))
    }
}

impl Names for World {
    fn catalog(&self) -> &Catalog {
        &self.catalog
    }
    fn database(&self) -> Oid {
        fixed::POSTGRES_DATABASE
    }
    fn search_path(&self) -> &[Oid] {
        &self.path
    }
    fn role(&self) -> Oid {
        fixed::BOOTSTRAP_SUPERUSER
    }
    fn system_relation(&self, _: Option<&str>, _: &str) -> Option<SystemRelation> {
        None
    }
    fn style(&self) -> &Style {
        &self.style
    }
    fn env(&self) -> &dyn Environment {
        self
    }
}

fn column(number: usize, name: &str, type_oid: Oid, typmod: i32) -> Column {
    Column {
        number: number as i16,
        name: name.to_owned(),
        type_oid,
        typmod,
        not_null: false,
        default: None,
        identity: None,
        generated: false,
        dropped: false,
        hidden: false,
        missing: None,
        comment: None,
        acl: None,
    }
}

fn table(oid: Oid, name: &str, columns: &[(&str, Oid, i32)]) -> Table {
    Table {
        oid,
        database: fixed::POSTGRES_DATABASE,
        schema: fixed::PUBLIC,
        name: name.to_owned(),
        owner: fixed::BOOTSTRAP_SUPERUSER,
        storage: oid,
        persistence: Persistence::Permanent,
        columns: columns
            .iter()
            .enumerate()
            .map(|(at, (name, ty, typmod))| column(at + 1, name, *ty, *typmod))
            .collect(),
        constraints: Vec::new(),
        acl: None,
        comment: None,
        options: Default::default(),
        on_commit: Default::default(),
    }
}

fn index(oid: Oid, table: &Table, name: &str, column: i16, expression: Option<&str>) -> Index {
    Index {
        oid,
        database: table.database,
        schema: table.schema,
        table: table.oid,
        name: name.to_owned(),
        owner: table.owner,
        storage: oid,
        kind: IndexKind::BTree,
        keys: vec![IndexKey {
            column,
            descending: false,
            nulls_first: false,
            expression: expression.map(str::to_owned),
        }],
        include: Vec::new(),
        unique: true,
        primary: false,
        nulls_distinct: true,
        predicate: None,
        state: IndexState::Ready,
        comment: None,
    }
}

fn constraint(oid: Oid, name: &str, kind: ConstraintKind) -> Constraint {
    Constraint {
        oid,
        name: name.to_owned(),
        kind,
        deferrable: false,
        initially_deferred: false,
        validated: true,
        comment: None,
    }
}

fn sequence(oid: Oid, name: &str, owned_by: Option<(Oid, i16)>) -> Object {
    Object::Sequence(Arc::new(Sequence {
        oid,
        database: fixed::POSTGRES_DATABASE,
        schema: fixed::PUBLIC,
        name: name.to_owned(),
        owner: fixed::BOOTSTRAP_SUPERUSER,
        type_oid: oid::INT8,
        start: 1,
        increment: 1,
        minimum: 1,
        maximum: i64::MAX,
        cache: 1,
        cycle: false,
        generation: 0,
        owned_by,
        acl: None,
        comment: None,
    }))
}

/// The catalog that schema.sql describes.
fn world() -> World {
    let mut objects = vec![
        Object::Database(Database {
            oid: fixed::POSTGRES_DATABASE,
            name: "postgres".to_owned(),
            owner: fixed::BOOTSTRAP_SUPERUSER,
            acl: None,
            settings: Default::default(),
            comment: None,
            is_template: false,
            allow_connections: true,
        }),
        Object::Schema(Schema {
            oid: fixed::PUBLIC,
            database: fixed::POSTGRES_DATABASE,
            name: "public".to_owned(),
            owner: fixed::BOOTSTRAP_SUPERUSER,
            acl: None,
            comment: None,
        }),
    ];
    let mut t = table(
        20001,
        "t",
        &[
            ("a", oid::INT4, -1),
            ("b", oid::TEXT, -1),
            ("c", oid::NUMERIC, numeric_typmod(10, 2)),
            ("d", oid::TIMESTAMPTZ, -1),
            ("e", oid::INT4_ARRAY, -1),
            ("f", oid::BOOL, -1),
            ("v", oid::VARCHAR, length_typmod(5)),
            ("j", oid::JSONB, -1),
        ],
    );
    t.constraints.push(constraint(20101, "t_pkey", ConstraintKind::Primary { index: 20102 }));
    let t_pkey = index(20102, &t, "t_pkey", 1, None);
    let u = table(
        20002,
        "u",
        &[("a", oid::INT4, -1), ("x", oid::INT8, -1), ("y", oid::FLOAT8, -1), ("b", oid::TEXT, -1)],
    );
    let mut o = table(
        20003,
        "o",
        &[
            ("id", oid::INT4, -1),
            ("customer", oid::INT4, -1),
            ("total", oid::NUMERIC, -1),
            ("placed", oid::DATE, -1),
        ],
    );
    o.constraints.push(constraint(20103, "o_pkey", ConstraintKind::Primary { index: 20104 }));
    let o_pkey = index(20104, &o, "o_pkey", 1, None);
    let mut i = table(
        20004,
        "i",
        &[
            ("id", oid::INT8, -1),
            ("n", oid::INT4, -1),
            ("g", oid::INT4, -1),
            ("s", oid::INT4, -1),
            ("email", oid::TEXT, -1),
            ("deleted", oid::BOOL, -1),
            ("key", oid::TEXT, -1),
            ("live", oid::BOOL, -1),
        ],
    );
    i.columns[0].identity = Some(Identity::Always);
    i.columns[1].default = Some("7".to_owned());
    i.columns[2].generated = true;
    i.columns[2].default = Some("n * 2".to_owned());
    i.columns[3].default = Some("nextval('i_s_seq'::regclass)".to_owned());
    i.columns[6].hidden = true;
    i.columns[7].hidden = true;
    i.constraints.push(constraint(20105, "i_pkey", ConstraintKind::Primary { index: 20106 }));
    i.constraints.push(constraint(
        20107,
        "i_n_check",
        ConstraintKind::Check { expression: "n > 0".to_owned() },
    ));
    let i_pkey = index(20106, &i, "i_pkey", 1, None);
    let i_email = index(20108, &i, "i_email", 7, Some("lower(email)"));
    let mut i_live = index(20109, &i, "i_live", 5, None);
    i_live.predicate = Some((8, "NOT deleted".to_owned()));
    let odd = table(20005, "Odd", &[("Col", oid::INT4, -1), ("plain", oid::INT4, -1)]);
    objects.extend([t, u, o, i, odd].map(|table| Object::Table(Arc::new(table))));
    objects.extend([t_pkey, o_pkey, i_pkey, i_email, i_live].map(|index| Object::Index(Arc::new(index))));
    objects.push(sequence(20201, "i_id_seq", Some((20004, 1))));
    objects.push(sequence(20202, "i_s_seq", Some((20004, 4))));
    let view_column = |name: &str, type_oid| ViewColumn { name: name.to_owned(), type_oid, typmod: -1 };
    objects.push(Object::View(Arc::new(View {
        oid: 20301,
        database: fixed::POSTGRES_DATABASE,
        schema: fixed::PUBLIC,
        name: "w".to_owned(),
        owner: fixed::BOOTSTRAP_SUPERUSER,
        query: "SELECT t.a, t.b AS label FROM public.t WHERE t.f".to_owned(),
        columns: vec![view_column("a", oid::INT4), view_column("label", oid::TEXT)],
        acl: None,
        comment: None,
        depends_on: vec![20001],
        persistence_temporary: false,
    })));
    let mut catalog = Catalog::default();
    for object in objects {
        catalog.apply(&Change::Put(object));
    }
    World { catalog, style: Style::default(), path: vec![fixed::PG_CATALOG, fixed::PUBLIC] }
}

/// Resolves the one statement of `sql`.
fn resolve_one(world: &World, sql: &str) -> Result<(resolve::tree::Query, Parameters)> {
    let mut statements = resolve::parse::statements(sql)?;
    let parsed = statements.pop().expect("one statement");
    let mut params = Parameters::new(&[]);
    let query = resolve::resolve(world, &parsed.ast, &parsed.source, &mut params)?;
    Ok((query, params))
}

fn describe(world: &World, sql: &str) -> String {
    let mut out = String::new();
    match resolve_one(world, sql) {
        Ok((query, params)) => {
            if !params.types().is_empty() {
                let types: Vec<String> = params.types().iter().map(|ty| format_type(*ty, -1)).collect();
                out += &format!("  $ {}\n", types.join(", "));
            }
            let columns: Vec<String> = resolve::output_columns(&query)
                .iter()
                .map(|column| format!("{} {}", column.name, format_type(column.ty.oid, column.ty.typmod)))
                .collect();
            let returns_nothing = query.modify.is_some() && columns.is_empty();
            out += &format!("  = {}\n", if returns_nothing { "-".to_owned() } else { columns.join(", ") });
        }
        Err(error) => {
            let fields = error.fields();
            out += &format!("  ! {} {}", fields.state, fields.message);
            if let Some(position) = fields.position {
                out += &format!(" @{position}");
            }
            out.push('\n');
            if let Some(detail) = &fields.detail {
                out += &format!("    detail: {detail}\n");
            }
            if let Some(hint) = &fields.hint {
                out += &format!("    hint: {hint}\n");
            }
        }
    }
    out
}

/// Statement -> answer, as the files hold them.
fn answers(text: &str) -> Vec<(&str, String)> {
    let mut out: Vec<(&str, String)> = Vec::new();
    for line in text.lines() {
        if line.starts_with("  ") {
            if let Some((_, answer)) = out.last_mut() {
                *answer += line;
                answer.push('\n');
            }
        } else if !line.is_empty() && !line.starts_with('#') {
            out.push((line, String::new()));
        }
    }
    out
}

#[test]
fn answers_are_those_of_postgresql() {
    let world = world();
    let accepted = answers(include_str!("differences.txt"));
    let mut wrong = String::new();
    for (sql, expected) in answers(include_str!("postgres.txt")) {
        let actual = describe(&world, sql);
        let own = accepted.iter().find(|(statement, _)| *statement == sql).map(|(_, answer)| answer);
        if actual != *own.unwrap_or(&expected) {
            wrong += &format!("{sql}\n  PostgreSQL:\n{expected}  StartDB:\n{actual}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Hostile lengths and depths are answered or refused, never a crash.
#[test]
fn long_and_deep_statements() {
    let world = world();
    let chain = |term: &str, op: &str, count: usize| vec![term; count].join(op);
    let state = |sql: String| match resolve_one(&world, &sql) {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.state().to_string(),
    };
    for (name, sql, expected) in [
        ("OR", format!("SELECT a FROM t WHERE {}", chain("a = 1", " OR ", 100_000)), "ok"),
        ("AND", format!("SELECT a FROM t WHERE {}", chain("a = 1", " AND ", 100_000)), "ok"),
        ("constants", format!("SELECT {}", chain("1", " + ", 100_000)), "ok"),
        ("columns", format!("SELECT {} FROM t", chain("a", " + ", 100_000)), "54001"),
        ("concat", format!("SELECT {} FROM t", chain("b", " || ", 100_000)), "54001"),
        ("IN", format!("SELECT a FROM t WHERE a IN ({})", chain("1", ", ", 100_000)), "ok"),
        ("VALUES", format!("VALUES {}", chain("(1, 'x')", ", ", 100_000)), "ok"),
        ("UNION", chain("SELECT 1", " UNION ALL ", 5_000), "ok"),
        ("CASE", format!("SELECT CASE {} END FROM t", chain("WHEN a = 1 THEN 2", " ", 10_000)), "ok"),
        ("parentheses", format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000)), "54001"),
        ("parentheses within limits", format!("SELECT {}1{}", "(".repeat(500), ")".repeat(500)), "ok"),
        ("NOT", format!("SELECT {} true", "NOT ".repeat(20_000)), "54001"),
        ("functions", format!("SELECT {}'x'{}", "lower(".repeat(500), ")".repeat(500)), "ok"),
        ("subqueries", format!("SELECT {}1{}", "(SELECT ".repeat(200), ")".repeat(200)), "ok"),
        ("FROM", format!("SELECT 1 FROM {}t{}", "(".repeat(12), ")".repeat(12)), "42601"),
        ("casts", format!("SELECT a{} FROM t", "::int".repeat(100_000)), "54001"),
        ("casts within limits", format!("SELECT a{} FROM t", "::int".repeat(500)), "ok"),
    ] {
        let started = std::time::Instant::now();
        assert_eq!(state(sql), expected, "{name}");
        assert!(started.elapsed().as_secs() < 30, "{name} took {:?}", started.elapsed());
    }
}

/// Literals go on after a line break, however many lines and comments stand between.
#[test]
fn literals_over_lines() {
    for (sql, expected) in [
        ("SELECT 'a'\n'b'", Ok("ab")),
        ("SELECT 'a' -- one\n  'b'\n\n'c'", Ok("abc")),
        ("SELECT E'a\\n'\n'\\tb'", Ok("a\n\tb")),
        ("SELECT U&'d!0061'\n't' -- it's\n'''' UESCAPE '!'", Ok("dat'")),
        ("SELECT U&'d!0061' UESCAPE '!'", Ok("da")),
        ("SELECT U&'\\d83d\\de00!' UESCAPE '!'", Err("42601")),
        ("SELECT 'a' /* b */ 'c'", Err("42601")),
        ("SELECT $$a$$\n'b'", Err("42601")),
    ] {
        let world = world();
        let actual = resolve_one(&world, sql).map(|(query, _)| match &query.targets[0].expr {
            resolve::tree::Expr::Const { value: Datum::Text(text), .. } => text.to_string(),
            other => format!("{other:?}"),
        });
        match (actual, expected) {
            (Ok(actual), Ok(expected)) => assert_eq!(actual, expected, "{sql}"),
            (Err(error), Err(state)) => assert_eq!(error.state().to_string(), state, "{sql}"),
            (actual, _) => panic!("{sql}: {actual:?}"),
        }
    }
}

/// What stored expressions may not hold.
#[test]
fn stored_expressions() {
    let world = world();
    let table = match world.catalog.get(20001) {
        Some(Object::Table(table)) => table.clone(),
        other => panic!("{other:?}"),
    };
    for (text, purpose, over_table, expected) in [
        ("a > 0", Purpose::Check, true, "ok"),
        ("a > (SELECT 1)", Purpose::Check, true, "0A000 cannot use subquery in check constraint"),
        ("EXISTS (SELECT 1)", Purpose::Check, true, "0A000 cannot use subquery in check constraint"),
        ("a", Purpose::Default, false, "0A000 cannot use column reference in DEFAULT expression"),
        ("(SELECT 1)", Purpose::Default, false, "0A000 cannot use subquery in DEFAULT expression"),
        ("1 + 1", Purpose::Default, false, "ok"),
        ("a IN (SELECT 1)", Purpose::IndexPredicate, true, "0A000 cannot use subquery in index predicate"),
    ] {
        let parsed = resolve::parse_expression(text).expect("an expression");
        let scope = ExprScope { table: over_table.then_some(&table), purpose };
        let actual = match resolve::resolve_expression(&world, &parsed, text, scope, None) {
            Ok(_) => "ok".to_owned(),
            Err(error) => format!("{} {}", error.state(), error.message()),
        };
        assert_eq!(actual, expected, "{text}");
    }
}

/// Constants are folded where they are sure to be evaluated, and only there.
#[test]
fn folding() {
    let world = world();
    for (sql, expected) in [
        ("SELECT 1/0 FROM t", "22012"),
        ("SELECT a FROM t WHERE a = 1/0", "22012"),
        ("SELECT CASE WHEN true THEN 1 ELSE 1/0 END", "ok"),
        ("SELECT CASE WHEN a > 0 THEN 1 ELSE 1/0 END FROM t", "22012"),
        ("SELECT coalesce(a, 1/0) FROM t", "22012"),
        ("SELECT coalesce(1, 1/0)", "ok"),
        ("SELECT a FROM t WHERE a > 0 OR 1/0 = 1", "22012"),
        ("SELECT a FROM t WHERE false AND 1/0 = 1", "ok"),
        ("SELECT 2147483647 + 1", "22003"),
        ("INSERT INTO t (v) VALUES ('toolong')", "22001"),
        ("SELECT 'toolong'::varchar(3)", "ok"),
    ] {
        let state = match resolve_one(&world, sql) {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.state().to_string(),
        };
        assert_eq!(state, expected, "{sql}");
    }
}

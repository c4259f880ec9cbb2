//! Plans as text and JSON, in the shape PostgreSQL gives them.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use plan::ir::*;
use resolve::tree::{Expr, SubplanKind};
use serde_json::{Map, Value, json};
use value::Datum;
use value::types;

use crate::lex::quote_name;
use crate::scope::Scope;
use crate::statement::ExplainOptions;

/// What was measured while a plan ran, by node.
#[derive(Default)]
pub struct Measured {
    pub analyze: bool,
    nodes: HashMap<usize, execute::Actual>,
}

impl Measured {
    pub fn analyzed() -> Measured {
        Measured { analyze: true, ..Measured::default() }
    }

    pub fn read(&mut self, plan: &Plan, actuals: &execute::Actuals<'_>) {
        let roots = [&plan.root]
            .into_iter()
            .chain(plan.subplans.iter().map(|s| &s.root))
            .chain(plan.ctes.iter().map(|c| &c.root));
        for root in roots {
            self.read_node(root, actuals);
        }
    }

    fn read_node(&mut self, node: &Node, actuals: &execute::Actuals<'_>) {
        if let Some(actual) = actuals.of(node) {
            self.nodes.insert(std::ptr::from_ref(node) as usize, actual);
        }
        for input in node.inputs() {
            self.read_node(input, actuals);
        }
    }

    fn of(&self, node: &Node) -> Option<&execute::Actual> {
        self.nodes.get(&(std::ptr::from_ref(node) as usize))
    }
}

pub struct Printer<'a> {
    pub scope: &'a Scope,
    pub plan: &'a Plan,
    pub options: ExplainOptions,
    pub measured: &'a Measured,
    /// Which executor runs the plan; said where costs are, which are no part of PostgreSQL's answers either.
    pub executor: &'static str,
}

/// A node in words: its name, what it works on, and its properties in order.
struct Words {
    name: String,
    target: String,
    properties: Vec<(&'static str, String)>,
    json: Vec<(&'static str, Value)>,
}

impl Printer<'_> {
    pub fn text(&self, summary: Option<(Duration, Option<Duration>)>) -> Vec<String> {
        let mut lines = Vec::new();
        self.node(&self.plan.root, 0, "", &mut lines);
        if self.options.costs {
            lines.push(format!("Executor: {}", self.executor));
        }
        if let Some((planning, execution)) = summary {
            lines.push(format!("Planning Time: {:.3} ms", planning.as_secs_f64() * 1e3));
            if let Some(execution) = execution {
                lines.push(format!("Execution Time: {:.3} ms", execution.as_secs_f64() * 1e3));
            }
        }
        lines
    }

    fn node(&self, node: &Node, depth: usize, label: &str, lines: &mut Vec<String>) {
        // A projection is part of the node below, as in PostgreSQL.
        if let NodeKind::Project { input, .. } = &node.kind {
            return self.node(input, depth, label, lines);
        }
        let words = self.words(node);
        let lead = if depth == 0 { String::new() } else { format!("{}->  ", " ".repeat(depth * 6 - 4)) };
        let mut line = format!("{lead}{label}{}{}", words.name, words.target);
        if self.options.costs {
            let width: u32 = node
                .types
                .iter()
                .map(|t| types::info(t.oid).map_or(32, |i| if i.len > 0 { i.len as u32 } else { 32 }))
                .sum();
            let _ = write!(
                line,
                "  (cost={:.2}..{:.2} rows={} width={width})",
                node.startup_cost,
                node.total_cost,
                node.rows.max(0.0).round() as u64
            );
        }
        if self.measured.analyze {
            match self.measured.of(node) {
                Some(actual) if actual.loops > 0 => {
                    let loops = actual.loops as f64;
                    if self.options.timing {
                        let _ = write!(
                            line,
                            " (actual time={:.3}..{:.3} rows={} loops={})",
                            actual.startup.as_secs_f64() * 1e3 / loops,
                            actual.total.as_secs_f64() * 1e3 / loops,
                            (actual.rows as f64 / loops).round() as u64,
                            actual.loops
                        );
                    } else {
                        let _ = write!(
                            line,
                            " (actual rows={} loops={})",
                            (actual.rows as f64 / loops).round() as u64,
                            actual.loops
                        );
                    }
                }
                _ => line.push_str(" (never executed)"),
            }
        }
        lines.push(line);
        let inner = " ".repeat(depth * 6 + 2);
        for (key, value) in &words.properties {
            lines.push(format!("{inner}{key}: {value}"));
        }
        if depth == 0 {
            for (n, cte) in self.plan.ctes.iter().enumerate() {
                lines.push(format!("{inner}CTE {}", cte.name));
                self.node(&cte.root, depth + 1, "", lines);
                let _ = n;
            }
            for (n, subplan) in self.plan.subplans.iter().enumerate() {
                let name = if subplan.parameters.is_empty() { "InitPlan" } else { "SubPlan" };
                lines.push(format!("{inner}{name} {}", n + 1));
                self.node(&subplan.root, depth + 1, "", lines);
            }
        }
        for input in node.inputs() {
            self.node(input, depth + 1, "", lines);
        }
    }

    pub fn json(&self, summary: Option<(Duration, Option<Duration>)>) -> String {
        let mut top = Map::new();
        top.insert("Plan".into(), self.json_node(&self.plan.root));
        if self.options.costs {
            top.insert("Executor".into(), json!(self.executor));
        }
        if let Some((planning, execution)) = summary {
            top.insert("Planning Time".into(), json!(millis(planning)));
            if let Some(execution) = execution {
                top.insert("Execution Time".into(), json!(millis(execution)));
            }
        }
        serde_json::to_string_pretty(&Value::Array(vec![Value::Object(top)])).unwrap_or_default()
    }

    fn json_node(&self, node: &Node) -> Value {
        if let NodeKind::Project { input, .. } = &node.kind {
            return self.json_node(input);
        }
        let words = self.words(node);
        let mut out = Map::new();
        out.insert("Node Type".into(), json!(words.name));
        for (key, value) in words.json {
            out.insert(key.into(), value);
        }
        if self.options.costs {
            out.insert("Startup Cost".into(), json!(round2(node.startup_cost)));
            out.insert("Total Cost".into(), json!(round2(node.total_cost)));
            out.insert("Plan Rows".into(), json!(node.rows.max(0.0).round() as u64));
            out.insert("Plan Width".into(), json!(node.types.len() * 8));
        }
        if self.measured.analyze {
            let actual = self.measured.of(node);
            let loops = actual.map_or(0, |a| a.loops);
            let per = |d: Duration| if loops == 0 { 0.0 } else { millis(d) / loops as f64 };
            out.insert("Actual Startup Time".into(), json!(actual.map_or(0.0, |a| per(a.startup))));
            out.insert("Actual Total Time".into(), json!(actual.map_or(0.0, |a| per(a.total))));
            out.insert("Actual Rows".into(), json!(actual.map_or(0, |a| a.rows / a.loops.max(1))));
            out.insert("Actual Loops".into(), json!(loops));
        }
        for (key, value) in words.properties {
            out.insert(key.into(), json!(value));
        }
        let children: Vec<Value> = node.inputs().into_iter().map(|n| self.json_node(n)).collect();
        if !children.is_empty() {
            out.insert("Plans".into(), Value::Array(children));
        }
        Value::Object(out)
    }

    fn words(&self, node: &Node) -> Words {
        let mut words =
            Words { name: String::new(), target: String::new(), properties: Vec::new(), json: Vec::new() };
        let input_names =
            |inputs: &[&Node]| -> Vec<String> { inputs.iter().flat_map(|n| self.names(n)).collect() };
        match &node.kind {
            NodeKind::Once { condition } => {
                words.name = "Result".into();
                if let Some(condition) = condition {
                    words.properties.push(("One-Time Filter", self.expr(condition, &[])));
                }
            }
            NodeKind::Values { .. } => {
                words.name = "Values Scan".into();
                words.target = " on \"*VALUES*\"".into();
            }
            NodeKind::Scan(scan) => {
                words.name = "Seq Scan".into();
                self.on(&mut words, &scan.table.name, &scan.alias, scan.table.schema);
                let names = self.names(node);
                if let Some(filter) = &scan.filter {
                    words.properties.push(("Filter", self.expr(filter, &names)));
                }
            }
            NodeKind::IndexScan(scan) => {
                words.name = "Index Scan".into();
                let backward = if scan.backward { " Backward" } else { "" };
                let mut on = Words {
                    name: String::new(),
                    target: String::new(),
                    properties: Vec::new(),
                    json: Vec::new(),
                };
                self.on(&mut on, &scan.table.name, &scan.alias, scan.table.schema);
                words.target = format!("{backward} using {}{}", quote_name(&scan.index.name), on.target);
                words
                    .json
                    .push(("Scan Direction", json!(if scan.backward { "Backward" } else { "Forward" })));
                words.json.push(("Index Name", json!(scan.index.name)));
                words.json.extend(on.json);
                let key = |n: usize| -> String {
                    scan.index.keys.get(n).map_or_else(String::new, |k| match &k.expression {
                        Some(text) => format!("({text})"),
                        None => scan
                            .table
                            .columns
                            .get(k.column as usize - 1)
                            .map_or_else(String::new, |c| quote_name(&c.name)),
                    })
                };
                let mut conditions = Vec::new();
                for (n, equal) in scan.equal.iter().enumerate() {
                    conditions.push(if equal.is_null {
                        format!("({} IS NULL)", key(n))
                    } else {
                        format!("({} = {})", key(n), self.expr(&equal.value, &[]))
                    });
                }
                let next = key(scan.equal.len());
                if let Some(low) = &scan.low {
                    let op = if low.inclusive { ">=" } else { ">" };
                    conditions.push(format!("({next} {op} {})", self.expr(&low.value, &[])));
                }
                if let Some(high) = &scan.high {
                    let op = if high.inclusive { "<=" } else { "<" };
                    conditions.push(format!("({next} {op} {})", self.expr(&high.value, &[])));
                }
                if let Some(any) = &scan.any {
                    let list: Vec<String> = any.iter().map(|e| self.expr(e, &[])).collect();
                    conditions.push(format!("({next} = ANY ({{{}}}))", list.join(",")));
                }
                if let Some(any) = &scan.any_array {
                    conditions.push(format!("({next} = ANY ({}))", self.expr(any, &[])));
                }
                match conditions.len() {
                    0 => {}
                    1 => words.properties.push(("Index Cond", conditions.remove(0))),
                    _ => words.properties.push(("Index Cond", format!("({})", conditions.join(" AND ")))),
                }
                if let Some(filter) = &scan.filter {
                    words.properties.push(("Filter", self.expr(filter, &self.names(node))));
                }
            }
            NodeKind::SystemScan { name, filter, .. } => {
                words.name = "Seq Scan".into();
                words.target = format!(" on {name}");
                words.json.push(("Relation Name", json!(name)));
                if let Some(filter) = filter {
                    words.properties.push(("Filter", self.expr(filter, &self.names(node))));
                }
            }
            NodeKind::FunctionScan { calls, .. } => {
                words.name = "Function Scan".into();
                words.target = calls.first().map_or_else(String::new, |c| {
                    let text = self.expr(c, &[]);
                    format!(" on {}", text.split('(').next().unwrap_or_default())
                });
            }
            NodeKind::CteScan { cte } => {
                words.name = "CTE Scan".into();
                words.target = format!(" on {}", self.plan.ctes.get(*cte).map_or("?", |c| c.name.as_str()));
            }
            NodeKind::WorkTable { .. } => words.name = "WorkTable Scan".into(),
            NodeKind::Pinned { .. } => words.name = "Pinned Row".into(),
            NodeKind::Filter { input, predicate } => {
                words.name = "Filter".into();
                words.properties.push(("Filter", self.expr(predicate, &input_names(&[input]))));
            }
            NodeKind::Project { .. } => words.name = "Result".into(),
            NodeKind::ProjectSet { .. } => words.name = "ProjectSet".into(),
            NodeKind::NestedLoop(join) => {
                words.name = join_name("Nested Loop", join.kind);
                words.json.push(("Join Type", json!(join_type(join.kind))));
                if let Some(condition) = &join.condition {
                    words.properties.push((
                        "Join Filter",
                        self.expr(condition, &input_names(&[&join.left, &join.right])),
                    ));
                }
            }
            NodeKind::HashJoin(join) => {
                words.name = join_name("Hash Join", join.kind).replace("Hash Join Join", "Hash Join");
                if join.kind != JoinType::Inner {
                    words.name = format!("Hash {} Join", join_type(join.kind));
                }
                words.json.push(("Join Type", json!(join_type(join.kind))));
                let (left, right) = (self.names(&join.left), self.names(&join.right));
                let keys: Vec<String> = join
                    .keys
                    .iter()
                    .map(|(a, b)| format!("({} = {})", self.expr(a, &left), self.expr(b, &right)))
                    .collect();
                let text = if keys.len() == 1 { keys.concat() } else { format!("({})", keys.join(" AND ")) };
                words.properties.push(("Hash Cond", text));
                if let Some(condition) = &join.condition {
                    words.properties.push((
                        "Join Filter",
                        self.expr(condition, &input_names(&[&join.left, &join.right])),
                    ));
                }
            }
            NodeKind::Aggregate(step) => {
                words.name = if step.keys.is_empty() { "Aggregate".into() } else { "HashAggregate".into() };
                let names = self.names(&step.input);
                if !step.keys.is_empty() {
                    let keys: Vec<String> = step.keys.iter().map(|k| self.expr(k, &names)).collect();
                    words.properties.push(("Group Key", keys.join(", ")));
                }
            }
            NodeKind::Window(_) => words.name = "WindowAgg".into(),
            NodeKind::Sort { input, keys, .. } => {
                words.name = "Sort".into();
                words.properties.push(("Sort Key", self.order(keys, &self.names(input))));
            }
            NodeKind::Limit { .. } => words.name = "Limit".into(),
            NodeKind::Distinct { .. } => words.name = "HashAggregate".into(),
            NodeKind::DistinctOn { .. } => words.name = "Unique".into(),
            NodeKind::SetOperation { kind, all, .. } => {
                words.name = "HashSetOp".into();
                words.target = format!(" {kind:?}{}", if *all { " All" } else { "" });
            }
            NodeKind::Append { .. } => words.name = "Append".into(),
            NodeKind::RecursiveUnion { .. } => words.name = "Recursive Union".into(),
            NodeKind::LockRows(_) => words.name = "LockRows".into(),
            NodeKind::Modify(modify) => {
                words.name = match modify.action {
                    ModifyAction::Insert { .. } => "Insert",
                    ModifyAction::Update { .. } => "Update",
                    ModifyAction::Delete { .. } => "Delete",
                }
                .into();
                words.target = format!(" on {}", quote_name(&modify.table.name));
                words.json.push(("Relation Name", json!(modify.table.name)));
            }
        }
        words
    }

    fn on(&self, words: &mut Words, table: &str, alias: &str, schema: value::Oid) {
        words.target = format!(" on {}", quote_name(table));
        if self.options.verbose {
            words.target =
                format!(" on {}.{}", quote_name(&self.scope.schema_name(schema)), quote_name(table));
        }
        if !alias.is_empty() && alias != table {
            let _ = write!(words.target, " {}", quote_name(alias));
        }
        words.json.push(("Relation Name", json!(table)));
        words.json.push(("Alias", json!(if alias.is_empty() { table } else { alias })));
    }

    fn order(&self, keys: &[Order], names: &[String]) -> String {
        keys.iter()
            .map(|key| {
                let mut text = self.expr(&key.expr, names);
                if key.descending {
                    text.push_str(" DESC");
                }
                if key.nulls_first != key.descending {
                    text.push_str(if key.nulls_first { " NULLS FIRST" } else { " NULLS LAST" });
                }
                text
            })
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// A word for each slot of a node.
    fn names(&self, node: &Node) -> Vec<String> {
        let columns = |table: &engine::catalog::Table, alias: &str, columns: &[usize], row_id: bool| {
            let mut out: Vec<String> = columns
                .iter()
                .map(|c| {
                    let name = table.columns.get(*c).map_or("?", |c| c.name.as_str());
                    if self.plan.tables.len() > 1 && !alias.is_empty() {
                        format!("{}.{}", quote_name(alias), quote_name(name))
                    } else {
                        quote_name(name)
                    }
                })
                .collect();
            if row_id {
                out.push("ctid".into());
            }
            out
        };
        match &node.kind {
            NodeKind::Scan(scan) => columns(&scan.table, &scan.alias, &scan.columns, scan.row_id),
            NodeKind::IndexScan(scan) => columns(&scan.table, &scan.alias, &scan.columns, scan.row_id),
            NodeKind::SystemScan { schema, name, columns, .. } => {
                let relation = crate::pg_catalog::relation(self.scope, schema, name);
                columns
                    .iter()
                    .map(|c| {
                        relation
                            .as_ref()
                            .and_then(|r| r.columns.get(*c))
                            .map_or("?".into(), |c| c.name.clone())
                    })
                    .collect()
            }
            NodeKind::Project { input, exprs } | NodeKind::ProjectSet { input, exprs } => {
                let names = self.names(input);
                exprs.iter().map(|e| self.expr(e, &names)).collect()
            }
            NodeKind::Aggregate(step) => {
                let names = self.names(&step.input);
                let mut out: Vec<String> = step.keys.iter().map(|k| self.expr(k, &names)).collect();
                out.extend(step.aggregates.iter().map(|a| {
                    let args: Vec<String> = a.args.iter().map(|e| self.expr(e, &names)).collect();
                    let distinct = if a.distinct { "DISTINCT " } else { "" };
                    format!(
                        "{}({distinct}{})",
                        a.aggregate.name,
                        if args.is_empty() { "*".into() } else { args.join(", ") }
                    )
                }));
                out.push("grouping".into());
                out
            }
            NodeKind::NestedLoop(join) => {
                let mut out = self.names(&join.left);
                if !matches!(join.kind, JoinType::Semi | JoinType::Anti | JoinType::NullAwareAnti) {
                    out.extend(self.names(&join.right));
                }
                out
            }
            NodeKind::HashJoin(join) => {
                let mut out = self.names(&join.left);
                if !matches!(join.kind, JoinType::Semi | JoinType::Anti | JoinType::NullAwareAnti) {
                    out.extend(self.names(&join.right));
                }
                out
            }
            _ => match node.inputs().first() {
                Some(input) => {
                    let mut out = self.names(input);
                    out.resize(node.types.len().max(out.len()), "?column?".into());
                    out
                }
                None => (0..node.types.len()).map(|n| format!("column{}", n + 1)).collect(),
            },
        }
    }

    fn list(&self, exprs: &[Expr], names: &[String]) -> String {
        exprs.iter().map(|e| self.expr(e, names)).collect::<Vec<_>>().join(", ")
    }

    /// An expression in SQL, slots by name.
    fn expr(&self, expr: &Expr, names: &[String]) -> String {
        match expr {
            Expr::Const { value, ty } => match value {
                Datum::Null => "NULL".into(),
                value => {
                    let text = value::text::output_string(value, ty.oid, &self.scope.style);
                    match value {
                        Datum::Int2(_) | Datum::Int4(_) | Datum::Bool(_) => text,
                        _ => format!("'{}'::{}", text.replace('\'', "''"), types::format_type(ty.oid, -1)),
                    }
                }
            },
            Expr::Slot { index, .. } => names.get(*index).cloned().unwrap_or_else(|| format!("${index}")),
            Expr::Column { column, .. } => {
                names.get(*column).cloned().unwrap_or_else(|| format!("column{column}"))
            }
            Expr::RowId { .. } => "ctid".into(),
            Expr::WholeRow { .. } => "*".into(),
            Expr::Param { index, .. } => format!("${}", index + 1),
            Expr::Outer { index, .. } => format!("outer{index}"),
            Expr::Call(call) => match (call.operator, call.args.as_slice()) {
                (Some(operator), [left, right]) => {
                    format!("({} {operator} {})", self.expr(left, names), self.expr(right, names))
                }
                (Some(operator), [right]) => format!("({operator} {})", self.expr(right, names)),
                _ => format!("{}({})", call.function.name, self.list(&call.args, names)),
            },
            Expr::Convert(convert) => format!(
                "({})::{}",
                self.expr(&convert.input, names),
                types::format_type(convert.to.oid, convert.to.typmod)
            ),
            Expr::And(parts) | Expr::Or(parts) => {
                let word = if matches!(expr, Expr::And(_)) { " AND " } else { " OR " };
                format!("({})", parts.iter().map(|p| self.expr(p, names)).collect::<Vec<_>>().join(word))
            }
            Expr::Not(inner) => format!("(NOT {})", self.expr(inner, names)),
            Expr::IsNull { input, negated } => {
                format!("({} IS {}NULL)", self.expr(input, names), if *negated { "NOT " } else { "" })
            }
            Expr::IsBool { input, value, negated } => format!(
                "({} IS {}{})",
                self.expr(input, names),
                if *negated { "NOT " } else { "" },
                if *value { "TRUE" } else { "FALSE" }
            ),
            Expr::Distinct { left, right, negated, .. } => format!(
                "({} IS {}DISTINCT FROM {})",
                self.expr(left, names),
                if *negated { "NOT " } else { "" },
                self.expr(right, names)
            ),
            Expr::Case { whens, otherwise, .. } => {
                let mut out = "CASE".to_string();
                for (when, then) in whens {
                    let _ = write!(out, " WHEN {} THEN {}", self.expr(when, names), self.expr(then, names));
                }
                if let Some(otherwise) = otherwise {
                    let _ = write!(out, " ELSE {}", self.expr(otherwise, names));
                }
                out + " END"
            }
            Expr::Coalesce { args, .. } => format!("COALESCE({})", self.list(args, names)),
            Expr::Extreme { greatest, args, .. } => {
                format!("{}({})", if *greatest { "GREATEST" } else { "LEAST" }, self.list(args, names))
            }
            Expr::NullIf { left, right, .. } => {
                format!("NULLIF({}, {})", self.expr(left, names), self.expr(right, names))
            }
            Expr::InList { left, list, all, negated, .. } => format!(
                "({} {} {} ({{{}}}))",
                self.expr(left, names),
                if *negated { "<>" } else { "=" },
                if *all { "ALL" } else { "ANY" },
                list.iter().map(|e| self.expr(e, names)).collect::<Vec<_>>().join(",")
            ),
            Expr::AnyArray { left, array, all, .. } => format!(
                "({} = {} ({}))",
                self.expr(left, names),
                if *all { "ALL" } else { "ANY" },
                self.expr(array, names)
            ),
            Expr::Array { elements, .. } => format!("ARRAY[{}]", self.list(elements, names)),
            Expr::Row { fields, .. } => format!("ROW({})", self.list(fields, names)),
            Expr::Subscript { input, .. } => format!("{}[...]", self.expr(input, names)),
            Expr::Field { input, index, .. } => format!("({}).f{}", self.expr(input, names), index + 1),
            Expr::Aggregate(call) => format!("{}({})", call.aggregate.name, self.list(&call.args, names)),
            Expr::Window(call) => format!("window({})", self.list(&call.args, names)),
            Expr::SetCall(call) => format!("{}({})", call.function.name, self.list(&call.args, names)),
            Expr::Grouping(_) => "GROUPING(...)".into(),
            Expr::Sublink(_) => "(SubPlan)".into(),
            Expr::Subplan(call) => match &call.kind {
                SubplanKind::Exists => format!("EXISTS(SubPlan {})", call.subplan + 1),
                SubplanKind::Any { .. } | SubplanKind::All { .. } => {
                    format!("(hashed SubPlan {})", call.subplan + 1)
                }
                _ => format!("(SubPlan {})", call.subplan + 1),
            },
        }
    }
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn round2(cost: f64) -> f64 {
    (cost * 100.0).round() / 100.0
}

fn join_type(kind: JoinType) -> &'static str {
    match kind {
        JoinType::Inner => "Inner",
        JoinType::Left => "Left",
        JoinType::Right => "Right",
        JoinType::Full => "Full",
        JoinType::Semi => "Semi",
        JoinType::Anti | JoinType::NullAwareAnti => "Anti",
    }
}

fn join_name(base: &str, kind: JoinType) -> String {
    match kind {
        JoinType::Inner => base.to_string(),
        _ => format!("{base} {} Join", join_type(kind)),
    }
}

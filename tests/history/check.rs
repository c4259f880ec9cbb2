//! From a history to its anomalies: version orders, dependencies, cycles.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use super::workload::{History, Operation, Transaction};

#[derive(Clone, Debug)]
#[allow(dead_code, reason = "what is printed")]
pub struct Anomaly {
    /// G0, G1a, G1b, G1c, G-single, G2-item; `rt-cycle` when real time is needed to close the cycle; `order`, `internal`,
    /// `lost`: no order of versions explains what was read, not even one transaction by itself, or a commit is gone.
    pub kind: &'static str,
    pub what: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Edge {
    Ww,
    Wr,
    Rw,
    Rt,
}

struct Graph {
    /// For each transaction: to whom, how, and because of which key.
    edges: Vec<Vec<(usize, Edge, i64)>>,
}

fn anomaly(kind: &'static str, what: Vec<String>) -> Anomaly {
    Anomaly { kind, what }
}

/// All anomalies of a history, one cycle per strongly connected part and kind.
pub fn check(history: &History) -> Vec<Anomaly> {
    let transactions = &history.transactions;
    let mut found = Vec::new();
    // Values are unique: who wrote each, and whether it was the transaction's last to that key.
    let mut writer: HashMap<(i64, i64), usize> = HashMap::new();
    let mut last_write: HashSet<(i64, i64)> = HashSet::new();
    for (number, transaction) in transactions.iter().enumerate() {
        let mut last = HashMap::new();
        for (key, value) in transaction.operations.iter().filter_map(Operation::written) {
            writer.insert((key, value), number);
            last.insert(key, value);
        }
        last_write.extend(last);
    }
    let versions = versions(history, &mut found);
    let mut graph = Graph { edges: vec![Vec::new(); transactions.len()] };
    for (key, order) in &versions {
        let seen: HashSet<i64> = order.iter().copied().collect();
        if seen.len() < order.len() {
            found.push(anomaly("order", vec![format!("key {key} has a value twice: {order:?}")]));
        }
        for pair in order.windows(2) {
            if let (Some(a), Some(b)) = (writer.get(&(*key, pair[0])), writer.get(&(*key, pair[1])))
                && a != b
            {
                graph.edges[*a].push((*b, Edge::Ww, *key));
            }
        }
        for value in order {
            match writer.get(&(*key, *value)) {
                Some(number) if transactions[*number].failed() => found.push(anomaly(
                    "G1a",
                    vec![format!("{value} of key {key} was rolled back: {:?}", transactions[*number])],
                )),
                Some(_) => {}
                None => found.push(anomaly("order", vec![format!("nobody wrote {value} to key {key}")])),
            }
        }
    }
    for (number, transaction) in transactions.iter().enumerate() {
        let happened = transaction.committed() || transaction.unknown() && is_visible(transaction, &versions);
        if transaction.committed() {
            for (key, value) in transaction.operations.iter().filter_map(Operation::written) {
                if !versions.get(&key).is_some_and(|order| order.contains(&value)) {
                    found.push(anomaly("lost", vec![format!("{value} of key {key}: {transaction:?}")]));
                }
            }
        }
        if !happened {
            continue;
        }
        found.extend(internal(transaction));
        let mut own: HashSet<i64> = HashSet::new();
        for operation in &transaction.operations {
            if let Some((key, Some(value))) = operation.saw()
                && !own.contains(&key)
            {
                let order = versions.get(&key).map_or(&[][..], Vec::as_slice);
                let place = match value {
                    0 => 0,
                    value => match order.iter().position(|other| *other == value) {
                        Some(place) => place + 1,
                        None => {
                            let text =
                                format!("key {key} was {value}, which is no version of it: {transaction:?}");
                            found.push(anomaly("order", vec![text]));
                            continue;
                        }
                    },
                };
                if let Some(other) = writer.get(&(key, value))
                    && *other != number
                {
                    if transactions[*other].failed() {
                        let text = format!("key {key} = {value} in {transaction:?}");
                        found.push(anomaly("G1a", vec![text]));
                    } else if !last_write.contains(&(key, value)) {
                        let text = format!("key {key} = {value} in {transaction:?}");
                        found.push(anomaly("G1b", vec![text]));
                    }
                    graph.edges[*other].push((number, Edge::Wr, key));
                }
                if let Some(next) = order.get(place).and_then(|value| writer.get(&(key, *value)))
                    && *next != number
                {
                    graph.edges[number].push((*next, Edge::Rw, key));
                }
            }
            if let Some((key, _)) = operation.written() {
                own.insert(key);
            }
        }
    }
    let without_time = graph.edges.clone();
    real_time(transactions, &mut graph);
    for (kind, allowed, most_rw) in [
        ("G0", &[Edge::Ww][..], 0),
        ("G1c", &[Edge::Ww, Edge::Wr][..], 0),
        ("G-single", &[Edge::Ww, Edge::Wr, Edge::Rw][..], 1),
        ("G2-item", &[Edge::Ww, Edge::Wr, Edge::Rw][..], usize::MAX),
    ] {
        found.extend(cycles(&without_time, kind, allowed, most_rw, history));
    }
    if history.strict {
        let all = [Edge::Ww, Edge::Wr, Edge::Rw, Edge::Rt];
        found.extend(cycles(&graph.edges, "rt-cycle", &all, usize::MAX, history));
    }
    found
}

/// Something that may have been committed is, if anybody saw it.
fn is_visible(transaction: &Transaction, versions: &HashMap<i64, Vec<i64>>) -> bool {
    transaction
        .operations
        .iter()
        .filter_map(Operation::written)
        .any(|(key, value)| versions.get(&key).is_some_and(|order| order.contains(&value)))
}

/// The versions of each key, oldest first.
fn versions(history: &History, found: &mut Vec<Anomaly>) -> HashMap<i64, Vec<i64>> {
    let mut orders: HashMap<i64, Vec<i64>> = history.last.iter().cloned().collect();
    if history.lists {
        for transaction in history.transactions.iter().filter(|t| t.committed()) {
            for operation in &transaction.operations {
                let Operation::List { key, values } = operation else { continue };
                let order = orders.entry(*key).or_default();
                // What comes behind the newest list anybody saw was never committed, or lost.
                if !order.starts_with(values) {
                    let text = format!("key {key}: {values:?} is no beginning of {order:?}");
                    found.push(anomaly("order", vec![text, format!("{transaction:?}")]));
                }
            }
        }
        return orders;
    }
    // Registers: every write tells what it replaced, so that the way back from the last value is the order. (What
    // nobody built on and is not there in the end was not committed, or is lost.)
    let mut before: HashMap<(i64, i64), i64> = HashMap::new();
    for operation in history.transactions.iter().flat_map(|transaction| &transaction.operations) {
        if let Operation::Write { key, value, before: Some(replaced) } = operation {
            before.insert((*key, *value), *replaced);
        }
    }
    for (key, order) in &mut orders {
        let mut at = order.pop().unwrap_or(0);
        while at != 0 {
            order.push(at);
            match before.get(&(*key, at)) {
                Some(replaced) => at = *replaced,
                None => {
                    found.push(anomaly(
                        "order",
                        vec![format!("nobody knows what {at} of key {key} replaced")],
                    ));
                    break;
                }
            }
        }
        order.reverse();
    }
    orders
}

/// What a transaction must see by its own doing, at any level: its own writes.
fn internal(transaction: &Transaction) -> Option<Anomaly> {
    let mut own: HashMap<i64, i64> = HashMap::new();
    for operation in &transaction.operations {
        if let Some((key, Some(value))) = operation.saw()
            && let Some(mine) = own.get(&key)
            && *mine != value
        {
            let text = format!("key {key} was {value} behind the own {mine}: {transaction:?}");
            return Some(anomaly("internal", vec![text]));
        }
        if let Some((key, value)) = operation.written() {
            own.insert(key, value);
        }
    }
    None
}

/// Edges from each transaction to those that began after it was acknowledged; only to the next ones, the rest follows.
fn real_time(transactions: &[Transaction], graph: &mut Graph) {
    let mut by_begin: Vec<usize> = (0..transactions.len()).filter(|n| transactions[*n].committed()).collect();
    by_begin.sort_by_key(|n| transactions[*n].begun);
    // For each, those that begin after it ends and before anybody else who begins then has ended.
    for (number, transaction) in transactions.iter().enumerate().filter(|(_, t)| t.committed()) {
        let first = by_begin.partition_point(|n| transactions[*n].begun <= transaction.ended);
        let mut horizon = None;
        for next in &by_begin[first..] {
            let other = &transactions[*next];
            if horizon.is_some_and(|end| other.begun > end) {
                break;
            }
            horizon = Some(horizon.map_or(other.ended, |end| other.ended.min(end)));
            graph.edges[number].push((*next, Edge::Rt, 0));
        }
    }
}

/// One cycle of each strongly connected part, of allowed edges and with at most that many rw (at least one for the
/// kinds that need it).
fn cycles(
    edges: &[Vec<(usize, Edge, i64)>],
    kind: &'static str,
    allowed: &[Edge],
    most_rw: usize,
    history: &History,
) -> Vec<Anomaly> {
    let needs_rw = most_rw > 0 && kind != "rt-cycle";
    let part = components(edges, allowed);
    let mut found = Vec::new();
    let mut done: BTreeSet<usize> = BTreeSet::new();
    for (from, list) in edges.iter().enumerate() {
        for (to, edge, key) in
            list.iter().filter(|(to, edge, _)| part[from] == part[*to] && allowed.contains(edge))
        {
            if done.contains(&part[from]) || (needs_rw && *edge != Edge::Rw) {
                continue;
            }
            // Back from `to`, by edges that are left: a cycle with this edge.
            let rest: Vec<Edge> =
                allowed.iter().copied().filter(|e| !(most_rw == 1 && *e == Edge::Rw)).collect();
            let Some(path) = path(edges, &part, *to, from, &rest) else { continue };
            let rw = 1 + path.iter().filter(|(.., edge, _)| *edge == Edge::Rw).count();
            if kind == "G2-item" && rw < 2 {
                continue;
            }
            done.insert(part[from]);
            let mut what = vec![format!("{from} -{edge:?}({key})-> {to}")];
            what.extend(path.iter().map(|(a, b, edge, key)| format!("{a} -{edge:?}({key})-> {b}")));
            let members: BTreeSet<usize> =
                [from, *to].into_iter().chain(path.iter().map(|(a, ..)| *a)).collect();
            what.extend(members.iter().map(|n| format!("{n}: {:?}", history.transactions[*n])));
            found.push(anomaly(kind, what));
        }
    }
    found
}

/// The shortest way inside one part.
fn path(
    edges: &[Vec<(usize, Edge, i64)>],
    part: &[usize],
    from: usize,
    to: usize,
    allowed: &[Edge],
) -> Option<Vec<(usize, usize, Edge, i64)>> {
    let mut came: HashMap<usize, (usize, Edge, i64)> = HashMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(node) = queue.pop_front() {
        if node == to {
            let mut way = Vec::new();
            let mut at = to;
            while at != from {
                let (before, edge, key) = came[&at];
                way.push((before, at, edge, key));
                at = before;
            }
            way.reverse();
            return Some(way);
        }
        for (next, edge, key) in &edges[node] {
            if part[*next] == part[from]
                && allowed.contains(edge)
                && *next != from
                && !came.contains_key(next)
            {
                came.insert(*next, (node, *edge, *key));
                queue.push_back(*next);
            }
        }
    }
    None
}

/// Strongly connected parts (Tarjan), without recursion; each its own number.
fn components(edges: &[Vec<(usize, Edge, i64)>], allowed: &[Edge]) -> Vec<usize> {
    const NONE: usize = usize::MAX;
    let count = edges.len();
    let (mut index, mut low, mut part) = (vec![NONE; count], vec![NONE; count], vec![NONE; count]);
    let (mut next, mut parts, mut stack) = (0, 0, Vec::new());
    for root in 0..count {
        // Nodes being visited, with the edge to look at next.
        let mut work = if index[root] == NONE { vec![(root, 0)] } else { Vec::new() };
        while let Some((node, at)) = work.last_mut() {
            let node = *node;
            if index[node] == NONE {
                (index[node], low[node]) = (next, next);
                next += 1;
                stack.push(node);
            }
            if let Some((to, edge, _)) = edges[node].get(*at) {
                *at += 1;
                if !allowed.contains(edge) || part[*to] != NONE {
                    continue;
                }
                if index[*to] == NONE {
                    work.push((*to, 0));
                } else {
                    low[node] = low[node].min(index[*to]);
                }
                continue;
            }
            work.pop();
            if let Some((parent, _)) = work.last() {
                low[*parent] = low[*parent].min(low[node]);
            }
            if low[node] == index[node] {
                while let Some(member) = stack.pop() {
                    part[member] = parts;
                    if member == node {
                        break;
                    }
                }
                parts += 1;
            }
        }
    }
    part
}

#[test]
fn cycles_are_found_and_named() {
    // A chain without a cycle, a pair that wrote over each other, a write skew.
    let edges = vec![
        vec![(1, Edge::Ww, 1)],
        vec![(2, Edge::Wr, 1), (3, Edge::Ww, 2)],
        vec![],
        vec![(1, Edge::Ww, 3)],
        vec![(5, Edge::Rw, 4)],
        vec![(4, Edge::Rw, 5)],
    ];
    let part = components(&edges, &[Edge::Ww, Edge::Wr, Edge::Rw]);
    assert_eq!(part[1], part[3]);
    assert_eq!(part[4], part[5]);
    assert!(part[0] != part[1] && part[2] != part[1] && part[4] != part[1]);
}

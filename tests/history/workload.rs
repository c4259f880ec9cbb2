//! Sessions that work at random over the wire, and what they did and saw.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use crate::client::{Client, Failure, Login};
use crate::server::Server;

/// Sessions at once.
const PROCESSES: u64 = 6;
/// Keys in use at a time: few, so that transactions meet.
const KEYS: i64 = 5;
/// Writes until the next keys come into use: lists stay short.
const WRITES: i64 = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Lists that values are appended to: reading one shows all its versions.
    Append,
    /// Single values; a write gives back what it replaced.
    Register,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

impl Level {
    fn sql(self) -> &'static str {
        match self {
            Level::ReadCommitted => "READ COMMITTED",
            Level::RepeatableRead => "REPEATABLE READ",
            Level::Serializable => "SERIALIZABLE",
        }
    }
}

#[derive(Clone, Debug)]
pub enum Operation {
    List {
        key: i64,
        values: Vec<i64>,
    },
    Append {
        key: i64,
        value: i64,
    },
    Read {
        key: i64,
        value: i64,
    },
    /// `before`: what it replaced, once that is known.
    Write {
        key: i64,
        value: i64,
        before: Option<i64>,
    },
}

impl Operation {
    pub fn written(&self) -> Option<(i64, i64)> {
        match self {
            Operation::Append { key, value } | Operation::Write { key, value, .. } => Some((*key, *value)),
            Operation::List { .. } | Operation::Read { .. } => None,
        }
    }

    /// The version it saw: its value, 0 for the first. `Some((_, None))`: not known.
    pub fn saw(&self) -> Option<(i64, Option<i64>)> {
        match self {
            Operation::List { key, values } => Some((*key, Some(values.last().copied().unwrap_or(0)))),
            Operation::Read { key, value } => Some((*key, Some(*value))),
            Operation::Write { key, before, .. } => Some((*key, *before)),
            Operation::Append { .. } => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Committed,
    Failed,
    /// The connection broke while it was being committed.
    Unknown,
}

#[derive(Clone, Debug)]
pub struct Transaction {
    pub begun: Duration,
    pub ended: Duration,
    end: End,
    pub operations: Vec<Operation>,
}

impl Transaction {
    pub fn committed(&self) -> bool {
        self.end == End::Committed
    }

    pub fn failed(&self) -> bool {
        self.end == End::Failed
    }

    pub fn unknown(&self) -> bool {
        self.end == End::Unknown
    }
}

pub struct History {
    pub transactions: Vec<Transaction>,
    /// What every key holds in the end: its list, or its one value.
    pub last: Vec<(i64, Vec<i64>)>,
    pub lists: bool,
    /// Who begins after another was acknowledged comes behind it.
    pub strict: bool,
}

/// A small generator of our own: the same choices for the same seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

/// Runs the workload for that long; with `kill` the server dies three times meanwhile.
pub fn record(
    server: &mut Server,
    kind: Kind,
    level: Level,
    seed: u64,
    length: Duration,
    kill: bool,
) -> History {
    let mut client = server.connect();
    // Every other list is there from the start; the rest comes with its first value.
    client.run("CREATE TABLE lists (id int PRIMARY KEY, v text NOT NULL)");
    client.run("INSERT INTO lists SELECT g, '' FROM generate_series(0, 4000, 2) g");
    client.run("CREATE TABLE registers (id int PRIMARY KEY, v int NOT NULL, before int)");
    client.run("INSERT INTO registers SELECT g, 0 FROM generate_series(0, 4000) g");
    drop(client);
    let (next, stop) = (AtomicI64::new(1), AtomicBool::new(false));
    let start = Instant::now();
    let mut transactions = Vec::new();
    let login = server.login();
    std::thread::scope(|scope| {
        let processes: Vec<_> = (0..PROCESSES)
            .map(|number| {
                let (login, next, stop) = (&login, &next, &stop);
                scope
                    .spawn(move || process(login, kind, level, Random::new(seed + number), start, next, stop))
            })
            .collect();
        let pieces = if kill { 4 } else { 1 };
        for piece in 0..pieces {
            std::thread::sleep(length / pieces);
            if piece + 1 < pieces {
                server.kill();
                server.launch();
            }
        }
        stop.store(true, Ordering::Relaxed);
        for process in processes {
            transactions.extend(process.join().expect("a process"));
        }
    });
    let mut client = server.connect();
    let lists = kind == Kind::Append;
    let sql = if lists { "SELECT id, v FROM lists" } else { "SELECT id, v FROM registers" };
    let answer = client.run(sql);
    let last = answer.rows.iter().map(|row| {
        let text = |n: usize| row[n].as_deref().expect("a value");
        (text(0).parse().expect("a key"), numbers(text(1)))
    });
    let last = last.filter(|(_, values): &(i64, Vec<i64>)| lists || values != &[0]).collect();
    History { transactions, last, lists, strict: level == Level::Serializable }
}

fn numbers(text: &str) -> Vec<i64> {
    text.split(',').filter(|part| !part.is_empty()).map(|part| part.parse().expect("a number")).collect()
}

fn process(
    login: &Login,
    kind: Kind,
    level: Level,
    mut random: Random,
    start: Instant,
    next: &AtomicI64,
    stop: &AtomicBool,
) -> Vec<Transaction> {
    let mut done = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut client) = login.try_connect() else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        // Some sessions read by the vectorised executor, some never by an index.
        const MANNERS: [&str; 3] =
            ["RESET startdb.executor", "SET startdb.executor = vector", "SET enable_indexscan = off"];
        if client.simple(MANNERS[random.below(3) as usize]).is_err() {
            continue;
        }
        let mut alive = true;
        while alive && !stop.load(Ordering::Relaxed) {
            let begun = start.elapsed();
            let mut operations = Vec::new();
            let end = transaction(&mut client, kind, level, &mut random, next, &mut operations);
            alive = !matches!(end, Err(Failure::Broken(_)));
            let end = match end {
                Ok(end) => end,
                Err(Failure::Broken(_)) => End::Failed,
                Err(failure) => {
                    let state = failure.state().to_owned();
                    assert!(["40001", "40P01"].contains(&&*state), "{failure}");
                    alive = client.simple("ROLLBACK").is_ok();
                    End::Failed
                }
            };
            done.push(Transaction { begun, ended: start.elapsed(), end, operations });
        }
    }
    done
}

/// One transaction; an error of a statement means that it was rolled back.
fn transaction(
    client: &mut Client,
    kind: Kind,
    level: Level,
    random: &mut Random,
    next: &AtomicI64,
    operations: &mut Vec<Operation>,
) -> Result<End, Failure> {
    client.simple(&format!("BEGIN ISOLATION LEVEL {}", level.sql()))?;
    let count = 1 + random.below(4);
    let only_reads = random.below(4) == 0;
    for _ in 0..count {
        let value = next.fetch_add(1, Ordering::Relaxed);
        let key = value / WRITES * KEYS + random.below(KEYS as u64) as i64;
        if random.below(8) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let reads = only_reads || random.below(2) == 0;
        match (kind, reads) {
            (Kind::Append, true) => {
                let rows = client.simple(&format!("SELECT v FROM lists WHERE id = {key}"))?.remove(0).rows;
                let text = rows.first().and_then(|row| row[0].clone()).unwrap_or_default();
                operations.push(Operation::List { key, values: numbers(&text) });
            }
            (Kind::Append, false) => {
                operations.push(Operation::Append { key, value });
                let plain = format!("UPDATE lists SET v = v || ',{value}' WHERE id = {key}");
                let merging = format!(
                    "INSERT INTO lists VALUES ({key}, ',{value}') \
                     ON CONFLICT (id) DO UPDATE SET v = lists.v || excluded.v"
                );
                let sql = if key % 2 == 0 && random.below(2) == 0 { plain } else { merging };
                let tag = client.simple(&sql)?.remove(0).tag;
                assert!(tag == "UPDATE 1" || tag == "INSERT 0 1", "{sql}: {tag}");
            }
            (Kind::Register, true) => {
                let rows =
                    client.simple(&format!("SELECT v FROM registers WHERE id = {key}"))?.remove(0).rows;
                operations.push(Operation::Read { key, value: number(&rows[0][0]) });
            }
            (Kind::Register, false) => {
                operations.push(Operation::Write { key, value, before: None });
                let place = operations.len() - 1;
                let sql =
                    format!("UPDATE registers SET before = v, v = {value} WHERE id = {key} RETURNING before");
                let rows = client.simple(&sql)?.remove(0).rows;
                let before = Some(number(&rows[0][0]));
                operations[place] = Operation::Write { key, value, before };
            }
        }
    }
    if random.below(20) == 0 {
        client.simple("ROLLBACK")?;
        return Ok(End::Failed);
    }
    match client.simple("COMMIT") {
        Ok(_) => Ok(End::Committed),
        Err(Failure::Broken(_)) => Ok(End::Unknown),
        Err(failure) => Err(failure),
    }
}

fn number(field: &Option<String>) -> i64 {
    field.as_ref().and_then(|text| text.parse().ok()).expect("a number")
}

/// What a transaction of a predicate history does.
#[derive(Clone, Debug)]
enum Step {
    Sum {
        low: i64,
        high: i64,
    },
    Insert {
        id: i64,
        k: i64,
        v: i64,
    },
    Add {
        low: i64,
        high: i64,
        by: i64,
    },
    Move {
        low: i64,
        high: i64,
        to: i64,
    },
    Delete {
        low: i64,
        high: i64,
    },
    /// Inserts what it counts: depends on a whole predicate.
    InsertCount {
        id: i64,
        low: i64,
        high: i64,
        k: i64,
    },
}

impl Step {
    fn choose(random: &mut Random, id: i64) -> Step {
        let low = random.below(8) as i64;
        let high = low + random.below(4) as i64;
        let k = random.below(10) as i64;
        match random.below(8) {
            0..=2 => Step::Sum { low, high },
            3 => Step::Insert { id, k, v: 1 + random.below(9) as i64 },
            4 => Step::Add { low, high, by: 1 + random.below(9) as i64 },
            5 => Step::Move { low, high, to: k },
            6 => Step::Delete { low, high },
            _ => Step::InsertCount { id, low, high, k },
        }
    }

    fn sql(&self) -> String {
        match self {
            Step::Sum { low, high } => {
                format!("SELECT count(*), coalesce(sum(v), 0) FROM p WHERE k >= {low} AND k <= {high}")
            }
            Step::Insert { id, k, v } => format!("INSERT INTO p VALUES ({id}, {k}, {v})"),
            Step::Add { low, high, by } => {
                format!("UPDATE p SET v = v + {by} WHERE k BETWEEN {low} AND {high}")
            }
            Step::Move { low, high, to } => format!("UPDATE p SET k = {to} WHERE k BETWEEN {low} AND {high}"),
            Step::Delete { low, high } => format!("DELETE FROM p WHERE k BETWEEN {low} AND {high}"),
            Step::InsertCount { id, low, high, k } => {
                format!("INSERT INTO p SELECT {id}, {k}, count(*) FROM p WHERE k BETWEEN {low} AND {high}")
            }
        }
    }

    /// Does it to a model of the table, (id, k, v) sorted by id; gives what the statement would have said.
    fn apply(&self, rows: &mut Vec<(i64, i64, i64)>) -> String {
        let within = |row: &(i64, i64, i64), low: &i64, high: &i64| row.1 >= *low && row.1 <= *high;
        match self {
            Step::Sum { low, high } => {
                let found: Vec<_> = rows.iter().filter(|row| within(row, low, high)).collect();
                format!("{} {}", found.len(), found.iter().map(|row| row.2).sum::<i64>())
            }
            Step::Insert { id, k, v } => {
                rows.push((*id, *k, *v));
                String::from("INSERT 0 1")
            }
            Step::Add { low, high, by } => {
                let found = rows.iter_mut().filter(|row| within(row, low, high)).map(|row| row.2 += by);
                format!("UPDATE {}", found.count())
            }
            Step::Move { low, high, to } => {
                let found = rows.iter_mut().filter(|row| within(row, low, high)).map(|row| row.1 = *to);
                format!("UPDATE {}", found.count())
            }
            Step::Delete { low, high } => {
                let before = rows.len();
                rows.retain(|row| !within(row, low, high));
                format!("DELETE {}", before - rows.len())
            }
            Step::InsertCount { id, low, high, k } => {
                let count = rows.iter().filter(|row| within(row, low, high)).count();
                rows.push((*id, *k, count as i64));
                String::from("INSERT 0 1")
            }
        }
    }
}

pub struct Outcome {
    pub histories: usize,
    /// Histories that equal no serial order.
    pub found: Vec<String>,
}

/// Transactions that run beside each other in one small history.
const TOGETHER: usize = 3;

/// Small histories of few transactions with predicates, each compared with all its serial orders.
pub fn predicates(server: &Server, level: Level, seed: u64, length: Duration) -> Outcome {
    let mut client = server.connect();
    client.run("DROP TABLE IF EXISTS p");
    client.run("CREATE TABLE p (id int PRIMARY KEY, k int, v int)");
    client.run("CREATE INDEX ON p (k)");
    let mut random = Random::new(seed);
    let mut outcome = Outcome { histories: 0, found: Vec::new() };
    let mut clients: Vec<Client> = (0..TOGETHER).map(|_| server.connect()).collect();
    clients[0].run("SET enable_seqscan = off");
    clients[1].run("SET startdb.executor = vector");
    let begin = Instant::now();
    while begin.elapsed() < length {
        outcome.histories += 1;
        client.run("DELETE FROM p");
        let start: Vec<(i64, i64, i64)> = (0..4).map(|id| (id, random.below(10) as i64, id + 1)).collect();
        for (id, k, v) in &start {
            client.run(&format!("INSERT INTO p VALUES ({id}, {k}, {v})"));
        }
        let plans: Vec<Vec<Step>> = (0..TOGETHER as i64)
            .map(|number| {
                let count = 2 + random.below(2) as i64;
                (0..count).map(|step| Step::choose(&mut random, 10 + number * 10 + step)).collect()
            })
            .collect();
        let barrier = Barrier::new(TOGETHER);
        let results: Mutex<Vec<(usize, Vec<String>)>> = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for (number, (client, plan)) in clients.iter_mut().zip(&plans).enumerate() {
                let (barrier, results) = (&barrier, &results);
                scope.spawn(move || {
                    if let Some(said) = run(client, level, plan, barrier) {
                        results.lock().expect("results").push((number, said));
                    }
                });
            }
        });
        let committed = results.into_inner().expect("results");
        let rows = client.run("SELECT id, k, v FROM p ORDER BY id").rows;
        let last: Vec<(i64, i64, i64)> =
            rows.iter().map(|row| (number(&row[0]), number(&row[1]), number(&row[2]))).collect();
        if !orders(committed.len()).iter().any(|order| fits(order, &committed, &plans, &start, &last)) {
            outcome.found.push(format!("{start:?}\n{plans:#?}\n{committed:#?}\n{last:?}"));
        }
    }
    outcome
}

/// Runs one plan in step with the others; what each statement said, if it was committed.
fn run(client: &mut Client, level: Level, plan: &[Step], barrier: &Barrier) -> Option<Vec<String>> {
    let mut said = Vec::new();
    barrier.wait();
    let mut work = || -> Result<(), Failure> {
        client.simple(&format!("BEGIN ISOLATION LEVEL {}", level.sql()))?;
        for step in plan {
            let answer = client.simple(&step.sql())?.remove(0);
            said.push(match step {
                Step::Sum { .. } => format!("{} {}", number(&answer.rows[0][0]), number(&answer.rows[0][1])),
                _ => answer.tag,
            });
        }
        client.simple("COMMIT").map(|_| ())
    };
    match work() {
        Ok(()) => Some(said),
        Err(failure) => {
            assert!(["40001", "40P01"].contains(&failure.state()), "{failure}");
            client.run("ROLLBACK");
            None
        }
    }
}

fn fits(
    order: &[usize],
    committed: &[(usize, Vec<String>)],
    plans: &[Vec<Step>],
    start: &[(i64, i64, i64)],
    last: &[(i64, i64, i64)],
) -> bool {
    let mut rows = start.to_vec();
    for place in order {
        let (number, said) = &committed[*place];
        for (step, said) in plans[*number].iter().zip(said) {
            if step.apply(&mut rows) != *said {
                return false;
            }
        }
    }
    rows.sort_unstable();
    rows == last
}

/// All orders of the first `count` numbers.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for order in orders(count - 1) {
        for place in 0..count {
            let mut longer = order.clone();
            longer.insert(place, count - 1);
            all.push(longer);
        }
    }
    all
}

//! Every scenario in many orders. `SHUTTLE_ROUNDS=100000` for the long form.

fn rounds() -> usize {
    std::env::var("SHUTTLE_ROUNDS").map_or(2_000, |text| text.parse().expect("a number"))
}

/// Orders at random, and orders with few but adversarial changes of thread.
fn explore(scenario: fn()) {
    shuttle::check_random(scenario, rounds());
    shuttle::check_pct(scenario, rounds(), 3);
}

#[test]
fn exclusive_rows() {
    explore(interleaving::exclusive_rows);
}

#[test]
fn shared_and_exclusive() {
    explore(interleaving::shared_and_exclusive);
}

#[test]
fn covered_rows() {
    explore(interleaving::covered_rows);
}

#[test]
fn abandoned_waits() {
    explore(interleaving::abandoned_waits);
}

#[test]
fn abandoned_in_front() {
    explore(interleaving::abandoned_in_front);
}

#[test]
fn rings() {
    explore(interleaving::rings);
}

#[test]
fn upgrades() {
    explore(interleaving::upgrades);
}

#[test]
fn soft_edges() {
    explore(interleaving::soft_edges);
}

#[test]
fn commits() {
    explore(interleaving::commits);
}

#[test]
fn log() {
    explore(interleaving::log);
}

#[test]
fn closing() {
    explore(interleaving::closing);
}

#[test]
fn write_skew() {
    explore(interleaving::write_skew);
}

#[test]
fn counters() {
    explore(interleaving::counters);
}

#[test]
fn long_and_short() {
    explore(interleaving::long_and_short);
}

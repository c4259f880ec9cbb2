//! pgbench's three loads in three protocols: no statement fails, and afterwards the money adds up.

use std::process::Command;

use crate::client::Client;
use crate::programs::{have, succeed};
use crate::server::Server;

/// The sums that TPC-B keeps equal: each transaction adds the same amount to an account, a teller and a branch, and
/// writes it down.
pub fn assert_balanced(client: &mut Client) {
    let sums: Vec<String> = [
        "abalance) from pgbench_accounts",
        "bbalance) from pgbench_branches",
        "tbalance) from pgbench_tellers",
        "delta) from pgbench_history",
    ]
    .iter()
    .map(|tail| client.value(&format!("select coalesce(sum(x), 0) from (select sum({tail}) s(x)")))
    .collect();
    assert!(sums.iter().all(|sum| sum == &sums[0]), "accounts, branches, tellers, history: {sums:?}");
}

pub fn pgbench(server: &Server, arguments: &[&str]) -> Command {
    let mut command = server.libpq("pgbench");
    command.args(arguments);
    command
}

/// Scale and seconds per run; the real size is `PGBENCH_SCALE=10 PGBENCH_SECONDS=30`.
fn size(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

#[test]
fn pgbench_runs_and_balances() {
    if !have(&["pgbench"]) {
        return;
    }
    let server = Server::start();
    succeed(&mut pgbench(&server, &["-i", "-q", "-s", &size("PGBENCH_SCALE", "1")]));
    let mut client = server.connect();
    let seconds = size("PGBENCH_SECONDS", "2");
    for script in ["tpcb-like", "select-only", "simple-update"] {
        for protocol in ["simple", "extended", "prepared"] {
            let mut run =
                pgbench(&server, &["-n", "-c", "8", "-j", "2", "-T", &seconds, "-M", protocol, "-b", script]);
            let output = run.output().expect("pgbench");
            let text = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{script} {protocol}: {text}");
            assert!(!text.contains("ERROR") && !text.contains("aborted"), "{script} {protocol}: {text}");
            assert!(
                text.contains("number of failed transactions: 0 (0.000%)"),
                "{script} {protocol}: {text}"
            );
            if script == "tpcb-like" {
                assert_balanced(&mut client);
            }
        }
    }
    // simple-update leaves out branches and tellers; accounts and history still agree.
    let accounts = client.value("SELECT sum(abalance) FROM pgbench_accounts");
    assert_eq!(accounts, client.value("SELECT sum(delta) FROM pgbench_history"));
}

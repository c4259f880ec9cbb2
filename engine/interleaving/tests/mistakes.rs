//! The scenarios can fail: with a mistake planted, one of them does. One test, since a mistake is made in the whole process.

use std::panic::catch_unwind;

use interleaving::{Bug, plant};

/// Whether some order of threads shows the mistake.
fn shows(scenario: fn()) -> bool {
    catch_unwind(|| shuttle::check_random(scenario, 3_000)).is_err()
        || catch_unwind(|| shuttle::check_pct(scenario, 3_000, 3)).is_err()
}

#[test]
fn planted_mistakes_are_found() {
    let mistakes: [(Bug, fn()); 10] = [
        (Bug::RegisterLate, interleaving::long_and_short),
        (Bug::ForgetRunning, interleaving::long_and_short),
        (Bug::ValidateOutside, interleaving::write_skew),
        (Bug::PassUnfinished, interleaving::commits),
        (Bug::ForgetQueue, interleaving::exclusive_rows),
        (Bug::CoverBlindly, interleaving::covered_rows),
        (Bug::AcknowledgeBeforeSync, interleaving::log),
        (Bug::SkipSync, interleaving::log),
        (Bug::NoDirectorySync, interleaving::log),
        (Bug::ForgetDurable, interleaving::log),
    ];
    for (bug, scenario) in mistakes {
        assert!(!shows(scenario), "fails without a mistake, too: {bug:?}");
        plant(Some(bug));
        // Some take a rare order.
        let found = (0..30).any(|_| shows(scenario));
        plant(None);
        assert!(found, "{bug:?} was not found");
    }
}

//! `startdb`: arguments, configuration, start, wait for a signal, stop.

use std::process::ExitCode;

use startdb::{Config, Server, telemetry};

/// Many small allocations from many threads are what a database does all day.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let config = match Config::from_environment() {
        Ok(config) => config,
        Err(stop) => return stop.exit(),
    };
    telemetry::start(&config);
    match Server::run_until_signal(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let fields = error.fields();
            eprintln!("startdb: {}", fields.message);
            for (label, text) in [("detail", &fields.detail), ("hint", &fields.hint)] {
                if let Some(text) = text {
                    eprintln!("  {label}: {text}");
                }
            }
            ExitCode::FAILURE
        }
    }
}

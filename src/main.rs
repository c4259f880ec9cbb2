//! `startdb`: what the command line says is done in [`startdb::cli`].

use std::process::ExitCode;

/// Many small allocations from many threads are what a database does all day.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    startdb::cli::run()
}

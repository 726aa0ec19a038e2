//! The `penstock` binary.

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use penstock::{cli::Cli, telemetry};

// Chosen by measurement: docs/performance.md has the comparison.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(all(feature = "mimalloc", not(feature = "jemalloc")))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let ended = Cli::parse().run();
    telemetry::logs::flush();
    match ended {
        Ok(code) => code,
        Err(error) => {
            // If the terminal is gone this fails, and there is no other place to report the error.
            let _ = writeln!(std::io::stderr(), "penstock: {error:#}");
            ExitCode::FAILURE
        }
    }
}

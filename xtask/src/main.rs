//! The project's own tools: `cargo xtask <command>`.
//!
//! They are Rust rather than shell so that they are typed, linted and tested like the product.
#![forbid(unsafe_code)]

mod agents;
mod bench;
mod check;
mod conformance;
mod dist;
mod elf;
mod fuzz;
mod generate;
mod hour;
mod join;
mod load;
mod out;
mod process;
mod properties;
mod python;
mod stage;
mod test;
mod tidy;
mod user;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Checks, generated files, tests, benchmarks and releases"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Checks a change while it is being made: format, lints, rules, tests beside the code.
    Check(check::Args),
    /// Checks the hard rules of the code base and names each place that breaks one.
    Tidy,
    /// Writes the generated files of `docs/reference`, or checks that they are current.
    Generate(generate::Args),
    /// Installs what the tests need, then runs all of them, as root also as an ordinary user.
    ///
    /// The tests of crates that only compute run once, because no user makes a difference to them. Two tests
    /// run at a time for each processor, because most of them wait.
    Test(test::Args),
    /// Tries every reader of bytes from outside with changed inputs, for minutes.
    Fuzz(fuzz::Args),
    /// Tries property tests and fuzz targets with cases that no run had before.
    Properties(properties::Args),
    /// Builds the static release binary and proves that it runs in an empty root.
    Dist,
    /// Measures start, work inside, memory and decisions beside bare and other sandboxes.
    Bench(bench::Args),
    /// Makes the exchanges of the network rows of `bench`, bare or in a session.
    #[command(hide = true)]
    BenchClient(bench::client::Args),
    /// Measures a server with thousands of machines, and kills it at random times.
    Load(load::Args),
    /// Counts the questions of two scripted hours, as root, and writes docs/questions.md.
    Hour(hour::Args),
    /// Compares what records say of real agents with a labelled script, and writes docs/join.md.
    Join(join::Args),
    /// Runs real programs bare, inside and in other sandboxes, and writes the table.
    Conformance(conformance::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Check(args) => check::run(&args),
        Command::Tidy => tidy::run(),
        Command::Generate(args) => generate::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Properties(args) => properties::run(&args),
        Command::Dist => dist::run().map(|_| Outcome::Passed),
        Command::Bench(args) => bench::run(&args),
        Command::BenchClient(args) => bench::client::run(&args).map(|()| Outcome::Passed),
        Command::Load(args) => load::run(&args),
        Command::Hour(args) => hour::run(&args),
        Command::Join(args) => join::run(&args),
        Command::Conformance(args) => conformance::run(&args),
    };
    match done {
        Ok(Outcome::Passed) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::FAILURE,
        Err(error) => {
            out::note(format_args!("xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The result of a command that could do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
}

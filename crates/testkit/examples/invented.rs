//! Writes the record of a session that nobody ran, to measure how it is shown: `invented STATE TURNS`,
//! with the state directory to write it into. Prints the id of the session. Run by `cargo xtask
//! bench`.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a broken fixture must end the program with its reason; the id is its output"
)]

use std::path::PathBuf;

use stockade_testkit::invented;

fn main() {
    let mut words = std::env::args_os().skip(1);
    let state = PathBuf::from(words.next().expect("a state directory"));
    let turns = words.next().expect("a number of turns");
    let turns = turns.to_str().and_then(|turns| turns.parse().ok());
    let turns = turns.expect("a number of turns");
    println!("{}", invented::record(&state, turns, &"baskets".into()));
}

//! Load of a server: `load PROGRAM SCENARIO… [--nodes N] [--rate R] [--seconds S] [--rounds N]`, with the
//! program to try. Prints one line of JSON for each scenario. Run by `cargo xtask load`.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a broken fixture must end the program with its reason; the figures are its output"
)]

mod figures;
mod killing;
mod peer;
mod scenarios;

use std::path::PathBuf;

use figures::Report;
use scenarios::{Ground, Options};

/// Names of scenarios, in the order in which `all` runs them.
const SCENARIOS: [&str; 8] = [
    "storm", "ship", "peer", "ask", "tail", "roll", "flood", "kill",
];

fn main() {
    let mut words = std::env::args().skip(1);
    let program = PathBuf::from(words.next().expect("a program"));
    let mut options = Options::default();
    let mut names = Vec::new();
    while let Some(word) = words.next() {
        let mut number = || {
            let number = words.next().and_then(|word| word.parse().ok());
            number.unwrap_or_else(|| panic!("a number behind {word}"))
        };
        match word.as_str() {
            "--nodes" => options.nodes = number(),
            "--rate" => options.rate = number(),
            "--seconds" => options.seconds = number(),
            "--rounds" => options.rounds = number(),
            name => names.push(name.to_owned()),
        }
    }
    if names == ["all"] {
        names = SCENARIOS.map(str::to_owned).to_vec();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let needs_ground = names.iter().any(|name| name != "kill" && name != "peer");
    let mut ground = needs_ground.then(|| runtime.block_on(Ground::make(&program, &options)));
    for name in &names {
        eprintln!("load: {name}");
        let report = match (name.as_str(), ground.as_mut()) {
            ("kill", _) => killing::kill(&program, &options),
            ("peer", _) => {
                let Some(report) = runtime.block_on(peer::peer(&options)) else {
                    eprintln!("load: not done: peer (mosquitto is not installed)");
                    continue;
                };
                report
            }
            ("storm", Some(ground)) => runtime.block_on(ground.storm()),
            ("ship", Some(ground)) => runtime.block_on(ground.ship(&options)),
            ("ask", Some(ground)) => runtime.block_on(ground.ask(&options)),
            ("tail", Some(ground)) => runtime.block_on(ground.tail(&options)),
            ("roll", Some(ground)) => runtime.block_on(ground.roll()),
            ("flood", Some(ground)) => runtime.block_on(ground.flood()),
            _ => panic!("there is no scenario `{name}`; expected one of {SCENARIOS:?}"),
        };
        println!("{}", report.json());
    }
    drop(ground);
}

impl Report {
    fn json(&self) -> String {
        serde_json::to_string(self).expect("JSON")
    }
}

//! Hidden: measurements that need the internals of the program.

use std::{fmt::Write, hint::black_box, time::Instant};

use anyhow::Context;
use serde_json::json;
use stockade_policy::{Approvals, HostSets, NetRequest, Origin, Request, Source};
use stockade_types::{Host, Port, Subject};

use crate::{exit::Exit, output::Output};

/// Decisions that are timed; enough for a stable median, short enough for a benchmark run.
const DECISIONS: usize = 4_000;

/// Arguments of `stockade __bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Time decisions with this many rules
    Decide {
        /// Rules
        rules: usize,
        /// Rules in Cedar beside them, about every kind of request
        #[arg(default_value_t = 0)]
        cedar: usize,
    },
}

/// Prints `{"rules","cedar","load_ms","p50_ns","p99_ns"}`.
pub(crate) fn run(args: &Args, out: &mut Output) -> anyhow::Result<Exit> {
    let What::Decide { rules, cedar } = args.what;
    let mut text = String::from("schema = 1\nextends = [\"builtin:coding-agent\"]\n");
    for index in 0..rules {
        let what = if index % 3 == 2 { "deny" } else { "allow" };
        write!(
            text,
            "[[{what}]]\nid = \"rule-{index}\"\nwhat = \"net\"\nhosts = [\"h{index}.lab.test\"]\nreason = \"measured\"\n"
        )?;
    }
    for index in 0..cedar {
        let (action, condition) = match index % 3 {
            0 => (
                "action in Action::\"net\"",
                format!("context.host like \"*.c{index}.test\" && context.agent == \"codex\""),
            ),
            1 => (
                "action == Action::\"exec\"",
                format!(
                    "context.names.contains(\"c{index}\") && context.subcommands.contains(\"push\")"
                ),
            ),
            _ => (
                "action == Action::\"file\"",
                format!("context.path like \"c{index}/*\" && context.access != \"remove\""),
            ),
        };
        writeln!(
            text,
            "[[cedar]]\nid = \"cedar-{index}\"\ntext = '''forbid (principal, {action}, resource) when {{ {condition} }};'''"
        )?;
    }
    let source = Source {
        origin: Origin::User,
        name: "bench.toml".to_owned(),
        text,
    };
    let started = Instant::now();
    let policy = stockade_policy::load(&[source], &HostSets::default())?;
    let load_ms = started.elapsed().as_secs_f64() * 1e3;
    let port = Port::new(443).context("443 is a port")?;
    let mut times = Vec::with_capacity(DECISIONS);
    for index in 0..DECISIONS {
        // Every third name has no rule of its own, so the general question applies.
        let name = format!(
            "h{}.lab.test",
            index.wrapping_mul(7919) % (rules + rules / 2 + 1)
        );
        let host: Host = name.parse()?;
        let request = Request::Net(NetRequest {
            host,
            port,
            subject: Subject::default(),
        });
        let started = Instant::now();
        black_box(policy.decide(black_box(&request), &Approvals::none()));
        times.push(started.elapsed().as_nanos());
    }
    times.sort_unstable();
    let at = |share: usize| {
        times
            .get(times.len() * share / 100)
            .copied()
            .unwrap_or_default()
    };
    out.json(&json!({ "rules": rules, "cedar": cedar, "load_ms": load_ms, "p50_ns": at(50), "p99_ns": at(99) }))?;
    Ok(Exit::Yes)
}

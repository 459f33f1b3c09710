//! A server of an organisation as a process, and many machines in this one: each has a key, a certificate, a
//! connection over mutual TLS and HTTP/2, and journals that the real writer signs. Their requests, and their
//! checks of what the server says, are those of the real agent.

mod browser;
mod figures;
mod kill;
mod machine;
mod questions;
mod shipping;
mod site;
mod story;

pub use browser::{Browser, Event};
pub use figures::{Times, Usage};
pub use kill::{Kills, kill_at_random};
pub use machine::{Fleet, Machine, Seen};
pub use questions::question;
pub use shipping::{Meter, Plan, backlog, is_same, own_usage, ship, ship_all, ship_ended};
pub use site::{PASSWORD, Site};

/// Runs what machines and people do, to its end.
pub fn run<F: Future>(work: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(work)
}

//! The network as people work with it: messages for programs, the record and the owner, and the
//! connections in and out that policy opens.
#![expect(
    clippy::expect_used,
    reason = "a broken fixture must end the test with its reason"
)]

mod asking;
mod clients;
mod content;
mod early;
mod frames;
mod hidden;
mod http2;
mod inside_proxy;
mod inside_proxy_tls;
mod inspection;
mod meaning;
mod models;
mod pins;
mod plans;
mod ports;
mod proxies;
mod rates;
mod reach;
mod servers;
mod spool;
mod ssh;
mod ssh_keys;
mod volume;

use std::{net::TcpListener, path::PathBuf};

use stockade_testkit::{TestEnv, env::User};

/// Runs `body` in a fresh environment for every user that the tests can become.
fn for_each_user(body: impl Fn(&TestEnv)) {
    for user in User::all() {
        body(&TestEnv::of(user.as_deref()));
    }
}

/// Returns a loopback port without a listener.
fn closed_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Makes a policy that allows hosts of this machine's loopback on `ports`, as arguments of a run.
fn allowed(env: &TestEnv, hosts: &[&str], ports: &[u16]) -> [String; 2] {
    let fixed: Vec<String> = hosts
        .iter()
        .filter(|host| !host.starts_with("missing"))
        .map(|host| format!("\"{host}\" = \"127.0.0.1\""))
        .collect();
    let hosts: Vec<String> = hosts.iter().map(|host| format!("\"{host}\"")).collect();
    let text = format!(
        "schema = 1\n[network.hosts]\n{}\n[[allow]]\nid = \"lab\"\nwhat = \"net\"\nhosts = [{}]\n\
         ports = {ports:?}\nprivate = true\nreason = \"lab\"\n",
        fixed.join("\n"),
        hosts.join(", ")
    );
    let path = env.write("policy.toml", &text);
    ["--policy".to_owned(), path.display().to_string()]
}

/// Makes a policy that asks about `NAME.test`, which is this machine's loopback, on a port.
fn asked_about(env: &TestEnv, name: &str, port: u16) -> PathBuf {
    let text = format!(
        "schema = 1\n[network.hosts]\n\"{name}.test\" = \"127.0.0.1\"\n[[ask]]\nid = \"{name}\"\n\
         what = \"net\"\nhosts = [\"{name}.test\"]\nports = [{port}]\nprivate = true\n"
    );
    env.write("policy.toml", &text)
}

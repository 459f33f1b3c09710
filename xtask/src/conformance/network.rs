//! The registries on a network of our own: however the machine reaches them, rows find them at
//! public addresses, as people do.
//!
//! The rows run in a network namespace with one neighbour. The neighbour listens at the addresses
//! to which the names of the registries resolve, and its accepted connections continue from the
//! machine's own network. The names come from the installed clients; nothing else can be reached.

use std::{
    env, fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Outcome, process, stage::Stage, user};

/// Addresses that are not private and not routed from here.
const NEIGHBOUR: [u8; 3] = [11, 99, 7];
/// Registries speak TLS.
const PORT: u16 = 443;
/// How long namespaces may take to start.
const START_TRIES: usize = 100;
const START_PAUSE: Duration = Duration::from_millis(20);

/// The hosts of the package registries, according to the installed clients.
pub(super) fn registries(target: &Path) -> Vec<String> {
    let mut npm = Command::new("npm");
    npm.args(["config", "get", "registry"]);
    let mut pip = Command::new("/usr/bin/python3");
    pip.args([
        "-c",
        "from pip._internal.models.index import PyPI as i; print(i.simple_url); print('https://' + i.file_storage_domain)",
    ]);
    let mut yarn = Command::new(target.join("conformance/yarn/bin/yarn"));
    yarn.args(["config", "get", "registry"]);
    let mut hosts: Vec<String> = [npm, pip, yarn]
        .iter_mut()
        .filter_map(|client| process::stdout(client).ok())
        .flat_map(|text| text.lines().filter_map(host_of).collect::<Vec<_>>())
        .chain(cargo_hosts())
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

/// The hosts that Cargo has used: its index is stored by host, and says where packages are.
fn cargo_hosts() -> Vec<String> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| {
        let own = env::var_os("HOME")?;
        Some(PathBuf::from(own).join(".cargo"))
    });
    let Some(index) = home.map(|home| home.join("registry/index")) else {
        return Vec::new();
    };
    let mut hosts = Vec::new();
    for entry in fs::read_dir(index).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        hosts.extend(name.rsplit_once('-').map(|(host, _)| host.to_owned()));
        let text = fs::read_to_string(entry.path().join("config.json")).unwrap_or_default();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let dl = value.get("dl").and_then(serde_json::Value::as_str);
        hosts.extend(dl.and_then(host_of));
    }
    hosts
}

fn host_of(address: &str) -> Option<String> {
    let (_, rest) = address.trim().split_once("://")?;
    let host = rest.split(['/', ':']).next()?;
    (!host.is_empty()).then(|| host.to_owned())
}

/// A process that keeps a namespace; it ends with this value.
struct Holder(Child);

impl Holder {
    /// Starts one with its own namespaces, and waits until it has them.
    fn start() -> Result<Self> {
        let child = Command::new("unshare")
            .args(["--net", "--kill-child", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .context("`unshare` could not be started")?;
        let holder = Self(child);
        let space = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        for _ in 0..START_TRIES {
            if space(&holder.pid()) != space("self") {
                return Ok(holder);
            }
            thread::sleep(START_PAUSE);
        }
        bail!("no network namespace could be made")
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }

    fn ip(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new("nsenter");
        command
            .args(["--net", "--target", &self.pid(), "ip"])
            .args(arguments);
        process::stdout(&mut command).map(drop)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // If these fail, it has already ended.
        _ = self.0.kill().ok();
        _ = self.0.wait().ok();
    }
}

/// Runs this program again, with `arguments`, in a network in which the registries are neighbours.
pub(super) fn again(target: &Path, arguments: &[String]) -> Result<Outcome> {
    let hosts = registries(target);
    let (ours, neighbour) = (Holder::start()?, Holder::start()?);
    let [a, b, c] = NEIGHBOUR;
    neighbour.ip(&[
        "link",
        "add",
        "lab0",
        "type",
        "veth",
        "peer",
        "name",
        "lab1",
        "netns",
        &ours.pid(),
    ])?;
    ours.ip(&["addr", "add", &format!("{a}.{b}.{c}.1/24"), "dev", "lab1"])?;
    ours.ip(&["link", "set", "lab1", "up"])?;
    ours.ip(&["link", "set", "lo", "up"])?;
    neighbour.ip(&["link", "set", "lab0", "up"])?;
    let mut names = vec!["127.0.0.1 localhost".to_owned(), "::1 localhost".to_owned()];
    for (number, host) in (2..=250_u8).zip(&hosts) {
        let address = Ipv4Addr::new(a, b, c, number);
        neighbour.ip(&["addr", "add", &format!("{address}/24"), "dev", "lab0"])?;
        relay(&neighbour, SocketAddr::from((address, PORT)), host.clone())?;
        names.push(format!("{address} {host}"));
    }
    let stage = Stage::new()?;
    let file = stage.path("hosts");
    fs::write(&file, names.join("\n") + "\n").context("the hosts file cannot be written")?;
    let program = env::current_exe().context("this program has no path")?;
    let status = Command::new("nsenter")
        .args([
            "--net",
            "--target",
            &ours.pid(),
            "unshare",
            "--mount",
            "sh",
            "-c",
        ])
        .arg("mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"")
        .arg("sh")
        .arg(&file)
        .arg(program)
        .args(arguments)
        .status()
        .context("`nsenter` could not be started")?;
    Ok(if status.success() {
        Outcome::Passed
    } else {
        Outcome::Failed
    })
}

/// Listens at the neighbour's address and connects from here to the host.
fn relay(neighbour: &Holder, address: SocketAddr, host: String) -> Result<()> {
    let space = fs::File::open(format!("/proc/{}/ns/net", neighbour.pid()))
        .context("a network namespace cannot be opened")?;
    let (sender, receiver) = mpsc::channel();
    // A socket stays in the namespace in which it was made, whichever thread uses it.
    thread::spawn(move || {
        let listener = move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(io::Error::from)
            .and_then(|()| TcpListener::bind(address));
        // The receiver waits until this arrives.
        _ = sender.send(listener).ok();
    });
    let listener = receiver
        .recv()
        .context("a thread ended early")?
        .with_context(|| format!("nobody can listen on `{address}`"))?;
    thread::spawn(move || {
        for inside in listener.incoming().flatten() {
            if let Ok(outside) = TcpStream::connect((host.as_str(), PORT)) {
                join(inside, outside);
            }
        }
    });
    Ok(())
}

/// Forwards bytes in both directions until each has ended.
fn join(inside: TcpStream, outside: TcpStream) {
    let (Ok(to_inside), Ok(to_outside)) = (inside.try_clone(), outside.try_clone()) else {
        return;
    };
    for (from, to) in [(inside, to_outside), (outside, to_inside)] {
        thread::spawn(move || pass(from, to));
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count) = from.read(&mut buffer) {
        let part = buffer.get(..count).unwrap_or_default();
        if part.is_empty() || to.write_all(part).is_err() {
            break;
        }
    }
    // The other end may be gone.
    _ = to.shutdown(Shutdown::Write).ok();
}

/// Whether such a network can be made here.
pub(super) fn can_be_made() -> bool {
    let programs = ["unshare", "nsenter", "ip", "mount"];
    user::is_root()
        && programs
            .iter()
            .all(|program| process::find(program).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_from_addresses() {
        assert_eq!(
            host_of("https://registry.test/x/"),
            Some("registry.test".to_owned())
        );
        assert_eq!(
            host_of("http://registry.test:4873/\n"),
            Some("registry.test".to_owned())
        );
        assert_eq!(host_of("undefined"), None);
    }
}

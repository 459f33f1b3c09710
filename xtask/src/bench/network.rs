//! What a connection costs: a server here, and the client bare or in a session.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    agent, bounded, client::Exchange, contender, contender::Contender, ground::Ground, lab::Lab,
};

/// Exchanges of which each sample is the median.
const CONNECTIONS: usize = 100;
const REQUESTS: usize = 1000;
/// Bytes of one sample of the relay.
const RELAYED: usize = 400_000_000;
/// Streamed answers, and turns of an agent.
const ANSWERS: usize = 200;
const TURNS: usize = 150;
/// Seconds of a flood of claims; with the pauses it takes twice as long.
const FLOOD_SECONDS: usize = 60;
const FLOOD_LONGEST: Duration = Duration::from_mins(4);
/// The kind of event that a flood is made of.
const CLAIM: &str = "tool.called";
/// What the server is called inside.
const NAME: &str = "server.bench.test";
/// The program of the client, in its workspace.
const CLIENT: &str = "client";

/// A server for the client, on loopback, for as long as this process lives.
pub(super) struct Server {
    port: u16,
    client: PathBuf,
    policy: PathBuf,
}

impl Server {
    /// Starts it, and brings the client and the policy for it to where the measuring user has them.
    pub(super) fn start(lab: &Lab) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("no port of loopback")?;
        let port = listener
            .local_addr()
            .context("a listener has a port")?
            .port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    // A client that goes away is its own failure.
                    serve(stream).ok();
                });
            }
        });
        let folder = lab.ground(Ground::Empty)?;
        let this = std::env::current_exe().context("this program has no path")?;
        let client = folder.join(CLIENT);
        fs::copy(&this, &client).context("the client cannot be copied")?;
        let policy = lab.stage.path("network.toml");
        let text = format!(
            "schema = 1\n[network.hosts]\n\"{NAME}\" = \"127.0.0.1\"\n[[allow]]\nid = \"bench\"\n\
             what = \"net\"\nhosts = [\"{NAME}\"]\nports = [{port}]\nprivate = true\n\
             reason = \"the server of the benchmark\"\n"
        );
        fs::write(&policy, text).context("the policy cannot be written")?;
        lab.hand_over(&folder)?;
        Ok(Self {
            port,
            client,
            policy,
        })
    }

    /// Has the client make one sample: microseconds, or megabytes per second.
    pub(super) fn sample(
        &self,
        exchange: Exchange,
        contender: &Contender,
        lab: &Lab,
    ) -> Result<f64> {
        let folder = lab.ground(Ground::Empty)?;
        let (word, count) = match exchange {
            Exchange::Connect => ("connect", CONNECTIONS),
            Exchange::Request => ("request", REQUESTS),
            Exchange::Relay => ("relay", RELAYED),
            Exchange::FirstByte => ("first-byte", ANSWERS),
            Exchange::Turns => ("turns", TURNS),
            Exchange::Flood => ("flood", FLOOD_SECONDS),
        };
        let longest = match exchange {
            Exchange::Flood => FLOOD_LONGEST,
            Exchange::Connect
            | Exchange::Request
            | Exchange::Relay
            | Exchange::FirstByte
            | Exchange::Turns => bounded::SAMPLE_LONGEST,
        };
        let command = self.command(contender, &folder, word, count)?;
        let (text, _) = bounded::run_within(&mut lab.prepare(command, &folder), longest)?;
        if let (Exchange::Flood, Contender::Stockade { program }) = (exchange, contender) {
            all_recorded(&text, program, lab)?;
        }
        let last = text.lines().last().unwrap_or_default();
        last.parse()
            .with_context(|| format!("`{last}` is not a number"))
    }

    fn command(
        &self,
        contender: &Contender,
        folder: &Path,
        word: &str,
        count: usize,
    ) -> Result<Command> {
        let count = count.to_string();
        let arguments = |host: &str| {
            let server = format!("{host}:{}", self.port);
            ["bench-client", word, &server, &count].map(ToOwned::to_owned)
        };
        match contender {
            Contender::Bare => {
                let mut command = Command::new(&self.client);
                command.args(arguments("127.0.0.1"));
                Ok(command)
            }
            Contender::Stockade { program } => {
                let mut command = contender::session(program, folder);
                command.arg("--policy").arg(&self.policy).arg("--");
                command.arg(&self.client).args(arguments(NAME));
                Ok(command)
            }
            Contender::Bubblewrap | Contender::Codex { .. } | Contender::SandboxRuntime { .. } => {
                bail!("{} has no network here", contender.name())
            }
        }
    }
}

/// Fails unless the record of the last session has as many claims as the client says in its first line.
fn all_recorded(text: &str, program: &Path, lab: &Lab) -> Result<()> {
    let made = text.lines().next().unwrap_or_default();
    let mut events = Command::new(program);
    events.args(["events", "last", "--kind", CLAIM, "--json"]);
    let (record, _) = bounded::run(&mut lab.prepare(events, &lab.home))?;
    let recorded = record.lines().count().to_string();
    ensure!(
        made == recorded,
        "{made} claims were made and {recorded} are in the record"
    );
    Ok(())
}

/// Answers lines: `send N` with N bytes, the head of a request with a response, others with
/// themselves.
fn serve(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some(bytes) = line.strip_prefix("send ") {
            return send(&mut writer, bytes.trim().parse()?);
        }
        if line.ends_with(" HTTP/1.1\r\n") {
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let mut length = 0;
            while line.trim() != "" {
                line.clear();
                reader.read_line(&mut line)?;
                if let Some(bytes) = line.to_lowercase().strip_prefix("content-length:") {
                    length = bytes.trim().parse()?;
                }
            }
            reader.read_exact(&mut vec![0; length])?;
            if path.ends_with("?pieces") {
                pieces(&mut writer)?;
            } else {
                let body = agent::answer(&path).unwrap_or_else(|| "ok\n".to_owned());
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                writer.write_all((head + &body).as_bytes())?;
            }
        } else {
            writer.write_all(line.as_bytes())?;
        }
    }
}

/// Sends an answer of a model in two pieces.
fn pieces(writer: &mut TcpStream) -> Result<()> {
    writer.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    for text in ["one", "two"] {
        let piece = format!(
            "data: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\
             \"text_delta\",\"text\":\"{text}\"}}}}\n\n"
        );
        write!(writer, "{:x}\r\n{piece}\r\n", piece.len())?;
    }
    writer.write_all(b"0\r\n\r\n")?;
    Ok(())
}

fn send(writer: &mut TcpStream, bytes: usize) -> Result<()> {
    let block = vec![b'x'; 64 << 10];
    let mut rest = bytes;
    while rest > 0 {
        let part = block.get(..rest.min(block.len())).unwrap_or_default();
        writer.write_all(part)?;
        rest -= part.len();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bench::client, process};

    #[test]
    fn a_bare_client_makes_every_exchange() {
        let lab = Lab::for_test();
        let server = Server::start(&lab).unwrap();
        let command = |word, count| {
            let folder = lab.ground(Ground::Empty).unwrap();
            server
                .command(&Contender::Bare, &folder, word, count)
                .unwrap()
        };
        // The program of a test has no such command: what it is asked is looked at, what it does is
        // asked of the server itself.
        let line = process::describe(&command("relay", 7));
        assert!(line.contains(" bench-client relay 127.0.0.1:"), "{line}");
        for exchange in [Exchange::Connect, Exchange::Request, Exchange::Relay] {
            let address = format!("127.0.0.1:{}", server.port);
            assert!(client::measure(exchange, &address, 20).unwrap() > 0.0);
        }
        assert!(
            server
                .command(&Contender::Bubblewrap, Path::new("/"), "relay", 1)
                .is_err()
        );
    }
}

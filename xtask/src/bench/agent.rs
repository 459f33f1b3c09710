//! What the agent's half of the record costs: an agent that calls a model, with the calls read and with
//! the same bytes to an address that is none of a model, by turns in one session.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::figures::{float, median};
use crate::out;

/// Tool calls of one answer of a flood, and how often there is one: 5,000 claims a second.
pub(super) const FLOOD_CALLS: usize = 250;
const FLOOD_EVERY: Duration = Duration::from_millis(50);
/// As long as a flood goes on before it is still, and the other way round.
const WINDOW: Duration = Duration::from_secs(2);
/// Turns that are not counted.
const WARM_UP: usize = 6;
/// Share of the asked rate that a flood must reach to count as one.
const RATE_MIN: f64 = 0.95;

/// Longest wait for a byte.
const PATIENCE: Duration = Duration::from_secs(20);

/// Addresses of one length: calls of a model, and what is none.
const PATHS: [&str; 2] = ["/v1/messages", "/v1/machines"];

/// Returns the answer that a request to `path` asks for, without its head.
pub(super) fn answer(path: &str) -> Option<String> {
    let (_, calls) = path.split_once("?calls=")?;
    let calls: usize = calls.parse().ok()?;
    let mut body = String::from(
        "{\"type\":\"message\",\"id\":\"m-1\",\"model\":\"bench-1\",\"role\":\"assistant\",\
         \"stop_reason\":\"tool_use\",\"usage\":{\"input_tokens\":9,\"output_tokens\":9},\"content\":[",
    );
    for number in 0..calls {
        let comma = if number == 0 { "" } else { "," };
        // A string takes what is written to it.
        write!(
            body,
            "{comma}{{\"type\":\"tool_use\",\"id\":\"call-{number}\",\"name\":\"Bash\",\"input\":\
             {{\"command\":\"echo {number} > made\"}}}}"
        )
        .ok();
    }
    Some(body + "]}")
}

pub(super) fn open(server: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(server).with_context(|| format!("{server} is not reached"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A connection to the model.
struct Model {
    writer: TcpStream,
    reader: BufReader<TcpStream>,
    host: String,
}

impl Model {
    fn new(server: SocketAddr, host: &str) -> Result<Self> {
        let writer = open(server)?;
        let reader = BufReader::new(writer.try_clone()?);
        Ok(Self {
            writer,
            reader,
            host: host.to_owned(),
        })
    }

    /// Asks for an answer with so many tool calls, and reads it.
    fn ask(&mut self, path: &str, calls: usize, result: usize) -> Result<()> {
        let body = format!(
            "{{\"model\":\"bench-1\",\"messages\":[{{\"role\":\"user\",\"content\":[{{\"type\":\
             \"tool_result\",\"tool_use_id\":\"call-0\",\"content\":\"{result}\"}}]}}]}}"
        );
        let head = format!(
            "POST {path}?calls={calls} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        self.writer.write_all((head + &body).as_bytes())?;
        let mut length = 0;
        let mut line = String::new();
        loop {
            line.clear();
            self.reader.read_line(&mut line)?;
            ensure!(!line.is_empty(), "the model hung up");
            if let Some(bytes) = line.to_lowercase().strip_prefix("content-length:") {
                length = bytes.trim().parse()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        self.reader.read_exact(&mut vec![0; length])?;
        Ok(())
    }
}

/// Makes turns of an agent: a call of a model, a command, a file, and the result. Returns how many times
/// longer a turn takes if the call is read.
pub(super) fn turns(server: SocketAddr, host: &str, count: usize) -> Result<f64> {
    let mut model = Model::new(server, host)?;
    let mut times = [Vec::new(), Vec::new()];
    for turn in 0..count + WARM_UP {
        for (path, times) in PATHS.iter().zip(&mut times) {
            let start = Instant::now();
            model.ask(path, 1, turn)?;
            for command in ["echo 0 > made", "cat made made", "true; true"] {
                run("/bin/sh", &["-c", command])?;
            }
            fs::write("edited", command_of(turn)).context("a file is not written")?;
            model.ask(path, 0, turn)?;
            if turn >= WARM_UP {
                times.push(start.elapsed().as_secs_f64());
            }
        }
    }
    ratio(times)
}

fn command_of(turn: usize) -> String {
    format!("edit {turn}\n")
}

fn run(program: &str, words: &[&str]) -> Result<()> {
    let status = Command::new(program)
        .args(words)
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("`{program}` does not start"))?;
    ensure!(status.success(), "`{program}` ended with {status}");
    Ok(())
}

/// Floods the record with claims while programs start and files change, each second window with the same
/// bytes that are no claims. Prints the number of claims; returns how many times longer a start and a
/// change take in a flood.
pub(super) fn flooded(server: SocketAddr, host: &str, seconds: usize) -> Result<f64> {
    let windows = seconds.div_ceil(usize::try_from(WINDOW.as_secs())?) * 2;
    let flood = Arc::new(Flood::default());
    let flooding = {
        let (flood, host) = (Arc::clone(&flood), host.to_owned());
        thread::spawn(move || flood.run(server, &host, windows))
    };
    let mut times = [Vec::new(), Vec::new()];
    while !flooding.is_finished() {
        let before = flood.window.load(Ordering::Relaxed);
        let start = Instant::now();
        run("/bin/true", &[])?;
        fs::write("made", "x").context("a file is not written")?;
        fs::remove_file("made").context("a file is not removed")?;
        let took = start.elapsed().as_secs_f64();
        if flood.window.load(Ordering::Relaxed) == before
            && let Some(times) = times.get_mut(before % 2)
        {
            times.push(took);
        }
    }
    match flooding.join() {
        Ok(done) => done?,
        Err(_) => anyhow::bail!("the flood ended with a panic"),
    }
    let claims = flood.claims.load(Ordering::Relaxed);
    let asked = float((windows / 2) as u64) * WINDOW.as_secs_f64() / FLOOD_EVERY.as_secs_f64()
        * float(FLOOD_CALLS as u64);
    ensure!(
        float(claims as u64) >= asked * RATE_MIN,
        "the flood had {claims} claims, {asked:.0} were asked for"
    );
    out::line(claims);
    ratio(times)
}

#[derive(Default)]
struct Flood {
    window: AtomicUsize,
    claims: AtomicUsize,
}

impl Flood {
    fn run(&self, server: SocketAddr, host: &str, windows: usize) -> Result<()> {
        let mut model = Model::new(server, host)?;
        let begun = Instant::now();
        let mut next = begun;
        loop {
            let window = usize::try_from(begun.elapsed().as_secs() / WINDOW.as_secs())?;
            if window >= windows {
                return Ok(());
            }
            self.window.store(window, Ordering::Relaxed);
            let path = PATHS.get(window % 2).copied().unwrap_or_default();
            model.ask(path, FLOOD_CALLS, 0)?;
            if window.is_multiple_of(2) {
                self.claims.fetch_add(FLOOD_CALLS, Ordering::Relaxed);
            }
            next += FLOOD_EVERY;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
}

/// Returns the median of the first times, divided by that of the others.
fn ratio(times: [Vec<f64>; 2]) -> Result<f64> {
    let [mut read, mut unread] = times;
    ensure!(
        !read.is_empty() && !unread.is_empty(),
        "nothing was measured"
    );
    read.sort_by(f64::total_cmp);
    unread.sort_by(f64::total_cmp);
    Ok(median(&read) / median(&unread))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_the_calls_that_were_asked_for() {
        let body = answer("/v1/messages?calls=3").unwrap();
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(value["content"].as_array().map(Vec::len), Some(3));
        assert_eq!(answer("/x"), None);
    }

    #[test]
    fn a_ratio_is_of_medians() {
        let times = [vec![4.0, 2.0, 9.0], vec![2.0]];
        assert!((ratio(times).unwrap() - 2.0).abs() < 1e-9);
        assert!(ratio([vec![1.0], Vec::new()]).is_err());
    }
}

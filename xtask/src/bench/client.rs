//! The client of the network rows: a hidden command of this program, so that it runs inside too.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, ToSocketAddrs},
    time::Instant,
};

use anyhow::{Context, Result, ensure};

use super::{
    agent::{self, open},
    figures::{float, median},
};
use crate::out;

/// Rounds that are not counted.
const WARM_UP: usize = 5;

/// What the client does with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Exchange {
    /// Times new connections with one line and its answer each.
    Connect,
    /// Times HTTP requests on one connection.
    Request,
    /// Times one connection that brings many bytes.
    Relay,
    /// Times the first byte of a streamed answer of a model, on one connection.
    FirstByte,
    /// Compares turns of an agent whose model is read with those of one whose is not.
    Turns,
    /// Compares starts and changes during a flood of claims with those without; takes seconds.
    Flood,
}

/// Prints one number: microseconds of the median exchange, megabytes per second, or a ratio.
#[derive(clap::Args)]
pub(crate) struct Args {
    exchange: Exchange,
    /// Host and port; the name is looked up once
    server: String,
    /// Connections, requests, bytes, turns or seconds
    count: usize,
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> Result<()> {
    out::line(measure(args.exchange, &args.server, args.count)?);
    Ok(())
}

pub(super) fn measure(exchange: Exchange, name: &str, count: usize) -> Result<f64> {
    let no_address = || format!("`{name}` has no address");
    let server = name
        .to_socket_addrs()
        .with_context(no_address)?
        .next()
        .with_context(no_address)?;
    match exchange {
        Exchange::Connect => medians(count, || {
            let mut stream = open(server)?;
            stream.write_all(b"hello\n")?;
            expect_line(&mut BufReader::new(stream), "hello\n")
        }),
        Exchange::Request => requests(server, name, count),
        Exchange::Relay => throughput(server, count),
        Exchange::FirstByte => first_bytes(server, name, count),
        Exchange::Turns => agent::turns(server, name, count),
        Exchange::Flood => agent::flooded(server, name, count),
    }
}

fn medians(count: usize, exchange: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut exchange = exchange;
    let mut times = Vec::with_capacity(count);
    for round in 0..count + WARM_UP {
        let start = Instant::now();
        exchange()?;
        if round >= WARM_UP {
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(median(&times))
}

fn expect_line(reader: &mut impl BufRead, expected: &str) -> Result<()> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    ensure!(line == expected, "expected {expected:?}, got {line:?}");
    Ok(())
}

fn requests(server: SocketAddr, host: &str, count: usize) -> Result<f64> {
    let stream = open(server)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let request = format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n");
    medians(count, || {
        writer.write_all(request.as_bytes())?;
        let mut line = String::new();
        reader.read_line(&mut line)?;
        ensure!(
            line.contains(" 200 "),
            "expected the status 200, got {line:?}"
        );
        let mut body = 0;
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            if let Some(length) = line.to_lowercase().strip_prefix("content-length:") {
                body = length.trim().parse()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        reader.read_exact(&mut vec![0; body])?;
        Ok(())
    })
}

/// Times from a request to the first byte of its body, which the server sends at once, before the others.
fn first_bytes(server: SocketAddr, host: &str, count: usize) -> Result<f64> {
    let stream = open(server)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let body = "{\"model\":\"bench-1\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}";
    let request = format!(
        "POST /v1/messages?pieces HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut times = Vec::with_capacity(count);
    for round in 0..count + WARM_UP {
        let start = Instant::now();
        writer.write_all(request.as_bytes())?;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            ensure!(reader.read_line(&mut line)? > 0, "the server hung up");
        }
        reader.read_line(&mut line)?;
        if round >= WARM_UP {
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        while !line.ends_with("\r\n0\r\n\r\n") {
            ensure!(reader.read_line(&mut line)? > 0, "the server hung up");
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(median(&times))
}

fn throughput(server: SocketAddr, bytes: usize) -> Result<f64> {
    let mut stream = open(server)?;
    let start = Instant::now();
    stream.write_all(format!("send {bytes}\n").as_bytes())?;
    let mut buffer = vec![0; 256 << 10];
    let mut rest = bytes;
    while rest > 0 {
        let count = stream.read(&mut buffer)?;
        ensure!(count > 0, "{rest} bytes are missing");
        rest = rest.saturating_sub(count);
    }
    let megabytes = float(bytes as u64) / 1e6;
    Ok(megabytes / start.elapsed().as_secs_f64())
}

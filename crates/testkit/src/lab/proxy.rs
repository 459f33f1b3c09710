//! The proxy of a network that has no other way out: only the proxy can resolve names.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use super::{Connection, Listener, loopback};

/// Longest head that it reads.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// An HTTP proxy with `CONNECT` that resolves every host to 127.0.0.1.
#[derive(Debug)]
pub struct Proxy {
    listener: Listener,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Starts a proxy without authentication.
    pub fn start() -> Self {
        Self::with(None, Vec::new())
    }

    /// Starts a proxy that leads to nothing but these ports of 127.0.0.1, by `host:port`.
    pub fn leading(ways: &[(&str, u16)]) -> Self {
        let ways = ways.iter().map(|(to, port)| ((*to).to_owned(), *port));
        Self::with(None, ways.collect())
    }

    /// Starts a proxy that requires this value of `Proxy-Authorization`.
    pub fn locked(authorization: &str) -> Self {
        Self::with(Some(authorization.to_owned()), Vec::new())
    }

    fn with(authorization: Option<String>, ways: Vec<(String, u16)>) -> Self {
        let heads = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&heads);
        let listener = Listener::start(loopback(), move |connection| {
            serve(connection, &record, (authorization.as_deref(), &ways))
        });
        Self { listener, heads }
    }

    /// Returns the address in the form for variables.
    pub fn url(&self) -> String {
        format!("http://{}", self.listener.address())
    }

    /// Returns the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Returns the heads of the requests that it got, in order of arrival.
    pub fn heads(&self) -> Vec<String> {
        self.heads
            .lock()
            .expect("no thread panicked with the record")
            .clone()
    }
}

fn serve(
    mut client: Connection,
    record: &Mutex<Vec<String>>,
    (authorization, ways): (Option<&str>, &[(String, u16)]),
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    record
        .lock()
        .expect("no thread panicked with the record")
        .push(head.clone());
    let wanted = |value: &str| head.contains(&format!("Proxy-Authorization: {value}\r\n"));
    if authorization.is_some_and(|value| !wanted(value)) {
        return client.write_all(
            b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\
              Proxy-Authenticate: Basic realm=\"lab\"\r\n\r\n",
        );
    }
    let (line, rest) = head.split_once("\r\n").unwrap_or((&head, ""));
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let (authority, path) = match target.strip_prefix("http://") {
        Some(target) => target.split_at(target.find('/').unwrap_or(target.len())),
        None => (target, ""),
    };
    let port = authority.rsplit_once(':').map_or("80", |(_, port)| port);
    let port: u16 = port.parse().map_err(io::Error::other)?;
    let way = ways.iter().find(|(to, _)| to == authority);
    let port = match way {
        Some((_, port)) => *port,
        None if ways.is_empty() => port,
        // Nobody listens there.
        None => 1,
    };
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
    };
    if method == "CONNECT" {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    } else {
        let own = |line: &&str| !line.to_ascii_lowercase().starts_with("proxy-");
        let rest: String = rest.split_inclusive("\r\n").filter(own).collect();
        write!(server, "{method} {path} HTTP/1.1\r\n{rest}")?;
    }
    let (mut up, mut down) = (client.try_clone()?, server.try_clone()?);
    let back = thread::spawn(move || {
        drop(io::copy(&mut down, &mut up));
    });
    drop(io::copy(&mut client, &mut server));
    drop(server.shutdown(Shutdown::Write));
    drop(back.join());
    Ok(())
}

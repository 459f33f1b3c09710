//! Plain TCP: one server that waits for its client, one that speaks first.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use super::{Connection, Listener, Traffic, assert_untouched, loopback};

/// Bytes moved at once; any size is good enough for a laboratory.
const BUFFER_BYTES: usize = 64 * 1024;
/// Most bytes that are kept for the test; more are still echoed and counted.
const RECORD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A server that sends back what it receives.
#[derive(Debug)]
pub struct TcpEcho {
    listener: Listener,
    received: Arc<Mutex<Vec<u8>>>,
}

impl TcpEcho {
    /// Starts a server on a free port of 127.0.0.1.
    pub fn start() -> Self {
        Self::on(loopback())
    }

    /// Starts a server on `address`.
    pub fn on(address: SocketAddr) -> Self {
        let received = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&received);
        let listener = Listener::start(address, move |mut c| echo(&mut c, &record));
        Self { listener, received }
    }

    /// Returns the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Returns what it received on all connections, in order of arrival.
    pub fn received(&self) -> Vec<u8> {
        self.received
            .lock()
            .expect("no thread panicked with the record")
            .clone()
    }

    /// Returns connections and bytes.
    pub fn traffic(&self) -> Traffic {
        self.listener.traffic()
    }

    /// Ends the test unless nothing at all reached this server.
    pub fn assert_untouched(&self) {
        assert_untouched(
            "echo server",
            self.address(),
            self.traffic(),
            &self.received(),
        );
    }
}

/// A server that speaks first, as SMTP, SSH and databases do, and then echoes.
#[derive(Debug)]
pub struct Greeter {
    listener: Listener,
    received: Arc<Mutex<Vec<u8>>>,
}

impl Greeter {
    /// Starts a server on a free port of 127.0.0.1 that sends `banner` to every client at once.
    pub fn start(banner: impl Into<Vec<u8>>) -> Self {
        let banner = banner.into();
        let received = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&received);
        let listener = Listener::start(loopback(), move |mut connection| {
            connection.write_all(&banner)?;
            echo(&mut connection, &record)
        });
        Self { listener, received }
    }

    /// Returns the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Returns what it received on all connections, in order of arrival.
    pub fn received(&self) -> Vec<u8> {
        self.received
            .lock()
            .expect("no thread panicked with the record")
            .clone()
    }

    /// Returns connections and bytes.
    pub fn traffic(&self) -> Traffic {
        self.listener.traffic()
    }

    /// Ends the test unless nothing at all reached this server.
    pub fn assert_untouched(&self) {
        assert_untouched(
            "greeting server",
            self.address(),
            self.traffic(),
            &self.received(),
        );
    }
}

fn echo(connection: &mut Connection, record: &Mutex<Vec<u8>>) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = connection.read(&mut buffer)?;
        let bytes = buffer.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
        let mut record = record.lock().expect("no thread panicked with the record");
        let room = RECORD_BYTES_MAX.saturating_sub(record.len());
        record.extend(bytes.iter().take(room));
        drop(record);
        connection.write_all(bytes)?;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{Shutdown, TcpStream},
    };

    use super::{Greeter, TcpEcho};

    #[test]
    fn the_echo_server_echoes_and_records() {
        let server = TcpEcho::start();
        server.assert_untouched();
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(b"ping").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(
            (answer.as_slice(), server.received().as_slice()),
            (&b"ping"[..], &b"ping"[..])
        );
        assert_eq!(server.traffic().bytes_in, 4);
    }

    #[test]
    fn the_greeter_speaks_first() {
        let server = Greeter::start("220 lab ready\r\n");
        let mut stream = TcpStream::connect(server.address()).unwrap();
        let mut banner = [0; 15];
        stream.read_exact(&mut banner).unwrap();
        assert_eq!(&banner, b"220 lab ready\r\n");
        assert!(server.received().is_empty());
    }
}

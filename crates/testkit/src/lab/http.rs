//! A web server that records every request.

use std::{
    io::BufReader,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{Listener, Traffic, assert_untouched, loopback};
use crate::{
    http::{self, Request, Response},
    wait,
};

/// A web server on loopback; dropping it closes every connection.
#[derive(Debug)]
pub struct HttpServer {
    listener: Listener,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl HttpServer {
    /// Starts a server on a free port of 127.0.0.1 that answers everything with 200 and `lab`.
    pub fn start() -> Self {
        Self::with(|_| Response::text(200, "lab\n"))
    }

    /// Starts a server on a free port of 127.0.0.1 that answers as `answer` says.
    pub fn with(answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        Self::on(loopback(), answer)
    }

    /// Starts a server on `address` that answers as `answer` says.
    pub fn on(
        address: SocketAddr,
        answer: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&requests);
        let listener = Listener::start(address, move |connection| {
            let mut out = connection.try_clone()?;
            http::serve(&mut BufReader::new(connection), &mut out, |request| {
                let response = answer(&request);
                record
                    .lock()
                    .expect("no thread panicked with the record")
                    .push(request);
                response
            })
        });
        Self { listener, requests }
    }

    /// Returns the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Returns the port it listens on.
    pub fn port(&self) -> u16 {
        self.address().port()
    }

    /// Returns the URL of `path` on this server.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// Returns every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests
            .lock()
            .expect("no thread panicked with the record")
            .clone()
    }

    /// Waits until `count` requests have arrived and returns all of them.
    pub fn wait_for(&self, count: usize, timeout: Duration) -> Vec<Request> {
        wait::until(timeout, || {
            Some(self.requests()).filter(|seen| seen.len() >= count)
        })
        .unwrap_or_else(|| panic!("expected {count} requests, saw {:?}", self.requests()))
    }

    /// Returns connections and bytes, counted below HTTP.
    pub fn traffic(&self) -> Traffic {
        self.listener.traffic()
    }

    /// Ends the test unless nothing at all reached this server, not even a connection.
    pub fn assert_untouched(&self) {
        assert_untouched(
            "web server",
            self.address(),
            self.traffic(),
            &self.requests(),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpStream,
        time::Duration,
    };

    use super::HttpServer;
    use crate::{failure_of, http::Response};

    fn fetch(server: &HttpServer, text: &str) -> String {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn requests_and_bytes_are_recorded() {
        let server = HttpServer::with(|request| match request.path() {
            "/teapot" => Response::text(418, "short and stout"),
            _ => Response::text(200, "ok"),
        });
        server.assert_untouched();
        let text = "GET /teapot?x HTTP/1.1\r\nHost: good.test\r\nConnection: close\r\n\r\n";
        let answer = fetch(&server, text);
        assert!(answer.starts_with("HTTP/1.1 418 "), "{answer}");
        assert!(answer.ends_with("short and stout"), "{answer}");
        let seen = server.wait_for(1, Duration::from_secs(5));
        assert_eq!(seen.len(), 1);
        assert_eq!(seen.first().unwrap().header("host"), Some("good.test"));
        let traffic = server.traffic();
        assert_eq!(traffic.connections, 1);
        assert_eq!(traffic.bytes_in, u64::try_from(text.len()).unwrap());
        assert_eq!(traffic.bytes_out, u64::try_from(answer.len()).unwrap());
        let text = failure_of(|| server.assert_untouched());
        assert!(
            text.contains("web server") && text.contains("/teapot"),
            "{text}"
        );
    }

    #[test]
    fn a_dropped_server_is_gone() {
        let server = HttpServer::start();
        let address = server.address();
        let mut idle = TcpStream::connect(address).unwrap();
        crate::wait::until_true(Duration::from_secs(5), || server.traffic().connections == 1);
        drop(server);
        assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0);
        assert!(TcpStream::connect(address).is_err());
    }
}

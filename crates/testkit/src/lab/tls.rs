//! A TLS server that records what each client announced before encryption began.

use std::{
    io::{self, BufReader, Write},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use rustls::{ServerConfig, StreamOwned, server::Acceptor};

use super::{Certificate, Connection, Listener, Traffic, assert_untouched, loopback};
use crate::http::{self, Request, Response};

/// The contents of a client's ClientHello (RFC 8446, section 4.1.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsHello {
    /// Name of the server name indication, if there was one.
    pub sni: Option<String>,
    /// Protocols of the ALPN extension, as text.
    pub alpn: Vec<String>,
}

/// A web server behind TLS with its own certificate; dropping it closes every connection.
#[derive(Debug)]
pub struct TlsServer {
    listener: Listener,
    record: Arc<Record>,
    certificate_pem: String,
}

/// Writes the answer to a request.
type Answering = dyn Fn(&Request, &mut dyn Write) -> io::Result<()> + Send + Sync;

#[derive(Debug, Default)]
struct Record {
    hellos: Mutex<Vec<TlsHello>>,
    requests: Mutex<Vec<Request>>,
}

impl TlsServer {
    /// Starts a server on a free port of 127.0.0.1 whose certificate is for `names`; it answers
    /// every request with 200 and `lab`.
    pub fn start(names: &[&str]) -> Self {
        Self::on(loopback(), names)
    }

    /// Starts a server on a free port of 127.0.0.1 that answers as `answer` says.
    pub fn with(
        names: &[&str],
        answer: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Self {
        Self::writing(names, move |request, mut out| {
            answer(request).write(&mut out)
        })
    }

    /// Starts a server on a free port of 127.0.0.1 that answers with the bytes that `answer` writes.
    pub fn writing(
        names: &[&str],
        answer: impl Fn(&Request, &mut dyn Write) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::answering(loopback(), names, Arc::new(answer))
    }

    /// Starts a server on `address` whose certificate is for `names`.
    pub fn on(address: SocketAddr, names: &[&str]) -> Self {
        let lab =
            |_: &Request, mut out: &mut dyn Write| Response::text(200, "lab\n").write(&mut out);
        Self::answering(address, names, Arc::new(lab))
    }

    fn answering(address: SocketAddr, names: &[&str], answer: Arc<Answering>) -> Self {
        let certificate = Certificate::new(names);
        let config = Arc::new(certificate.server());
        let record = Arc::new(Record::default());
        let shared = Arc::clone(&record);
        let listener = Listener::start(address, move |connection| {
            converse(connection, Arc::clone(&config), (&shared, &*answer))
        });
        Self {
            listener,
            record,
            certificate_pem: certificate.pem().to_owned(),
        }
    }

    /// Returns the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Returns the port it listens on.
    pub fn port(&self) -> u16 {
        self.address().port()
    }

    /// Returns its certificate, which a client must trust (`curl --cacert`).
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Returns every complete ClientHello so far.
    pub fn hellos(&self) -> Vec<TlsHello> {
        self.record
            .hellos
            .lock()
            .expect("no thread panicked with the record")
            .clone()
    }

    /// Returns every request that arrived inside TLS.
    pub fn requests(&self) -> Vec<Request> {
        self.record
            .requests
            .lock()
            .expect("no thread panicked with the record")
            .clone()
    }

    /// Returns connections and bytes, counted below TLS.
    pub fn traffic(&self) -> Traffic {
        self.listener.traffic()
    }

    /// Ends the test unless nothing at all reached this server.
    pub fn assert_untouched(&self) {
        assert_untouched("TLS server", self.address(), self.traffic(), &self.hellos());
    }
}

fn converse(
    mut connection: Connection,
    config: Arc<ServerConfig>,
    (record, answer): (&Record, &Answering),
) -> io::Result<()> {
    let mut acceptor = Acceptor::default();
    let accepted = loop {
        if acceptor.read_tls(&mut connection)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => break accepted,
            Ok(None) => {}
            Err((error, mut alert)) => {
                alert.write(&mut connection)?;
                return Err(io::Error::other(error));
            }
        }
    };
    let said = accepted.client_hello();
    let alpn = said.alpn().into_iter().flatten();
    let hello = TlsHello {
        sni: said.server_name().map(str::to_owned),
        alpn: alpn
            .map(|p| String::from_utf8_lossy(p).into_owned())
            .collect(),
    };
    record
        .hellos
        .lock()
        .expect("no thread panicked with the record")
        .push(hello);
    let session = accepted
        .into_connection(config)
        .map_err(|(error, _)| io::Error::other(error))?;
    let mut input = BufReader::new(StreamOwned::new(session, connection));
    while let Some(request) = http::read(&mut input, &mut io::sink())? {
        record
            .requests
            .lock()
            .expect("no thread panicked with the record")
            .push(request.clone());
        answer(&request, input.get_mut())?;
        input.get_mut().flush()?;
        if !request.keep_alive() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpStream,
        sync::Arc,
    };

    use rustls::{
        ClientConfig, ClientConnection, RootCertStore, StreamOwned,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    };

    use super::TlsServer;

    #[test]
    fn the_announced_name_and_the_request_are_recorded() {
        let server = TlsServer::start(&["good.test"]);
        server.assert_untouched();
        let mut roots = RootCertStore::empty();
        let pem = server.certificate_pem().as_bytes();
        roots
            .add(CertificateDer::from_pem_slice(pem).unwrap())
            .unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("good.test").unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect(server.address()).unwrap();
        let mut stream = StreamOwned::new(session, socket);
        stream
            .write_all(b"GET /x HTTP/1.1\r\nHost: good.test\r\n\r\n")
            .unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        let sni = server.hellos().first().and_then(|hello| hello.sni.clone());
        assert_eq!(sni.as_deref(), Some("good.test"));
        assert_eq!(server.requests().first().unwrap().target, "/x");
    }

    #[test]
    fn what_is_not_tls_leaves_no_hello() {
        let server = TlsServer::start(&["good.test"]);
        let mut socket = TcpStream::connect(server.address()).unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).unwrap();
        assert!(server.hellos().is_empty());
        assert_eq!(server.traffic().connections, 1);
    }
}

//! Servers of gRPC and WebSockets that are written with the libraries that their clients use.

use std::time::Duration;

use super::Certificate;
use crate::{
    agents,
    env::TestEnv,
    run::{Run, Running},
    wait,
};

/// How long it may take to listen.
const START: Duration = Duration::from_secs(20);

/// Says, for `SERVER CERTIFICATE KEY`, the port it listens on, and then one line for each call or
/// message that arrives.
const SCRIPT: &str = r#"
import asyncio, ssl, sys
from concurrent import futures

def say(*words):
    print(*words, flush=True)

def calls(certificate, key):
    import grpc
    def echo(request, context):
        say("Say", request.decode())
        context.set_trailing_metadata((("lab-trailer", "said"),))
        return request
    def count(request, context):
        say("Count", request.decode())
        for number in range(int(request)):
            yield str(number).encode()
        context.set_trailing_metadata((("lab-trailer", "counted"),))
    def chat(requests, context):
        for request in requests:
            say("Chat", request.decode())
            yield request
    class Lab(grpc.GenericRpcHandler):
        def service(self, details):
            return {
                "/lab.Demo/Say": grpc.unary_unary_rpc_method_handler(echo),
                "/lab.Demo/Count": grpc.unary_stream_rpc_method_handler(count),
                "/lab.Demo/Chat": grpc.stream_stream_rpc_method_handler(chat),
                "/lab.Demo/Drop": grpc.unary_unary_rpc_method_handler(echo),
            }.get(details.method)
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((Lab(),))
    pair = open(key, "rb").read(), open(certificate, "rb").read()
    say(server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials((pair,))))
    server.start()
    server.wait_for_termination()

def sockets(certificate, key):
    from websockets.asyncio.server import serve
    async def echo(socket):
        async for message in socket:
            say("message", message)
            await socket.send(message)
    async def main():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        async with serve(echo, "127.0.0.1", 0, ssl=context) as server:
            say(server.sockets[0].getsockname()[1])
            await server.serve_forever()
    asyncio.run(main())

{"grpc": calls, "websockets": sockets}[sys.argv[1]](*sys.argv[2:])
"#;

/// A running server, with a certificate of its own.
#[derive(Debug)]
pub struct LibraryServer {
    port: u16,
    certificate_pem: String,
    running: Running,
}

impl LibraryServer {
    /// Starts a server of gRPC with the library `grpcio`: `/lab.Demo/Say` answers with what it got,
    /// `Count` with that many numbers, `Chat` with each message, all but the last with a trailer.
    pub fn grpc(env: &TestEnv, names: &[&str]) -> Self {
        Self::start(env, "grpc", names)
    }

    /// Starts a server of WebSockets with the library `websockets`, which sends back what it gets.
    pub fn websockets(env: &TestEnv, names: &[&str]) -> Self {
        Self::start(env, "websockets", names)
    }

    fn start(env: &TestEnv, library: &str, names: &[&str]) -> Self {
        let certificate = Certificate::new(names);
        let pem = env.write(format!("{library}.pem"), certificate.pem());
        let key = env.write(format!("{library}.key"), &certificate.key_pem());
        // As the user of the test: another one may not be able to read the libraries.
        let running = Run::new("/usr/bin/python3")
            .env("PYTHONPATH", agents::python())
            .args(["-c", SCRIPT, library])
            .args([pem, key])
            .spawn();
        let port = || {
            let said = running.stdout();
            let (line, _) = said.split_once('\n')?;
            line.parse().ok()
        };
        let port = wait::until(START, port)
            .unwrap_or_else(|| panic!("the server does not listen: {}", running.stderr()));
        Self {
            port,
            certificate_pem: certificate.pem().to_owned(),
            running,
        }
    }

    /// Returns the port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns its certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Returns a line for each call or message that arrived.
    pub fn arrived(&self) -> Vec<String> {
        let said = self.running.stdout();
        said.lines().skip(1).map(str::to_owned).collect()
    }
}

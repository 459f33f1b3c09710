//! HTTP/2 inside TLS that is opened: questions, answers that are taken back, requests that are.
#![allow(
    clippy::unwrap_used,
    reason = "tests: helpers outside `#[test]` may fail as tests do"
)]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{Reason, client::SendRequest};
use http::Request;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use stockade_event::Event;
use stockade_policy::Scope;
use stockade_types::Verdict;
use tokio::{io::AsyncWriteExt, time::timeout};
use tokio_rustls::TlsAcceptor;

use crate::lab::{Host, Lab, PATIENCE, Server, supervisor::Asking, until};

/// A server of HTTP/2 that answers each request with its path at once, and ends none but `/short`.
async fn origin() -> (Server, Vec<u8>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["good.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = Server::start(move |stream, seen| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let mut open = Vec::new();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let path = request.uri().path().to_owned();
                seen.lock()
                    .unwrap()
                    .bytes
                    .extend_from_slice(path.as_bytes());
                let mut body = respond
                    .send_response(http::Response::new(()), false)
                    .unwrap();
                body.send_data(Bytes::from(path.clone()), path == "/short")
                    .unwrap();
                open.push((body, request));
            }
        }
    })
    .await;
    (server, cert.pem().into_bytes())
}

async fn lab(policy: &str, port: u16, roots: Vec<u8>) -> Lab {
    let policy = format!(
        "[network.hosts]\n\"good.test\" = \"127.0.0.1\"\n{}",
        policy.replace("PORT", &port.to_string())
    );
    let host = Host {
        resolvers: vec![],
        hosts_file: vec![],
    };
    Lab::start_trusting(&policy, host, roots).await
}

async fn connect(lab: &Lab, port: u16) -> SendRequest<Bytes> {
    let stream = lab.secured("good.test", port).await;
    let (requests, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    requests
}

type Answered = tokio::task::JoinHandle<Result<(u16, h2::RecvStream), h2::Error>>;

/// Asks for a path; the second part takes the request back.
async fn ask(
    requests: &SendRequest<Bytes>,
    method: &str,
    path: &str,
) -> (Answered, h2::SendStream<Bytes>) {
    let request = Request::builder()
        .method(method)
        .uri(format!("https://good.test{path}"))
        .body(())
        .unwrap();
    let mut requests = requests.clone().ready().await.unwrap();
    let (response, stream) = requests.send_request(request, true).unwrap();
    let answered = tokio::spawn(async move {
        let response = response.await?;
        Ok((response.status().as_u16(), response.into_body()))
    });
    (answered, stream)
}

async fn answered(answer: Answered) -> (u16, h2::RecvStream) {
    timeout(PATIENCE, answer).await.unwrap().unwrap().unwrap()
}

const ASKED: &str = "[[allow]]\nid = \"read\"\nwhat = \"net\"\nhosts = [\"good.test\"]\nports = [PORT]\n\
    methods = [\"GET\"]\nprivate = true\n[[ask]]\nid = \"post\"\nwhat = \"net\"\nhosts = [\"good.test\"]\n\
    ports = [PORT]\nmethods = [\"POST\"]\nprivate = true\nreason = \"lab\"\n";

/// Requests that wait for a person wait each by itself: others of their connection go on, one that is
/// taken back takes its question along, and an answer that is taken back ends what rests on it alone.
#[tokio::test]
async fn questions_are_those_of_single_requests() {
    let (server, roots) = origin().await;
    let lab = lab(ASKED, server.port, roots).await;
    lab.supervisor.set_asking(Asking::Wait);
    let requests = connect(&lab, server.port).await;
    let (kept, _kept) = ask(&requests, "POST", "/kept").await;
    until("the question", || lab.supervisor.waiting() == 1).await;
    let (left, mut back) = ask(&requests, "POST", "/left").await;
    until("both questions", || lab.supervisor.waiting() == 2).await;
    let (short, _) = ask(&requests, "GET", "/short").await;
    assert_eq!(answered(short).await.0, 200);
    back.send_reset(Reason::CANCEL);
    until("the withdrawal", || lab.supervisor.withdrawn() == 1).await;
    assert!(left.await.unwrap().is_err());
    lab.supervisor.answer(&Asking::Grant(Scope::Session));
    let (status, mut body) = answered(kept).await;
    assert_eq!(status, 200);
    assert_eq!(body.data().await.unwrap().unwrap(), "/kept");
    let (open, _open) = ask(&requests, "GET", "/open").await;
    let (_, mut open) = answered(open).await;
    assert_eq!(open.data().await.unwrap().unwrap(), "/open");
    let events = lab.supervisor.events();
    let used = events.into_iter().find_map(|event| match event {
        Event::ApprovalUsed { approval, .. } => Some(approval),
        _ => None,
    });
    lab.supervisor.revoke(&used.unwrap());
    let ended = timeout(PATIENCE, body.data()).await.unwrap();
    let ended = ended.unwrap().unwrap_err();
    assert_eq!(ended.reason(), Some(Reason::CANCEL), "{ended}");
    let silent = timeout(Duration::from_millis(200), open.data()).await;
    assert!(silent.is_err(), "what rests on no answer goes on");
    let denied = lab.decisions(Verdict::Deny);
    assert_eq!(denied.len(), 1, "{denied:#?}");
    assert!(denied[0].reason.contains("did not wait"), "{denied:#?}");
    assert!(!server.text().contains("/left"));
}

/// Bytes that are no HTTP/2, where it was agreed on, are one refusal.
#[tokio::test]
async fn what_is_no_http2_is_one_refusal() {
    let (server, roots) = origin().await;
    let lab = lab(ASKED, server.port, roots).await;
    let mut stream = lab.secured("good.test", server.port).await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: good.test\r\n\r\n")
        .await
        .unwrap();
    until("the refusal", || !lab.decisions(Verdict::Deny).is_empty()).await;
    lab.one_denial("http-framing");
    assert_eq!(server.connections(), 0);
}

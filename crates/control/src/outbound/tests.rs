use std::sync::Arc;

use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::{ANSWER_BYTES_MAX, Asking, Outbound, OutboundError, checked};

/// A server for `localhost` that answers every request with these bytes; returns its port and its
/// certificate, PEM.
async fn server(answer: Vec<u8>) -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]);
    let made = made.unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut asked = vec![0; 4096];
                let asked = stream.read(&mut asked).await;
                asked.map(drop).ok();
                stream.write_all(&answer).await.ok();
                stream.shutdown().await.ok();
            });
        }
    });
    (port, made.cert.pem())
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}").into_bytes()
}

async fn get(outbound: &Outbound, url: &str) -> Result<(u16, Vec<u8>), OutboundError> {
    let answer = outbound.ask(Asking::get(url)).await;
    answer.map(|(status, body)| (status.as_u16(), body))
}

/// The private switch opens loopback and private networks, and nothing that serves the host itself.
#[tokio::test]
async fn no_address_leads_where_only_the_server_can_go() {
    let (port, pem) = server(answer("200 OK", "", "{}")).await;
    let open = Outbound::new(Some(&pem), true).unwrap();
    let closed = Outbound::new(Some(&pem), false).unwrap();
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("https://{host}:{port}/a?b=c");
        assert_eq!(get(&open, &url).await.unwrap(), (200, b"{}".to_vec()));
        let refused = get(&closed, &url).await.unwrap_err();
        assert!(matches!(refused, OutboundError::Place { .. }), "{refused}");
    }
    // Other ways to write loopback, private networks, and what only the host's own services are.
    for (host, is_ever) in [
        ("127.1", true),
        ("0x7f000001", true),
        ("2130706433", true),
        ("[::1]", true),
        ("[::ffff:127.0.0.1]", true),
        ("10.0.0.1", true),
        ("192.168.1.1", true),
        ("172.16.0.1", true),
        ("[fc00::1]", true),
        ("169.254.169.254", false),
        ("[::ffff:169.254.169.254]", false),
        ("[fd00:ec2::254]", false),
        ("0.0.0.0", false),
        ("224.0.0.1", false),
        ("[::]", false),
        ("[fe80::1]", false),
    ] {
        let url = format!("https://{host}:1/");
        let refused = get(&closed, &url).await.unwrap_err();
        assert!(
            matches!(refused, OutboundError::Place { .. }),
            "{host}: {refused}"
        );
        if !is_ever {
            let refused = get(&open, &url).await.unwrap_err();
            assert!(
                matches!(refused, OutboundError::Place { .. }),
                "{host}: {refused}"
            );
        }
    }
}

#[test]
fn only_addresses_of_https_are_asked() {
    assert!(checked("https://login.test/a").is_ok());
    for wrong in [
        "http://login.test/",
        "file:///etc/passwd",
        "https://",
        "https://u@login.test/",
        "https://u:p@login.test/",
        "//login.test",
        "gopher://login.test",
        "javascript:alert(1)",
        "",
    ] {
        assert!(checked(wrong).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn answers_are_bounded_and_no_redirect_is_followed() {
    let (port, pem) = server(answer("200 OK", "", &"x".repeat(ANSWER_BYTES_MAX))).await;
    let outbound = Outbound::new(Some(&pem), true).unwrap();
    let url = format!("https://localhost:{port}/");
    assert_eq!(
        get(&outbound, &url).await.unwrap().1.len(),
        ANSWER_BYTES_MAX
    );
    // Another authority does not vouch for it.
    let (_, other) = server(Vec::new()).await;
    let stranger = Outbound::new(Some(&other), true).unwrap();
    let refused = get(&stranger, &url).await.unwrap_err();
    assert!(
        matches!(refused, OutboundError::Connect { .. }),
        "{refused}"
    );
    for bytes in [
        answer("200 OK", "", &"x".repeat(ANSWER_BYTES_MAX + 1)),
        answer("302 Found", "location: https://localhost/\r\n", ""),
        answer("301 Moved", "location: http://169.254.169.254/\r\n", ""),
        b"nonsense\r\n\r\n".to_vec(),
        Vec::new(),
    ] {
        let (port, pem) = server(bytes).await;
        let outbound = Outbound::new(Some(&pem), true).unwrap();
        let refused = get(&outbound, &format!("https://localhost:{port}/")).await;
        let refused = refused.unwrap_err();
        assert!(matches!(refused, OutboundError::Answer { .. }), "{refused}");
    }
    assert!(Outbound::new(Some("no certificate"), true).is_err());
}

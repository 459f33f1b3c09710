//! How machines enrol, and who does not get in.

use hyper::{Method, Request};
use stockade_api::{
    NodeId, Problem,
    node::{CertificateAnswer, Down, EnrolAnswer, Hello, HelloAnswer},
};
use stockade_trust::Root;
use stockade_types::UnixMillis;

use crate::common::{Client, Lab, facts, read, request, seed};

fn hello() -> Hello {
    Hello {
        facts: facts(),
        sessions: Vec::new(),
        bundle: None,
        directory_serial: 0,
        now: stockade_control::now(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_enrols_once_and_is_known_by_its_certificate() {
    let lab = Lab::new().await;
    let token = lab.token(None).await;
    assert_eq!(token.ca, lab.server.authority.digest());
    let own = seed();
    let asked = request(&token, &own, lab.dir.path());
    let answer = lab.enrol(&token, &asked).await;
    assert_eq!(answer.0, 200);
    let answer: EnrolAnswer = read(&answer);
    // What it gets is what it will check everything else by.
    let root = Root::open(&answer.root, stockade_control::now()).unwrap();
    root.directory(&answer.directory, 0, stockade_control::now())
        .unwrap();
    assert_eq!(root.servers, answer.servers);

    let mut machine = Client::connect(&lab, Some((&answer.certificate, &own)))
        .await
        .unwrap();
    let said = machine.json(Method::POST, "/node/v1/hello", &hello()).await;
    assert_eq!(said.0, 200, "{}", String::from_utf8_lossy(&said.1));
    let said: HelloAnswer = read(&said);
    assert!(said.directory.is_some());
    // The same token again, with a new key and with the same one.
    for seed in [seed(), own] {
        let again = lab
            .enrol(&token, &request(&token, &seed, lab.dir.path()))
            .await;
        assert_eq!(again.0, 403);
        assert_eq!(read::<Problem>(&again).kind, "enrol-token-used");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_no_token_that_counts_is_not_enrolled() {
    let lab = Lab::new().await;
    let machine = lab.machine(None).await;
    let good = lab.token(None).await;
    // A token that the server does not know.
    let mut other = good.clone();
    other.secret = "A".repeat(43);
    let unknown = lab
        .enrol(&other, &request(&other, &seed(), lab.dir.path()))
        .await;
    assert_eq!(read::<Problem>(&unknown).kind, "enrol-token-unknown");
    // The key of another machine: the signature is right, the key is taken.
    let taken = lab
        .enrol(&good, &request(&good, &machine.seed, lab.dir.path()))
        .await;
    assert_eq!(read::<Problem>(&taken).kind, "enrol-key-taken");
    // A key without its signature over this token.
    let mut unproved = request(&good, &seed(), lab.dir.path());
    unproved.proof = request(&other, &seed(), lab.dir.path()).proof;
    let unproved = lab.enrol(&good, &unproved).await;
    assert_eq!(
        (unproved.0, read::<Problem>(&unproved).kind.as_str()),
        (400, "enrol-request")
    );
    // A member that nobody knows.
    let mut asked = serde_json::to_value(request(&good, &seed(), lab.dir.path())).unwrap();
    asked["admin"] = true.into();
    let mut stranger = lab.stranger().await;
    let strange = stranger.json(Method::POST, "/node/v1/enrol", &asked).await;
    assert_eq!(strange.0, 400);
    // One byte too much.
    let mut long = request(&good, &seed(), lab.dir.path());
    long.facts.kernel = "6".repeat(257);
    assert_eq!(lab.enrol(&good, &long).await.0, 400);
    let huge = Request::builder().method(Method::POST);
    let huge = stranger
        .send(huge, "/node/v1/enrol", vec![b' '; 2 << 20])
        .await;
    assert_eq!(huge.0, 413);
    // None of this has used the token.
    let last = lab
        .enrol(&good, &request(&good, &seed(), lab.dir.path()))
        .await;
    assert_eq!(last.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_enrols_nobody() {
    let lab = Lab::new().await;
    let secret = stockade_control::secret().unwrap();
    let now = stockade_control::now();
    let row = stockade_control::state::EnrolTokenRow {
        owner: None,
        team: None,
        created_by: "test".to_owned(),
        expires: UnixMillis(now.0 - 1),
    };
    let hash = stockade_control::hash(&secret);
    lab.server
        .state
        .add_enrol_tokens(&[hash], &row, now)
        .await
        .unwrap();
    let mut token = lab.token(None).await;
    token.secret = secret;
    let late = lab
        .enrol(&token, &request(&token, &seed(), lab.dir.path()))
        .await;
    assert_eq!(read::<Problem>(&late).kind, "enrol-token-expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_certificate_of_this_server_opens_anything() {
    let lab = Lab::new().await;
    let other = Lab::new().await;
    let machine = lab.machine(None).await;
    let paths = [
        "/node/v1/hello",
        "/node/v1/cert",
        "/node/v1/acks",
        "/node/v1/leave",
    ];
    // Without a certificate.
    let mut stranger = lab.stranger().await;
    for path in paths {
        let refused = stranger.json(Method::POST, path, &hello()).await;
        assert_eq!(refused.0, 401, "{path}");
    }
    // A certificate of another server's authority does not get through TLS: at the latest the first
    // request fails, because in TLS 1.3 the client may write before the server has looked.
    let foreign = (machine.answer.certificate.as_str(), &machine.seed);
    if let Ok(mut client) = Client::connect(&other, Some(foreign)).await {
        assert_eq!(client.json(Method::POST, paths[0], &hello()).await.0, 0);
    }
    // The certificate of one machine with the key of another.
    let second = lab.machine(None).await;
    let mixed = (second.answer.certificate.as_str(), &machine.seed);
    if let Ok(mut client) = Client::connect(&lab, Some(mixed)).await {
        assert_eq!(client.json(Method::POST, paths[0], &hello()).await.0, 0);
    }
    // A certificate that this authority has made and the server does not know.
    let key = stockade_trust::SecretKey::from_seed(&[7; 32]).public();
    let stray = lab
        .server
        .authority
        .node(&NodeId::from_random(1), &key)
        .unwrap();
    let mut client = Client::connect(&lab, Some((&stray.pem, &[7; 32])))
        .await
        .unwrap();
    assert_eq!(client.json(Method::POST, paths[0], &hello()).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_and_a_retired_machine_is_cut_off() {
    let lab = Lab::new().await;
    let mut machine = lab.machine(None).await;
    let renewed = machine
        .client
        .json(Method::POST, "/node/v1/cert", &())
        .await;
    let renewed: CertificateAnswer = read(&renewed);
    let new = (renewed.certificate.as_str(), &machine.seed);
    let mut second = Client::connect(&lab, Some(new)).await.unwrap();
    assert_eq!(
        second
            .json(Method::POST, "/node/v1/hello", &hello())
            .await
            .0,
        200
    );
    let mut down = second.stream().await;
    assert!(matches!(
        down.next().await,
        Some(Down::Directory { .. } | Down::Heartbeat { .. })
    ));
    let begun = std::time::Instant::now();
    assert!(lab.server.retire(&machine.id, "test").await.unwrap());
    assert!(!lab.server.retire(&machine.id, "test").await.unwrap());
    loop {
        match down.next().await {
            Some(Down::Retired) => break,
            Some(_) => {}
            None => panic!("the stream ended without a word"),
        }
    }
    assert_eq!(down.next().await, None);
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    // Both certificates are worth nothing now, on connections that are open too.
    for client in [&mut machine.client, &mut second] {
        assert_eq!(
            client
                .json(Method::POST, "/node/v1/hello", &hello())
                .await
                .0,
            401
        );
    }
}

/// Each misuse of a token is refused, by its own name, and is one event in the record.
#[tokio::test(flavor = "multi_thread")]
async fn each_misuse_of_a_token_is_refused_and_is_one_event() {
    let lab = Lab::new().await;
    let machine = lab.machine(None).await;
    let used = lab.token(None).await;
    assert_eq!(
        lab.enrol(&used, &request(&used, &seed(), lab.dir.path()))
            .await
            .0,
        200
    );
    let good = lab.token(None).await;
    let mut unknown = good.clone();
    unknown.secret = stockade_control::secret().unwrap();
    let mut expired = good.clone();
    expired.secret = stockade_control::secret().unwrap();
    let now = stockade_control::now();
    let row = stockade_control::state::EnrolTokenRow {
        owner: None,
        team: None,
        created_by: "test".to_owned(),
        expires: UnixMillis(now.0 - 1),
    };
    let hash = stockade_control::hash(&expired.secret);
    lab.server
        .state
        .add_enrol_tokens(&[hash], &row, now)
        .await
        .unwrap();
    let rows = [
        ("enrol-token-used", &used, seed()),
        ("enrol-token-unknown", &unknown, seed()),
        ("enrol-token-expired", &expired, seed()),
        ("enrol-key-taken", &good, machine.seed),
    ];
    for (kind, token, seed) in &rows {
        let refused = lab
            .enrol(token, &request(token, seed, lab.dir.path()))
            .await;
        assert_eq!(
            (refused.0, read::<Problem>(&refused).kind.as_str()),
            (403, *kind)
        );
    }
    let noted = crate::jobs::refusals(&lab).await;
    assert_eq!(noted.len(), rows.len(), "{noted:?}");
    for ((kind, ..), line) in rows.iter().zip(&noted) {
        assert!(line.contains(kind), "{kind}: {line}");
    }
    // The token of the last row is not used up by that.
    let last = lab
        .enrol(&good, &request(&good, &seed(), lab.dir.path()))
        .await;
    assert_eq!(last.0, 200);
}

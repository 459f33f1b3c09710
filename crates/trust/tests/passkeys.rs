//! Passkeys of the three kinds, and public keys that are none.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use stockade_trust::{Algorithm, Assertion, Passkey, PasskeyError, SecretKey};
use stockade_types::Digest;

use crate::lab::{party, unhex};

/// What a browser says and what an authenticator says for a challenge.
fn said(challenge: &[u8], counter: u8) -> (Vec<u8>, Vec<u8>) {
    let client = format!(
        r#"{{"type":"webauthn.get","challenge":"{}","origin":"{}","crossOrigin":false}}"#,
        URL_SAFE_NO_PAD.encode(challenge),
        party().origin
    );
    let mut data = Digest::of(party().id.as_bytes()).as_bytes().to_vec();
    data.extend_from_slice(&[5, 0, 0, 0, counter]);
    (data, client.into_bytes())
}

/// A key and a signature that OpenSSL 3.0 made; the secret key is gone.
#[test]
fn rs256_is_checked() {
    let text = include_str!("data/rs256.txt");
    let mut lines = text
        .lines()
        .map(|line| URL_SAFE_NO_PAD.decode(line).expect("base64url"));
    let (spki, signature) = (
        lines.next().expect("a key"),
        lines.next().expect("a signature"),
    );
    let passkey = Passkey::new(b"rsa", Algorithm::Rs256, &spki).expect("a passkey");
    let challenge = Digest::of(b"ballot");
    let (data, client) = said(challenge.as_bytes(), 1);
    let check = |signature: &[u8]| {
        let assertion = Assertion::new(b"rsa", &data, &client, signature);
        passkey.check(&assertion, challenge.as_bytes(), &party())
    };
    assert_eq!(check(&signature), Ok(()));
    let mut wrong = signature.clone();
    wrong[9] ^= 1;
    assert_eq!(check(&wrong), Err(PasskeyError::Signature));
    // A list that is longer or shorter than it says is no key.
    for cut in [spki.len() - 1, 20, 5, 0] {
        let none = Passkey::new(b"rsa", Algorithm::Rs256, &spki[..cut]);
        assert_eq!(none, Err(PasskeyError::Key));
    }
    let longer = [spki.as_slice(), b"x"].concat();
    assert_eq!(
        Passkey::new(b"rsa", Algorithm::Rs256, &longer),
        Err(PasskeyError::Key)
    );
    assert_eq!(
        Passkey::new(b"rsa", Algorithm::Es256, &spki),
        Err(PasskeyError::Key)
    );
}

#[test]
fn eddsa_is_checked() {
    let key = SecretKey::from_seed(&[3; 32]);
    let text = key.public().to_string();
    let bytes = URL_SAFE_NO_PAD
        .decode(&text["ed25519:".len()..])
        .expect("base64url");
    let spki = [unhex("302a300506032b6570032100"), bytes].concat();
    let passkey = Passkey::new(b"ed", Algorithm::EdDsa, &spki).expect("a passkey");
    let challenge = Digest::of(b"ballot");
    let (data, client) = said(challenge.as_bytes(), 0);
    let mut message = data.clone();
    message.extend_from_slice(Digest::of(&client).as_bytes());
    let assertion = |signature: &[u8]| Assertion::new(b"ed", &data, &client, signature);
    let good = assertion(&key.sign(&message));
    assert_eq!(passkey.check(&good, challenge.as_bytes(), &party()), Ok(()));
    let other = Digest::of(b"other");
    let judged = passkey.check(&good, other.as_bytes(), &party());
    assert_eq!(judged, Err(PasskeyError::Challenge));
    let bad = assertion(&key.sign(b"other"));
    let judged = passkey.check(&bad, challenge.as_bytes(), &party());
    assert_eq!(judged, Err(PasskeyError::Signature));
    // A key of small order fits any message.
    let weak = [unhex("302a300506032b6570032100"), vec![0; 32]].concat();
    let weak = Passkey::new(b"ed", Algorithm::EdDsa, &weak).expect("the length is right");
    let judged = weak.check(&good, challenge.as_bytes(), &party());
    assert!(judged.is_err(), "{judged:?}");
}

#[test]
fn what_cannot_be_read_is_refused() {
    let key = crate::lab::Authenticator::new("x");
    let challenge = Digest::of(b"ballot");
    let (data, client) = said(challenge.as_bytes(), 0);
    let check = |data: &[u8], client: &[u8]| {
        let assertion = Assertion::new(b"x", data, client, b"");
        key.passkey()
            .check(&assertion, challenge.as_bytes(), &party())
    };
    assert_eq!(check(&data, b"{"), Err(PasskeyError::ClientData));
    assert_eq!(check(&data, &[b' '; 5000]), Err(PasskeyError::ClientData));
    assert_eq!(
        check(&data[..36], &client),
        Err(PasskeyError::AuthenticatorData)
    );
    assert_eq!(
        check(&[0; 5000], &client),
        Err(PasskeyError::AuthenticatorData)
    );
    let framed = String::from_utf8(client.clone())
        .expect("UTF-8")
        .replace("false", "true");
    assert_eq!(check(&data, framed.as_bytes()), Err(PasskeyError::Origin));
    assert_eq!(check(&data, &client), Err(PasskeyError::Signature));
    for number in [0, -6, 7, i32::MIN] {
        assert!(Algorithm::try_from(number).is_err());
    }
}

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use stockade_trust::RelyingParty;
use stockade_types::Digest;

use super::{Registered, RegistrationError};

fn party() -> RelyingParty {
    RelyingParty {
        id: "stockade.test".to_owned(),
        origin: "https://stockade.test:7444".to_owned(),
    }
}

/// What a browser sends for a key of P-256, as parts that a test can change.
struct Made {
    id: Vec<u8>,
    told_id: Vec<u8>,
    kind: &'static str,
    origin: &'static str,
    cross_origin: bool,
    party: &'static str,
    flags: u8,
    spki: Vec<u8>,
    cose: Vec<u8>,
    algorithm: i32,
}

impl Made {
    fn new() -> Self {
        // x and y of the base point: a point that is on the curve.
        let x = "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296";
        let y = "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
        let head = "3059301306072a8648ce3d020106082a8648ce3d03010703420004";
        Self {
            id: b"key-1".to_vec(),
            told_id: b"key-1".to_vec(),
            kind: "webauthn.create",
            origin: "https://stockade.test:7444",
            cross_origin: false,
            party: "stockade.test",
            flags: 0x45,
            spki: unhex(&format!("{head}{x}{y}")),
            cose: unhex(&format!("a5010203262001215820{x}225820{y}")),
            algorithm: -7,
        }
    }

    fn check(&self) -> Result<super::Fresh, RegistrationError> {
        let mut data = Digest::of(self.party.as_bytes()).as_bytes().to_vec();
        data.push(self.flags);
        data.extend_from_slice(&[0; 4 + 16]);
        let length = u16::try_from(self.told_id.len()).expect("it is short");
        data.extend_from_slice(&length.to_be_bytes());
        data.extend_from_slice(&self.told_id);
        data.extend_from_slice(&self.cose);
        let client = format!(
            r#"{{"type":"{}","challenge":"{}","origin":"{}","crossOrigin":{}}}"#,
            self.kind,
            URL_SAFE_NO_PAD.encode([7; 32]),
            self.origin,
            self.cross_origin
        );
        let registered = Registered {
            id: URL_SAFE_NO_PAD.encode(&self.id),
            client_data: URL_SAFE_NO_PAD.encode(client),
            authenticator_data: URL_SAFE_NO_PAD.encode(data),
            public_key: URL_SAFE_NO_PAD.encode(&self.spki),
            algorithm: self.algorithm,
        };
        registered.check(&party())
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("digits");
        u8::from_str_radix(pair, 16).expect("digits")
    };
    digits.map(byte).collect()
}

#[test]
fn what_a_browser_registers_is_taken() {
    let fresh = Made::new().check().expect("it is a registration");
    assert_eq!(fresh.id, b"key-1");
    assert_eq!(fresh.challenge, [7; 32]);
}

#[test]
fn nothing_else_is_a_registration() {
    let change = |change: fn(&mut Made)| {
        let mut made = Made::new();
        change(&mut made);
        made.check().expect_err("it is none")
    };
    let origin = || RegistrationError::Origin(party().origin);
    assert_eq!(
        change(|made| made.kind = "webauthn.get"),
        RegistrationError::Type
    );
    assert_eq!(change(|made| made.origin = "https://evil.test"), origin());
    assert_eq!(
        change(|made| made.origin = "https://stockade.test"),
        origin()
    );
    assert_eq!(change(|made| made.cross_origin = true), origin());
    assert_eq!(
        change(|made| made.party = "evil.test"),
        RegistrationError::Party(party().id)
    );
    for flags in [0x40, 0x41, 0x44] {
        let mut made = Made::new();
        made.flags = flags;
        assert_eq!(
            made.check().expect_err("{flags}"),
            RegistrationError::Verification
        );
    }
    assert_eq!(
        change(|made| made.flags = 0x05),
        RegistrationError::OtherKey
    );
    assert_eq!(
        change(|made| made.told_id = b"key-2".to_vec()),
        RegistrationError::OtherKey
    );
    // A key that the authenticator did not make.
    let other = |made: &mut Made| {
        if let Some(last) = made.spki.last_mut() {
            *last ^= 1;
        }
    };
    assert_eq!(change(other), RegistrationError::OtherKey);
    assert_eq!(
        change(|made| made.cose.clear()),
        RegistrationError::OtherKey
    );
    let wrong_kind = RegistrationError::Key(stockade_trust::PasskeyError::Key);
    assert_eq!(change(|made| made.algorithm = -8), wrong_kind);
    assert_eq!(
        change(|made| made.algorithm = -37),
        RegistrationError::Algorithm
    );
    assert_eq!(
        change(|made| made.spki.clear()),
        RegistrationError::OtherKey
    );
}

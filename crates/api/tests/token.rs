//! Tokens for enrolment.

use stockade_api::{EnrolToken, TokenError, proof_message};
use stockade_types::{Digest, UnixMillis};

fn token() -> EnrolToken {
    EnrolToken {
        url: "https://stockade.test:7443".to_owned(),
        ca: Digest::of(b"authority"),
        secret: "c2VjcmV0".to_owned(),
        expires: UnixMillis(1),
    }
}

#[test]
fn a_token_comes_back_and_does_not_print() {
    let text = token().to_string();
    assert!(text.starts_with("stk1."), "{text}");
    assert_eq!(format!(" {text}\n").parse(), Ok(token()));
    assert!(!format!("{:?}", token()).contains("c2VjcmV0"));
}

#[test]
fn what_is_cut_or_longer_is_no_token() {
    let text = token().to_string();
    for end in 0..text.len() {
        assert!(text[..end].parse::<EnrolToken>().is_err(), "{end}");
    }
    assert_eq!(
        format!("{text}AA").parse::<EnrolToken>(),
        Err(TokenError::Content)
    );
    assert_eq!(
        format!("{text}{}", "A".repeat(5_000)).parse::<EnrolToken>(),
        Err(TokenError::Form)
    );
    assert_eq!("stkt_1234".parse::<EnrolToken>(), Err(TokenError::Form));
}

#[test]
fn a_proof_is_for_one_secret() {
    assert_ne!(proof_message("a"), proof_message("b"));
    assert!(proof_message("a").starts_with(b"stockade enrol 1\0"));
}

//! What a machine and a server of different versions say to each other.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use stockade_api::{
    NodeId, Order, What,
    node::{Ack, AckState, Down, Facts, Hello, HelloAnswer},
};
use stockade_trust::UserId;
use stockade_types::{SessionId, UnixMillis};

fn facts() -> Facts {
    Facts {
        version: "9.0.0".to_owned(),
        kernel: "6.18".to_owned(),
        hostname: "laptop".to_owned(),
        tiers: vec!["native".to_owned()],
        guarantees_missing: Vec::new(),
    }
}

/// Reads a message to which a later version has added something.
fn later<T: Serialize + DeserializeOwned>(message: &T) -> Result<T, serde_json::Error> {
    let mut value = serde_json::to_value(message).unwrap();
    value["from_the_future"] = json!({"deep": [1, 2]});
    serde_json::from_value(value)
}

#[test]
fn what_a_later_version_adds_about_itself_is_left_out() {
    assert_eq!(later(&facts()).unwrap(), facts());
    let hello = Hello {
        facts: facts(),
        sessions: Vec::new(),
        bundle: None,
        directory_serial: 3,
        now: UnixMillis(5),
    };
    assert_eq!(later(&hello).unwrap(), hello);
    let answer = HelloAnswer {
        wanted: Vec::new(),
        bundle: None,
        directory: None,
        pointer: None,
        membership: None,
        now: UnixMillis(5),
    };
    assert_eq!(later(&answer).unwrap(), answer);
    let ack = Ack {
        channel: "default".to_owned(),
        serial: 2,
        state: AckState::Stored,
        error: None,
        session: None,
        rollout: None,
    };
    assert_eq!(later(&ack).unwrap(), ack);
}

#[test]
fn a_message_of_a_later_server_is_no_mistake_and_no_other_message() {
    let read = |text: &str| serde_json::from_str::<Down>(text);
    assert_eq!(
        read(r#"{"type":"tomorrow","envelope":{"x":1}}"#).unwrap(),
        Down::Unknown
    );
    // The control: what is known is read, and what is known and broken is a mistake.
    assert_eq!(read(r#"{"type":"retired"}"#).unwrap(), Down::Retired);
    assert!(read(r#"{"type":"restarting"}"#).is_err());
    assert!(read("{}").is_err());
}

#[test]
fn what_is_signed_has_nothing_that_is_not_known() {
    let order = Order {
        org: "acme".to_owned(),
        node: NodeId::from_random(7),
        session: SessionId::from_random(5),
        what: What::Stop,
        id: "o-1".to_owned(),
        by: UserId("u-1".to_owned()),
        not_after: UnixMillis(9),
    };
    let order = serde_json::to_value(order).unwrap();
    assert!(
        serde_json::from_value::<Order>(order.clone()).is_ok(),
        "the control"
    );
    let mut more = order;
    more["also"] = json!(true);
    assert!(serde_json::from_value::<Order>(more).is_err());
}

//! Rules about addresses, where names lead there.
#![expect(clippy::unwrap_used, reason = "a broken fixture must end the test")]

use stockade_policy::{HostSets, NetRequest, Origin, Policy, Source, load};
use stockade_types::{Port, Subject};

const ALLOWED: &str = r#"
[[allow]]
id = "inside"
what = "net"
hosts = ["internal.test"]
private = true
reason = "ours"
"#;
const DENIED: &str = r#"
[[deny]]
id = "closed"
what = "net"
hosts = ["10.0.0.0/8", "203.0.113.0/24"]
reason = "closed"
"#;

fn loaded(text: &str) -> Policy {
    let source = Source {
        origin: Origin::User,
        name: "user.toml".to_owned(),
        text: format!("schema = 1\n{text}"),
    };
    load(&[source], &HostSets::default()).unwrap()
}

/// A rule that denies a network holds for a name that leads there, also if the name may lead to private
/// addresses: then no control denies it any more.
#[test]
fn a_denied_network_is_denied_to_names_that_may_be_private() {
    let policy = loaded(&format!("{ALLOWED}{DENIED}"));
    let request = NetRequest {
        host: "internal.test".parse().unwrap(),
        port: Port::new(443).unwrap(),
        subject: Subject::default(),
    };
    let denied = |address: &str| {
        let decision = policy.denies_address(&request, address.parse().unwrap())?;
        Some(decision.rule?.as_str().to_owned())
    };
    for address in ["10.1.2.3", "::ffff:10.1.2.3", "203.0.113.7"] {
        assert_eq!(denied(address).as_deref(), Some("closed"), "{address}");
    }
    // So it is if a policy that was published since denies the network.
    let before = loaded(ALLOWED);
    assert!(
        before
            .denies_address(&request, "10.1.2.3".parse().unwrap())
            .is_none()
    );
    before.tighten(Some(loaded(&format!("{ALLOWED}{DENIED}"))));
    assert!(
        before
            .denies_address(&request, "10.1.2.3".parse().unwrap())
            .is_some()
    );
    // Beside them nothing is denied.
    for address in ["192.168.1.1", "198.51.100.1"] {
        assert_eq!(denied(address), None, "{address}");
    }
}

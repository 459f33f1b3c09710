//! Mail by a relay on loopback: to whom, what is in it, and to which relay nothing is said.

use std::{
    collections::BTreeSet,
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use stockade_testkit::lab::{Letter, Relay, RelayRules};

use super::{
    lab::Lab,
    telling::{PATIENCE, Receiver, channel},
};
use crate::{
    notice::{Channel, Form, Kind},
    notify::{MailSettings, MailTls, probe},
    now,
    state::ChannelRow,
};

fn settings(relay: &Relay, tls: MailTls, login: Option<(&str, &str)>) -> MailSettings {
    MailSettings {
        host: "localhost".to_owned(),
        port: relay.port(),
        tls,
        login: login.map(|(name, password)| (name.to_owned(), password.to_owned())),
        from: "stockade@acme.test".to_owned(),
        domains: vec!["acme.test".to_owned()],
        private: true,
        authorities: Some(relay.certificate_pem().to_owned()),
    }
}

fn with_login() -> RelayRules {
    RelayRules {
        login: Some(("stockade".to_owned(), "pass word".to_owned())),
        ..RelayRules::default()
    }
}

impl Lab {
    fn relay(&self, settings: &MailSettings) {
        settings.write(&self.server.data.keys_path()).unwrap();
    }

    async fn mailbox(&self, to: &str, roles: &[&str]) -> ChannelRow {
        let channel = Channel {
            form: Form::Mail,
            to: to.to_owned(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            private: false,
            authorities: None,
            ..channel(Form::Mail, &Receiver::start())
        };
        self.add(channel).await
    }
}

async fn received(relay: &Relay, count: usize) -> Vec<Letter> {
    let begun = Instant::now();
    loop {
        let letters = relay.letters();
        if letters.len() >= count {
            return letters;
        }
        assert!(begun.elapsed() < PATIENCE, "{letters:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// By STARTTLS and by TLS from the beginning, with both ways to log in; nothing but `EHLO` and `STARTTLS` is
/// said in clear.
#[tokio::test(flavor = "multi_thread")]
async fn mail_of_a_question_arrives() {
    for (implicit, ways) in [(false, "PLAIN LOGIN"), (true, "LOGIN"), (false, "PLAIN")] {
        let relay = Relay::start(RelayRules {
            implicit,
            ways: ways.to_owned(),
            ..with_login()
        });
        let tls = if implicit {
            MailTls::Implicit
        } else {
            MailTls::Starttls
        };
        let lab = Lab::start().await;
        lab.relay(&settings(&relay, tls, Some(("stockade", "pass word"))));
        let lee = lab.person("lee", &["developer"]).await;
        let name = "laptop\r\nBcc: eve@evil.test\r\n.\r\nhttps://evil.test/a";
        let machine = lab.machine(name, Some(&lee)).await;
        lab.mailbox("owners@acme.test", &["owner"]).await;
        lab.mailbox("security@acme.test", &["security"]).await;
        let question = lab.asked(&machine, "paste.test").await;
        let letters = received(&relay, 1).await;
        let letter = &letters[0];
        assert_eq!(letter.from, "stockade@acme.test");
        assert_eq!(letter.to, ["owners@acme.test"]);
        assert_eq!(letter.header("subject"), ["A question waits for owner"]);
        assert_eq!(letter.header("to"), ["<owners@acme.test>"]);
        assert_eq!(letter.header("bcc"), [""; 0]);
        assert_eq!(letter.headers.len(), 9, "{:?}", letter.headers);
        let lines: Vec<&str> = letter.text.lines().collect();
        let link = format!("{}/inbox/{question}", lab.origin);
        assert!(lines.contains(&link.as_str()), "{}", letter.text);
        // The name of a machine is no link, no line and no header.
        assert!(!letter.text.contains("evil.test"), "{}", letter.text);
        assert!(
            lines.iter().any(|line| line.starts_with("Machine: laptop")),
            "{}",
            letter.text
        );
        assert!(!letter.text.contains("paste.test"), "{}", letter.text);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(relay.letters().len(), 1, "security is not asked yet");
        let clear = relay.in_clear();
        let expected: &[&str] = if implicit {
            &[]
        } else {
            &["EHLO localhost", "STARTTLS"]
        };
        assert_eq!(clear, expected);
    }
}

/// A relay that is not the one that is known, offers no TLS, or says something before TLS gets nothing, least of
/// all the password.
#[tokio::test(flavor = "multi_thread")]
async fn no_other_relay_gets_mail_or_the_password() {
    let login = Some(("stockade", "pass word"));
    let good = Relay::start(with_login());
    let probed = probe(settings(&good, MailTls::Starttls, login), "stockade.test").await;
    assert_eq!(probed, Ok(()));
    let other = Relay::start(RelayRules::default());
    let no_tls = Relay::start(RelayRules {
        offers_tls: false,
        ..with_login()
    });
    let injects = Relay::start(RelayRules {
        injects: "250 AUTH PLAIN\r\n".to_owned(),
        ..with_login()
    });
    let no_way = Relay::start(RelayRules {
        ways: "CRAM-MD5".to_owned(),
        ..with_login()
    });
    let of = |relay: &Relay| settings(relay, MailTls::Starttls, login);
    let stranger = MailSettings {
        authorities: Some(other.certificate_pem().to_owned()),
        ..of(&good)
    };
    let wrong = settings(&good, MailTls::Starttls, Some(("stockade", "guess")));
    let closed = MailSettings {
        private: false,
        ..of(&good)
    };
    let implicit = settings(&good, MailTls::Implicit, login);
    for (settings, why) in [
        (stranger, "certificate"),
        (wrong, "AUTH with 535"),
        (closed, "private network"),
        (of(&no_tls), "does not offer STARTTLS"),
        (of(&injects), "before TLS"),
        (of(&no_way), "neither AUTH PLAIN nor AUTH LOGIN"),
        (implicit, "cannot connect"),
    ] {
        let refused = probe(settings, "stockade.test").await.unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    for relay in [&good, &no_tls, &injects, &no_way] {
        assert_eq!(relay.letters(), []);
        let said = relay.in_clear();
        let fine =
            |line: &String| line.starts_with("EHLO") || line == "STARTTLS" || !line.is_ascii();
        assert!(
            said.iter().all(|line| fine(line) && !line.contains("AUTH")),
            "{said:?}"
        );
    }
}

/// Settings that others could read, or that are not accepted, are not used.
#[test]
fn settings_of_the_relay_are_checked() {
    let relay = Relay::start(RelayRules::default());
    let dir = tempfile::tempdir().unwrap();
    let good = settings(&relay, MailTls::Starttls, Some(("a", "b")));
    good.write(dir.path()).unwrap();
    assert_eq!(MailSettings::read(dir.path()).unwrap(), Some(good.clone()));
    assert!(!format!("{good:?}").contains("\"b\""));
    let path = dir.path().join("mail.json");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(MailSettings::read(dir.path()).is_err());
    for wrong in [
        MailSettings {
            host: "a b".to_owned(),
            ..good.clone()
        },
        MailSettings {
            host: String::new(),
            ..good.clone()
        },
        MailSettings {
            port: 0,
            ..good.clone()
        },
        MailSettings {
            from: "stockade".to_owned(),
            ..good.clone()
        },
        MailSettings {
            from: "a@b\r\nBcc: eve@evil.test".to_owned(),
            ..good.clone()
        },
        MailSettings {
            from: "Eve <a@acme.test>".to_owned(),
            ..good.clone()
        },
        MailSettings {
            login: Some(("a\0b".to_owned(), "c".to_owned())),
            ..good.clone()
        },
        MailSettings {
            domains: vec!["acme.test>".to_owned()],
            ..good.clone()
        },
    ] {
        assert!(wrong.check().is_err(), "{wrong:?}");
    }
    assert!(MailSettings::remove(dir.path()).unwrap());
    assert!(!MailSettings::remove(dir.path()).unwrap());
    assert_eq!(MailSettings::read(dir.path()).unwrap(), None);
}

/// People name an address of their own, in a domain of the organisation, and have mail of questions that ask
/// their roles: not of others', and not of their own.
#[tokio::test(flavor = "multi_thread")]
async fn people_have_mail_of_questions_that_ask_them() {
    let relay = Relay::start(RelayRules::default());
    let lab = Lab::start().await;
    let lee = lab.person("lee", &["developer", "owner"]).await;
    let ann = lab.person("ann", &["owner"]).await;
    let bob = lab.person("bob", &["security"]).await;
    let machine = lab.machine("laptop", Some(&lee)).await;
    // Without a relay nobody has mail.
    let own = [("address", "ann@acme.test")];
    lab.post(&ann, "/settings/mail", &own).await.is(409);
    lab.relay(&settings(&relay, MailTls::Starttls, None));
    for wrong in [
        "ann@evil.test",
        "ann@sub.acme.test",
        "ann@acme.test.evil.test",
        "ann",
        "ann@acme.test\r\nBcc: eve@evil.test",
        "\"a b\"@acme.test",
        "ann@acme.test, eve@evil.test",
        "eve@evil.test <ann@acme.test",
        "ann@acme.test>",
    ] {
        let fields = [("address", wrong)];
        lab.post(&ann, "/settings/mail", &fields).await.is(400);
    }
    for (person, address) in [
        (&lee, "lee@acme.test"),
        (&ann, "old@acme.test"),
        (&ann, "ann@acme.test"),
        (&bob, "bob@acme.test"),
    ] {
        let fields = [("address", address)];
        lab.post(person, "/settings/mail", &fields).await.is(303);
    }
    let page = lab.get(&ann, "/settings").await.is(200);
    assert!(page.body.contains("ann@acme.test"), "{}", page.body);
    assert!(!page.body.contains("bob@acme.test"), "{}", page.body);
    lab.asked(&machine, "paste.test").await;
    let letters = received(&relay, 1).await;
    assert_eq!(letters[0].to, ["ann@acme.test"]);
    // Who is removed, or lost the role, has no more mail; nobody has mail of anything else.
    let id = stockade_trust::UserId(ann.id.clone());
    let user = lab.state.user(&id).await.unwrap().unwrap();
    let none = crate::state::WantedRoles::default();
    let changed = lab
        .state
        .set_roles((&id, user.version), &none, "u-1", now());
    assert_eq!(changed.await.unwrap(), crate::state::Change::Done);
    lab.asked(&machine, "paste.test").await;
    let accused = lab.state.accuse(&machine.id, None, "cut", "cut", now());
    accused.await.unwrap();
    let admin = lab.person("root", &["admin"]).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(relay.letters().len(), 1);
    // An administrator does not see whose address is which.
    let data = lab.get(&admin, "/api/v1/settings").await.is(200);
    assert!(
        !data.body.contains("bob@") && !data.body.contains("ann@"),
        "{}",
        data.body
    );
    // Without an address nothing comes.
    lab.state
        .give_role(&id, "owner", "u-1", now())
        .await
        .unwrap();
    let ann = lab.signed_in(&id, now()).await;
    lab.post(&ann, "/settings/mail", &[("address", "")])
        .await
        .is(303);
    lab.asked(&machine, "paste.test").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(relay.letters().len(), 1);
}

/// A mailbox that the relay does not take is tried again, and the mail of others goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_that_is_not_there_keeps_no_mail_of_others() {
    let relay = Relay::start(RelayRules::default());
    let lab = Lab::start().await;
    lab.relay(&settings(&relay, MailTls::Starttls, None));
    let machine = lab.machine("laptop", None).await;
    let nobody = lab.mailbox("nobody@acme.test", &[]).await;
    let there = lab.mailbox("team@acme.test", &[]).await;
    assert_eq!(
        there.channel.kinds,
        Kind::ALL
            .iter()
            .map(|(kind, ..)| *kind)
            .collect::<BTreeSet<_>>()
    );
    let accused = lab.state.accuse(&machine.id, None, "cut", "cut", now());
    accused.await.unwrap();
    let letters = received(&relay, 1).await;
    assert_eq!(letters[0].to, ["team@acme.test"]);
    assert_eq!(
        letters[0].header("subject"),
        ["A finding of high severity was raised"]
    );
    let begun = Instant::now();
    loop {
        let standing = lab.state.standing_of(&nobody.id).await.unwrap();
        if standing
            .error
            .is_some_and(|error| error.contains("550 no such mailbox"))
        {
            assert_eq!(standing.waiting, 1);
            break;
        }
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

//! What servers get, and what programs inside have.

use stockade_testkit::{events, run::require_tool};

use super::lab::{Lab, VALUE, for_each_user};

/// The server gets the value; the program sees a placeholder of the same shape, and neither the record
/// nor anything it prints has the value.
#[test]
fn servers_get_the_value_and_programs_a_placeholder() {
    require_tool("curl");
    let header = "kind = \"header\"\nheader = \"x-api-key\"\nsource = { env = \"SVC_TOKEN\" }\n\
                  as = \"INNER\"\n";
    let bearer = "kind = \"bearer\"\nsource = { env = \"SVC_TOKEN\" }\nas = \"SVC_TOKEN\"\n";
    for (credential, field, sent, expected) in [
        (header, "x-api-key", "x-api-key: $INNER", VALUE.to_owned()),
        (
            bearer,
            "authorization",
            "authorization: Bearer $SVC_TOKEN",
            format!("Bearer {VALUE}"),
        ),
    ] {
        for_each_user(|env| {
            let lab = Lab::new(env, credential);
            let line = format!(
                "curl -sS -m 10 -H \"{sent}\" GOOD/a; curl -sS -m 10 -H \"{sent}\" GOOD/b; env"
            );
            let output = lab.run(env, &line);
            let expected = Some(expected.clone());
            assert_eq!(lab.got(field), [expected.clone(), expected], "{output:?}");
            assert!(!output.stdout.contains(VALUE), "{output:?}");
            output.assert_stdout("=sk-ant-api03-");
            let record = env.record();
            let used = record
                .iter()
                .filter(|event| event.kind() == "credential.used");
            assert_eq!(used.count(), 2, "{}", events::summary(&record));
            assert!(!format!("{record:?}").contains(VALUE));
        });
    }
}

/// A placeholder in a request that the credential is not for, or in another part of one, is not
/// replaced: nothing of the request arrives, and the refusal says why.
#[test]
fn a_placeholder_elsewhere_is_refused() {
    require_tool("curl");
    let credential = "kind = \"header\"\nheader = \"x-api-key\"\nsource = { env = \"SVC_TOKEN\" }\n\
                      as = \"SVC_TOKEN\"\nmethods = [\"GET\", \"TRACE\"]\npaths = [\"/api/**\"]\n";
    let key = "-H \"x-api-key: $SVC_TOKEN\"";
    let wrong = [
        format!("{key} EVIL/api/host"),
        format!("{key} GOOD/other/path"),
        format!("{key} --path-as-is GOOD/api/../other"),
        format!("{key} -X DELETE GOOD/api/method"),
        format!("{key} -X TRACE GOOD/api/trace"),
        format!("{key} {key} GOOD/api/twice"),
        "-H \"x-other: $SVC_TOKEN\" GOOD/api/field".to_owned(),
        "-H \"authorization: Bearer $SVC_TOKEN\" GOOD/api/bearer".to_owned(),
        "-A \"agent $SVC_TOKEN\" GOOD/api/agent".to_owned(),
        "-H \"x-api-key: x$SVC_TOKEN\" GOOD/api/part".to_owned(),
        "-u \"user:$SVC_TOKEN\" GOOD/api/login".to_owned(),
        "-u \"user:$SVC_TOKEN\" EVIL/api/login".to_owned(),
        "\"GOOD/api/query?key=$SVC_TOKEN\"".to_owned(),
        "-H \"$SVC_TOKEN: x\" GOOD/api/name".to_owned(),
    ];
    for_each_user(|env| {
        let lab = Lab::new(env, credential);
        let line: Vec<String> = wrong
            .iter()
            .map(|one| format!("curl -sS -m 10 -o /dev/null -w '%{{http_code}}\\n' {one}"))
            .collect();
        let line = format!(
            "{}; curl -sS -0 --no-alpn -m 10 {key} GOOD/api/right",
            line.join("; ")
        );
        let output = lab.run(env, &line);
        assert_eq!(
            output.stdout.matches("403\n").count(),
            wrong.len(),
            "{output:?}"
        );
        assert!(lab.evil.requests().is_empty(), "{output:?}");
        assert_eq!(lab.got("x-api-key"), [Some(VALUE.to_owned())], "{output:?}");
        let record = env.record();
        let refused = record
            .iter()
            .filter(|event| event.rule() == "credential-misuse");
        assert_eq!(refused.count(), wrong.len(), "{}", events::summary(&record));
        let used = record
            .iter()
            .filter(|event| event.kind() == "credential.used");
        assert_eq!(used.count(), 1, "{}", events::summary(&record));
    });
}

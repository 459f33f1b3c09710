//! Requests that are signed for AWS.

use serde_json::json;
use stockade_testkit::{TestEnv, events, http::Request, run::require_tool};

use super::lab::{Lab, for_each_user};

const ID: &str = "AKIAREALKEYREALKEY00";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiMARKERSECRET";
const TOKEN: &str = "FwoGZXIvYXdzEMARKERTOKENMARKERTOKEN";

/// The kind of credential, for one region of one service.
const CREDENTIAL: &str = "kind = \"aws-sigv4\"\nregion = \"eu-west-1\"\nservice = \"lab\"\nsource = { env = \
                          \"KEYS\" }\npaths = [\"/api/**\"]\n";

/// How curl signs.
const SIGNED: &str =
    "--aws-sigv4 aws:amz:eu-west-1:lab -u \"$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY\"";

/// Ends the test unless a request is signed with the key, by the reckoning of another program.
fn assert_signed(env: &TestEnv, request: &Request) {
    let input = json!({
        "method": request.method, "target": request.target, "headers": request.headers,
        "body": request.text(), "secret": SECRET,
    });
    let output = env
        .command("python3")
        .args(["-c", include_str!("verify.py")])
        .stdin(input.to_string())
        .output();
    assert_eq!(output.stdout, "ok\n", "{output:?}");
    let authorization = request.header("authorization").unwrap_or_default();
    assert!(
        authorization.contains(&format!("Credential={ID}/")),
        "{authorization}"
    );
    assert_eq!(request.header("x-amz-security-token"), Some(TOKEN));
}

/// A client signs with the placeholder, and the server gets a signature of the key, over HTTP/1.1 and
/// HTTP/2, with and without a body, a query and a digest; no program has the key.
#[test]
fn requests_are_signed_with_a_key_that_is_not_inside() {
    require_tool("curl");
    require_tool("python3");
    for_each_user(|env| {
        let lab = Lab::new(env, CREDENTIAL);
        let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let mut line = Vec::new();
        for version in ["--http1.1", "--http2"] {
            for request in [
                "GOOD/api/a".to_owned(),
                "'GOOD/api/a%20b?b=2&a=%2F1'".to_owned(),
                "-d 'Action=GetCallerIdentity&Version=1' GOOD/api/call".to_owned(),
                "-X PUT -H 'content-type: application/json' -d '{\"a\": 1}' GOOD/api/put"
                    .to_owned(),
                format!("-H 'x-amz-content-sha256: {digest}' GOOD/api/digest"),
            ] {
                line.push(format!("curl -sS -m 10 {version} {SIGNED} {request}"));
            }
        }
        line.push("env; cat /proc/*/environ 2> /dev/null | tr '\\0' '\\n'".to_owned());
        let run = lab.start(env, &line.join("; "));
        let run = run.env("KEYS", format!("{ID}:{SECRET}:{TOKEN}"));
        let output = run.env("AWS_SESSION_TOKEN", TOKEN).output();
        let requests = lab.good.requests();
        assert_eq!(requests.len(), 10, "{output:?}");
        for request in &requests {
            assert_signed(env, request);
        }
        let seen = [output.stdout.as_str(), &output.stderr].concat();
        assert!(!seen.contains(SECRET) && !seen.contains(TOKEN), "{seen}");
        output.assert_stdout("AWS_ACCESS_KEY_ID=AKIA");
        let record = env.record();
        let used = record
            .iter()
            .filter(|event| event.kind() == "credential.used");
        assert_eq!(used.count(), 10, "{}", events::summary(&record));
        assert!(!format!("{record:?}").contains(SECRET));
    });
}

/// What the key is not for is not signed, and does not arrive: another host, path, region or service,
/// an address with a signature in it, a body whose pieces are signed, and a body without a digest that
/// is too long to be read.
#[test]
fn nothing_else_is_signed() {
    require_tool("curl");
    for_each_user(|env| {
        let lab = Lab::new(env, CREDENTIAL);
        let other = |scope: &str| SIGNED.replace("eu-west-1:lab", scope);
        let said = "-H \"authorization: AWS4-HMAC-SHA256 \
                    Credential=$AWS_ACCESS_KEY_ID/20260101/eu-west-1/lab/aws4_request, \
                    SignedHeaders=host, Signature=00\" -H 'x-amz-date: 20260101T000000Z'";
        let refused = [
            format!("{SIGNED} EVIL/api/a"),
            format!("{SIGNED} GOOD/other"),
            format!("{} GOOD/api/a", other("us-east-1:lab")),
            format!("{} GOOD/api/a", other("eu-west-1:s3")),
            "\"GOOD/api/a?X-Amz-Credential=$AWS_ACCESS_KEY_ID/20260101/eu-west-1/lab/aws4_request\"".to_owned(),
            format!("{said} -H 'x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD' -d x GOOD/api/a"),
            format!("{said} --data-binary @large GOOD/api/a"),
            "-u \"$AWS_ACCESS_KEY_ID:x\" GOOD/api/a".to_owned(),
        ];
        let mut line: Vec<_> = refused
            .iter()
            .map(|one| format!("curl -sS -m 20 -o /dev/null -w '%{{http_code}}\\n' {one}"))
            .collect();
        line.insert(0, "head -c 5000000 /dev/zero > large".to_owned());
        // Control: the same with a body that can be read.
        line.push(format!("curl -sS -m 10 {said} -d x GOOD/api/a"));
        let run = lab.start(env, &line.join("; "));
        let output = run.env("KEYS", format!("{ID}:{SECRET}:{TOKEN}")).output();
        let requests = lab.good.requests();
        assert_eq!(
            (output.stdout.matches("403\n").count(), requests.len()),
            (refused.len(), 1),
            "{output:?}"
        );
        for request in &requests {
            assert_signed(env, request);
        }
        assert!(lab.evil.requests().is_empty(), "{output:?}");
        let record = env.record();
        let misused = record
            .iter()
            .filter(|one| one.rule() == "credential-misuse");
        assert_eq!(
            misused.count(),
            refused.len(),
            "{}",
            events::summary(&record)
        );
    });
}

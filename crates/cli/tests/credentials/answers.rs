//! What comes back of a value.

use stockade_testkit::{events, http::Response, run::require_tool};

use super::lab::{Lab, VALUE, for_each_user};

/// `user:` and the value in base64.
const LOGIN: &str =
    "dXNlcjpzay1hbnQtYXBpMDMtTTRyazNyTTRyazNyTTRyazNyTTRyazNyTTRyazNyLW1hcmtlcl9BQQ==";

/// A server that answers with the value, in a field, in the body, cut into pieces or in base64, gives
/// the program nothing but the placeholder. An answer that cannot be searched is refused.
#[test]
fn answers_are_searched_for_the_value() {
    require_tool("curl");
    let credential = "kind = \"bearer\"\nsource = { env = \"SVC_TOKEN\" }\nas = \"SVC_TOKEN\"\n";
    for_each_user(|env| {
        let lab = Lab::answering(env, credential, |request, mut out| {
            let (one, two) = VALUE.split_at(20);
            match request.path() {
                "/field" => Response::text(302, "")
                    .header("Location", &format!("/next?key={VALUE}"))
                    .write(&mut out),
                "/body" => Response::text(200, format!("{{\"key\":\"{VALUE}\"}}")).write(&mut out),
                "/base64" => Response::text(200, LOGIN).write(&mut out),
                "/chunks" => {
                    write!(out, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                    write!(out, "{:x}\r\n{one}\r\n", one.len())?;
                    out.flush()?;
                    write!(out, "{:x}\r\n{two}\r\n0\r\n\r\n", two.len())
                }
                _ => Response::text(200, "packed")
                    .header("Content-Encoding", "gzip")
                    .write(&mut out),
            }
        });
        let get = |path: &str, more: &str| {
            format!(
                "curl -sS -m 10 {more} -r 0-5 --compressed -H \"authorization: Bearer $SVC_TOKEN\" GOOD{path}; echo"
            )
        };
        let line = [
            get("/field", "-v -i"),
            get("/body", ""),
            get("/body", "--http1.1"),
            get("/base64", ""),
            get("/chunks", "--http1.1"),
            get("/chunks", ""),
            get("/gzip", "--http1.1"),
            get("/gzip", ""),
        ];
        let output = lab.run(env, &line.join("; "));
        let expected = Some(format!("Bearer {VALUE}"));
        assert!(
            lab.got("authorization").iter().all(|one| *one == expected),
            "{output:?}"
        );
        assert_eq!(lab.got("range"), vec![None; line.len()], "{output:?}");
        let coding = Some("identity".to_owned());
        assert_eq!(
            lab.got("accept-encoding"),
            vec![coding; line.len()],
            "{output:?}"
        );
        let seen = [output.stdout.as_str(), &output.stderr].concat();
        assert!(!seen.contains(VALUE), "{output:?}");
        assert!(!seen.contains(&LOGIN[12..40]), "{output:?}");
        assert_eq!(
            seen.matches("{\"key\":\"sk-ant-api03-").count(),
            2,
            "{output:?}"
        );
        assert!(!seen.contains("packed"), "{output:?}");
        assert!(seen.contains(&LOGIN[..4]), "{output:?}");
        let record = env.record();
        let refused = record
            .iter()
            .filter(|event| event.rule() == "credential-answer");
        assert_eq!(refused.count(), 2, "{}", events::summary(&record));
        assert!(!format!("{record:?}").contains(VALUE));
    });
}

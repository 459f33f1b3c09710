use std::fs;

use stockade_egress::wire::{Defined, DefinitionSeen};
use stockade_types::{ClaimSource, DecisionId, Digest, RawText, Subject};

use super::{Compared, Pins, Server};

fn seen(tool: &str, text: &str) -> DefinitionSeen {
    DefinitionSeen {
        server: "notes".into(),
        tool: tool.into(),
        digest: Digest::of(text.as_bytes()),
        text: Some(text.into()),
        is_hiding: false,
    }
}

fn server() -> Server {
    ("messages".to_owned(), "notes".into())
}

/// Compares what one request shows.
fn compare(pins: &Pins, decision: u64, all: &[DefinitionSeen]) -> Result<Compared, String> {
    let defined = Defined {
        form: "messages".to_owned(),
        process: Subject::default(),
        decision: Some(DecisionId::new(decision)),
        learned_from: ClaimSource::Traffic,
        visit: DecisionId::new(decision),
        definitions: all.to_vec(),
        unread: None,
    };
    pins.compare(&server(), &defined, all.iter().collect())
}

fn is_first(compared: &Result<Compared, String>) -> bool {
    matches!(compared, Ok(Compared::First(_)))
}

fn workspace() -> RawText {
    "/work".into()
}

#[test]
fn what_was_seen_first_is_known_in_later_sessions_and_a_change_is_judged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pins/w.json");
    let first = Pins::new(path.clone(), workspace());
    assert_eq!(first.is_empty(), Ok(true));
    let all = [seen("add", "Adds"), seen("sum", "Sums")];
    assert!(is_first(&compare(&first, 1, &all)));
    assert_eq!(compare(&first, 2, &all), Ok(Compared::Same));
    let later = Pins::new(path, workspace());
    assert_eq!(later.is_empty(), Ok(false));
    assert_eq!(compare(&later, 3, &all), Ok(Compared::Same));
    let changed = [seen("add", "Adds, and reads ~/.ssh"), seen("sum", "Sums")];
    let Ok(Compared::Other(request, others)) = compare(&later, 4, &changed) else {
        panic!("a change is judged");
    };
    assert!(request.is_changed());
    assert_eq!(others, changed[..1]);
    let [tool] = request.tools.as_slice() else {
        panic!("one tool, {request:?}");
    };
    assert_eq!(tool.was, Some("Adds".into()));
    assert_eq!(tool.now, Some("Adds, and reads ~/.ssh".into()));
    // Until somebody accepts it, it stays a change; from then on it is known, in every session.
    assert!(matches!(
        compare(&later, 5, &changed),
        Ok(Compared::Other(..))
    ));
    later.accept(&server(), &others).unwrap();
    assert_eq!(compare(&later, 6, &changed), Ok(Compared::Same));
    assert_eq!(compare(&first, 7, &changed), Ok(Compared::Same));
    assert!(
        matches!(compare(&first, 8, &all), Ok(Compared::Other(..))),
        "and back is a change"
    );
}

#[test]
fn all_parts_of_the_first_request_are_first_and_a_later_tool_is_judged() {
    let dir = tempfile::tempdir().unwrap();
    let pins = Pins::new(dir.path().join("pins/w.json"), workspace());
    assert!(is_first(&compare(&pins, 1, &[seen("a", "A")])));
    assert!(is_first(&compare(&pins, 1, &[seen("b", "B")])));
    let Ok(Compared::Other(request, _)) = compare(&pins, 2, &[seen("c", "C")]) else {
        panic!("a tool that comes later is judged");
    };
    assert!(!request.is_changed());
    // Not even in the first request a tool becomes another one.
    let again = compare(&pins, 1, &[seen("a", "B")]);
    assert!(matches!(again, Ok(Compared::Other(request, _)) if request.is_changed()));
}

#[test]
fn a_file_that_is_not_ours_is_named_and_nothing_is_taken_for_known() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.json");
    for text in [
        "",
        "{}",
        "{\"version\":2,\"workspace\":\"/w\",\"servers\":[]}",
        "[1,",
    ] {
        fs::write(&path, text).unwrap();
        let pins = Pins::new(path.clone(), workspace());
        let error = compare(&pins, 1, &[seen("a", "A")]).unwrap_err();
        assert!(
            error.contains("w.json") && error.contains("remove it"),
            "{error}"
        );
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            text,
            "it is left as it is"
        );
    }
    fs::remove_file(&path).unwrap();
    let pins = Pins::new(path, workspace());
    assert!(is_first(&compare(&pins, 1, &[seen("a", "A")])));
}

#[test]
fn the_file_is_bounded_and_keeps_digests_of_what_is_long() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pins/w.json");
    let pins = Pins::new(path.clone(), workspace());
    let long = "x".repeat(32 * 1024);
    assert!(is_first(&compare(&pins, 1, &[seen("a", &long)])));
    assert!(fs::metadata(&path).unwrap().len() < 1024);
    let Ok(Compared::Other(request, _)) = compare(&pins, 2, &[seen("a", &format!("{long}y"))])
    else {
        panic!("a change of what is long is one");
    };
    assert_eq!(request.tools.first().unwrap().was, None);
    let many: Vec<_> = (0..17_000)
        .map(|tool| seen(&tool.to_string(), "x"))
        .collect();
    let error = compare(&pins, 3, &many).map(|compared| match compared {
        Compared::Other(_, others) => pins.accept(&server(), &others),
        Compared::Same | Compared::First(_) => Ok(()),
    });
    let error = error.unwrap().unwrap_err();
    assert!(error.contains("no room"), "{error}");
}

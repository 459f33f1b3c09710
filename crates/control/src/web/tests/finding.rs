//! The search and the index: what is found, and that the index is made of the journals alone.

use std::fs;

use stockade_api::search::Query;
use stockade_testkit::invented;
use stockade_types::UnixMillis;

use super::{
    lab::Lab,
    reading::{ALL, data, list, week},
};
use crate::{
    index::{Index, Page, Seen},
    indexing::Filling,
    now,
};

/// What is searched for is found, what is not is not, and no text breaks the search.
#[tokio::test(flavor = "multi_thread")]
async fn a_search_finds_what_it_names() {
    let (lab, lee, _, ids) = week().await;
    let count = async |query: &str| {
        let query: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let found = data(&lab, &lee, &format!("/api/v1/search?q={query}")).await;
        list(&found, "events").len()
    };
    for query in [
        "kind:net verdict:deny host:paste.test",
        "kind:net host:*.test",
        "kind:session.started user:lee",
        "kind:session machine:laptop agent:codex",
        "\"data leaves the company\"",
        "deploy*",
        "kind:file path:*/cart.rs since:8d",
        "exe:cargo kind:file",
        "rule:no-paste",
        "kind:secret",
    ] {
        assert!(count(query).await > 0, "{query}");
    }
    let session = format!("session:{}", &ids[0][..10]);
    assert!(count(&session).await > 0);
    for query in [
        "kind:net verdict:deny host:other.test",
        "host:paste_test",
        "user:nobody",
        "machine:elsewhere verdict:deny",
        "until:2020-01-01",
        "\"company the leaves\"",
        "agent:gemini",
        // Of what people and models say, nothing is in the index.
        "\"empty baskets\"",
        "kind:prompt",
    ] {
        assert_eq!(count(query).await, 0, "{query}");
    }
    for query in [
        "\" OR 1=1 --\"",
        "a\"\"b",
        "*",
        "NEAR(",
        "'); DROP TABLE events_ix; --",
        "text:x",
    ] {
        let query: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let status = lab
            .get(&lee, &format!("/api/v1/search?q={query}"))
            .await
            .status;
        assert!(status == 200 || status == 400, "{query}: {status}");
        lab.get(&lee, &format!("/search?q={query}")).await.is(200);
    }
    assert!(count("verdict:deny").await > 0, "the index is still there");
}

/// Pages of a search follow each other without a gap, and no event is on two.
#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_search_follow_each_other() {
    let (lab, lee, ..) = week().await;
    let (mut seen, mut after) = (std::collections::BTreeSet::new(), String::new());
    loop {
        let found = data(&lab, &lee, &format!("/api/v1/search?q=since:30d{after}")).await;
        for event in list(&found, "events") {
            let one = (event["session"].to_string(), event["seq"].as_u64());
            assert!(seen.insert(one), "twice: {event}");
        }
        match found["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    let all = dump(&lab.server.index).await;
    let events = all.iter().filter(|line| line.starts_with("Found"));
    assert_eq!(seen.len(), events.count());
}

/// Everything that an index finds, in an order that does not depend on when it was written.
async fn dump(index: &Index) -> Vec<String> {
    let page = Page {
        after: None,
        count_max: u32::MAX,
    };
    let query = Query::default();
    let found = index.search(&query, &Seen::All, now(), page).await.unwrap();
    let mut lines: Vec<String> = found
        .into_iter()
        .map(|mut one| {
            one.id = 0;
            format!("{one:?}")
        })
        .collect();
    let flows = index
        .flows(&Seen::All, UnixMillis(0), "", u32::MAX)
        .await
        .unwrap();
    lines.extend(flows.iter().map(|flow| format!("{flow:?}")));
    let raised = index.raised(&Seen::All, u32::MAX).await.unwrap();
    lines.extend(raised.iter().map(|one| format!("{one:?}")));
    lines.sort();
    lines
}

/// The index is made of the journals alone: one that is made at once, one that grew with the records in
/// pieces, and one that was made anew over a broken file say the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_gone_is_made_again() {
    let lab = Lab::start().await;
    let machine = lab.machine("laptop", None).await;
    invented::week(&machine.dir, 0, now().0 * 1_000_000);
    let dir = tempfile::tempdir().unwrap();
    let pieces = Index::open(&dir.path().join("pieces.db")).await.unwrap();
    let mut filling = Filling::default();
    for events in [1, 2, 9, 17, 23, 31, 47, ALL] {
        lab.take(&machine, events).await;
        // Without what was remembered it goes on from what is written.
        if events == 17 {
            filling = Filling::default();
        }
        filling = lab.server.fill(&pieces, filling).await.unwrap();
    }
    lab.indexed().await;
    let broken = dir.path().join("broken.db");
    fs::write(&broken, "this is no database, and not empty either").unwrap();
    let again = Index::open(&broken).await.unwrap();
    lab.server.fill(&again, Filling::default()).await.unwrap();
    let (one, two, three) = (
        dump(&lab.server.index).await,
        dump(&pieces).await,
        dump(&again).await,
    );
    assert!(one.len() > 200, "{}", one.len());
    assert_eq!(one, two);
    assert_eq!(one, three);
    // What was taken back is gone: the state is that of an older copy.
    lab.take(&machine, 5).await;
    lab.server.fill(&again, Filling::default()).await.unwrap();
    assert!(dump(&again).await.len() < one.len() / 3);
    for index in [pieces, again] {
        index.close().await;
    }
}

//! The language of searches.

use stockade_api::search::{Moment, Pattern, QUERY_BYTES_MAX, Query, QueryError, TERMS_MAX};
use stockade_types::{UnixMillis, Verdict};

#[test]
fn fields_and_words_are_read() {
    let text =
        "kind:net verdict:deny host:*.Paste.test user:\"Ann Lee\" since:7d \"rm -rf\" secret";
    let query: Query = text.parse().unwrap();
    assert_eq!(query.kinds, ["net"]);
    assert_eq!(query.verdicts, [Verdict::Deny]);
    assert_eq!(query.hosts, [Pattern("*.paste.test".to_owned())]);
    assert_eq!(query.users, ["Ann Lee"]);
    assert_eq!(query.since, Some(Moment::Ago(7 * 86_400_000)));
    assert_eq!(query.words, ["rm -rf", "secret"]);
    let query: Query = "since:2026-01-31 until:2026-02-01T10:00:00Z https://a.test"
        .parse()
        .unwrap();
    let at = |moment: Option<Moment>| moment.unwrap().time(UnixMillis(0)).0;
    assert_eq!(at(query.since), 1_769_817_600_000);
    assert_eq!(at(query.until), 1_769_940_000_000);
    assert_eq!(query.words, ["https://a.test"]);
    // What has no letter or digit finds nothing, and narrows nothing.
    assert!("  -- \"\"  ".parse::<Query>().unwrap().is_empty());
}

#[test]
fn what_is_no_search_is_refused_with_what_was_expected() {
    let error = |text: &str| text.parse::<Query>().unwrap_err();
    assert_eq!(error("hots:a.test"), QueryError::Field("hots".to_owned()));
    assert_eq!(error("\"open"), QueryError::Open);
    for text in ["verdict:maybe", "since:soon", "until:2026-13-01", "host:"] {
        let error = error(text);
        assert!(matches!(error, QueryError::Value { .. }), "{text}: {error}");
        assert!(error.to_string().contains("expected"), "{error}");
    }
    assert_eq!(error(&"a ".repeat(TERMS_MAX + 1)), QueryError::TooMany);
    assert_eq!(error(&"a".repeat(QUERY_BYTES_MAX + 1)), QueryError::TooLong);
    assert!("a ".repeat(TERMS_MAX).parse::<Query>().is_ok());
}

#[test]
fn a_pattern_means_only_its_stars() {
    let like = |text: &str| Pattern(text.to_owned()).like();
    assert_eq!(like("*.a_b%.test"), "%.a\\_b\\%.test");
    assert_eq!(like("a\\*"), "a\\\\%");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        drop(text.parse::<Query>());
    }
}

//! A server with machines that are played, each end of it killed at any time, and what it counts.
#![expect(clippy::expect_used, reason = "a broken fixture must end the test")]

use std::{collections::HashMap, sync::Arc, time::Duration};

use stockade_testkit::{
    env::under_test,
    fleet::{Fleet, Meter, Plan, Seen, Site, is_same, kill_at_random, run, ship_all},
};

/// Kills; `cargo xtask load kill` has a thousand.
const ROUNDS: u32 = 20;

#[test]
fn no_kill_loses_an_acknowledged_event_or_leaves_a_receipt_for_bytes_that_are_not_there() {
    let kills = kill_at_random(&under_test(), ROUNDS, 7);
    assert_eq!(kills.sessions, 1, "{kills:?}");
    assert!(kills.servers + kills.agents >= ROUNDS, "{kills:?}");
    assert!(kills.events > 100, "{kills:?}");
}

/// Reads the text that Prometheus reads: values by their names with labels, and the type of each name.
fn read(text: &str) -> (HashMap<String, f64>, HashMap<String, String>) {
    let (mut values, mut types) = (HashMap::new(), HashMap::new());
    for line in text.lines() {
        if let Some(said) = line.strip_prefix("# TYPE ") {
            let (name, kind) = said.split_once(' ').expect("a name and its type");
            assert!(
                types.insert(name.to_owned(), kind.to_owned()).is_none(),
                "{line}"
            );
        } else if let Some(said) = line.strip_prefix("# HELP ") {
            assert!(
                said.split_once(' ')
                    .is_some_and(|(_, help)| !help.is_empty()),
                "{line}"
            );
        } else {
            let (name, value) = line.rsplit_once(' ').expect("a name and its value");
            let bare = name.split('{').next().expect("a name");
            let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(bare.chars().all(is_word), "{line}");
            let of = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| bare.strip_suffix(end));
            let known = |name: &str| types.contains_key(name);
            assert!(
                known(bare) || of.is_some_and(known),
                "no type before {line}"
            );
            let value = value.parse().expect("a number");
            assert!(values.insert(name.to_owned(), value).is_none(), "{line}");
        }
    }
    (values, types)
}

#[test]
fn the_server_counts_what_machines_send_for_those_who_may_see_it() {
    run(async {
        let site = Site::new(&under_test());
        let tokens = site.tokens(3, None);
        let fleet = Fleet::enrol(&tokens);
        let (seen, meter) = (Arc::new(Seen::default()), Arc::new(Meter::default()));
        for machine in &fleet.machines {
            machine.connect(&seen).await.expect("it connects");
        }
        let plan = Plan {
            rate: 100.0,
            lasts: Duration::from_secs(2),
            after: Duration::ZERO,
        };
        let machine = &fleet.machines[..1];
        let (_, id, dir) = ship_all(machine, 1, plan, &meter).await.remove(0);
        assert!(is_same(&dir, &site.copy(&machine[0].node(), &id)));
        let monitor = site.browser().await.with_token(&site.token("monitor"));
        let text = monitor.get("/metrics").await;
        let (values, types) = read(&text);
        assert!(
            (values["stockade_nodes_connected"] - 3.0).abs() < 0.1,
            "{text}"
        );
        let written = meter.written.load(std::sync::atomic::Ordering::Relaxed);
        let taken = values["stockade_events_taken_total"];
        assert!(
            (taken - f64::from(u32::try_from(written).expect("few"))).abs() < 0.1,
            "{text}"
        );
        assert!(values["stockade_bytes_taken_total"] > 1_000.0, "{text}");
        assert_eq!(types["stockade_receipt_seconds"], "histogram");
        let buckets = values.iter().filter(|(name, _)| name.contains("_bucket"));
        let count = values["stockade_receipt_seconds_count"];
        assert!(count >= 3.0 && buckets.clone().count() >= 10, "{text}");
        assert!(buckets.clone().all(|(_, value)| *value <= count), "{text}");
        let all = values["stockade_receipt_seconds_bucket{le=\"+Inf\"}"];
        assert!((all - count).abs() < 0.1, "{text}");
        assert!(values["process_resident_memory_bytes"] > 1e6, "{text}");
        // What is for those who watch the server is nothing else, and others do not see it.
        let (status, _) = monitor.fetch("/api/v1/sessions").await;
        assert_eq!(status, 403);
        let developer = site.browser().await.with_token(&site.token("developer"));
        assert_eq!(developer.fetch("/metrics").await.0, 403);
        let stranger = site.browser().await;
        assert_ne!(stranger.fetch("/metrics").await.0, 200);
    });
}

#[test]
fn a_fleet_ships_at_the_pace_of_the_server_and_every_copy_is_the_same() {
    run(async {
        let site = Site::new(&under_test());
        let tokens = site.tokens(20, None);
        let fleet = Fleet::enrol(&tokens);
        let (seen, meter) = (Arc::new(Seen::default()), Arc::new(Meter::default()));
        let plan = Plan {
            rate: 50.0,
            lasts: Duration::from_secs(3),
            after: Duration::ZERO,
        };
        for machine in &fleet.machines {
            machine.connect(&seen).await.expect("it connects");
        }
        for (index, id, dir) in ship_all(&fleet.machines, 1, plan, &meter).await {
            let node = fleet.machines[index].node();
            assert!(is_same(&dir, &site.copy(&node, &id)), "{id}");
        }
        let faults = meter.faults.lock().expect("faults");
        assert!(faults.is_empty(), "{faults:?}");
        assert!(meter.acks.count() >= 60, "{}", meter.acks.count());
    });
}

//! Tests of when a rotation is due.

use jiff::Timestamp;
use kustody_api::encryption_key::Rotation;
use serde_json::json;

use crate::controllers::encryption_key::schedule;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The next rotation of a key whose last version was made on the first of March at noon.
fn next(rotation: serde_json::Value, uid: &str, now: &str) -> Result<Option<String>, String> {
    let rotation: Rotation = serde_json::from_value(rotation).map_err(|error| error.to_string())?;
    Ok(schedule::next(&rotation, at("2026-03-01T12:00:00Z"), uid, at(now))?.map(|time| time.to_string()))
}

#[test]
fn an_interval_counts_from_the_last_version() {
    for (every, due) in [("90d", "2026-05-30T12:00:00Z"), ("36h", "2026-03-03T00:00:00Z"), ("2h", "2026-03-01T14:00:00Z")] {
        assert_eq!(next(json!({"every": every}), "u", "2026-03-01T12:00:00Z"), Ok(Some(due.to_owned())));
    }
    assert_eq!(next(json!({"request": "r"}), "u", "2026-03-01T12:00:00Z"), Ok(None));
}

#[test]
fn a_cron_expression_is_read_in_its_time_zone_across_the_change_of_the_clocks() {
    let rotation = json!({"schedule": "30 3 29 3 *", "timeZone": "Europe/Berlin"});
    assert_eq!(next(rotation, "u", "2026-03-01T12:00:00Z"), Ok(Some("2026-03-29T01:30:00Z".to_owned())));
    assert_eq!(next(json!({"schedule": "0 0 1 * *"}), "u", "2026-03-01T12:00:00Z"), Ok(Some("2026-04-01T00:00:00Z".to_owned())));
}

#[test]
fn within_an_hour_of_the_last_version_nothing_is_due() {
    assert_eq!(next(json!({"schedule": "* * * * *"}), "u", "2026-03-01T12:00:00Z"), Ok(Some("2026-03-01T13:00:00Z".to_owned())));
}

#[test]
fn a_rotation_that_is_due_outside_its_window_waits_for_the_next() {
    let rotation = || json!({"every": "24h", "window": {"start": "02:00", "duration": "3h", "timeZone": "Europe/Berlin"}});
    // Due on the second at noon: the window of the third begins at 01:00 UTC.
    assert_eq!(next(rotation(), "u", "2026-03-01T12:00:00Z"), Ok(Some("2026-03-03T01:00:00Z".to_owned())));
    // Nobody was there on the third; the window of the tenth is the next.
    assert_eq!(next(rotation(), "u", "2026-03-09T12:00:00Z"), Ok(Some("2026-03-10T01:00:00Z".to_owned())));
    // In the middle of a window it is due.
    let due = next(rotation(), "u", "2026-03-10T02:00:00Z").unwrap().unwrap();
    assert!(at(&due) <= at("2026-03-10T02:00:00Z"), "{due}");
    // A window that goes past midnight is one window.
    let night = json!({"every": "24h", "window": {"start": "23:00", "duration": "4h"}});
    let due = next(night, "u", "2026-03-05T01:00:00Z").unwrap().unwrap();
    assert!(at(&due) <= at("2026-03-05T01:00:00Z"), "{due}");
}

#[test]
fn jitter_is_decided_by_the_uid_and_never_leaves_the_window() {
    let due = |uid: &str| next(json!({"every": "24h", "jitter": "1h"}), uid, "2026-03-01T12:00:00Z").unwrap().unwrap();
    assert_eq!(due("a"), due("a"));
    let times: std::collections::BTreeSet<String> = (0..100).map(|n| due(&n.to_string())).collect();
    assert!(times.len() > 90, "{}", times.len());
    assert!(times.iter().all(|time| (at("2026-03-02T12:00:00Z")..at("2026-03-02T13:00:00Z")).contains(&at(time))));
    for n in 0..100 {
        let rotation = json!({"every": "24h", "jitter": "9h", "window": {"start": "02:00", "duration": "1h"}});
        let due = at(&next(rotation, &n.to_string(), "2026-03-02T12:00:00Z").unwrap().unwrap());
        assert!((at("2026-03-03T02:00:00Z")..at("2026-03-03T03:00:00Z")).contains(&due), "{due}");
    }
}

#[test]
fn what_cannot_be_read_is_named_with_its_rule() {
    for (rotation, says) in [
        (json!({"schedule": "0 3 * * * *"}), "spec.rotation.schedule \"0 3 * * * *\" has not five fields"),
        (json!({"schedule": "0 99 * * *"}), "spec.rotation.schedule \"0 99 * * *\" is no cron expression"),
        (json!({"schedule": "0 3 * * *", "timeZone": "Europe/Nowhere"}), "spec.rotation.timeZone \"Europe/Nowhere\" is no IANA time zone"),
        (json!({"every": "1d", "window": {"start": "02:00", "duration": "1h", "timeZone": "X/Y"}}), "spec.rotation.window.timeZone"),
    ] {
        let error = next(rotation, "u", "2026-03-01T12:00:00Z").unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_clock_that_jumps_back_makes_nothing_due() {
    assert_eq!(next(json!({"every": "1d"}), "u", "2020-01-01T00:00:00Z"), Ok(Some("2026-03-02T12:00:00Z".to_owned())));
}

//! When a rotation is due: pure arithmetic over the spec, the last rotation and the clock.

use std::str::FromStr;
use std::time::Duration;

use croner::Cron;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};
use kustody_api::encryption_key::{Rotation, RotationWindow};
use sha2::{Digest, Sha256};

/// Scheduled versions are at least so far apart: each is kept for as long as the key.
const APART: Duration = Duration::from_hours(1);

/// The next scheduled rotation of a key whose last version was made at `last`: at or before `now`, it is due.
///
/// `Ok(None)` when the spec names no time. A time that was missed is made up for once, in the next window. Errors name
/// the field and the rule.
pub fn next(rotation: &Rotation, last: Timestamp, uid: &str, now: Timestamp) -> Result<Option<Timestamp>, String> {
    let Some(due) = due(rotation, last)? else { return Ok(None) };
    let jitter = rotation.jitter.as_deref().map(|text| duration("jitter", text)).transpose()?.unwrap_or_default();
    let Some(window) = &rotation.window else { return Ok(Some(later(due, part(jitter, uid)))) };
    let window = Window::read(window)?;
    // A window that is over cannot be used any more, a window that is open can.
    let start = window.start_of(due.max(now))?;
    let spread = part(jitter, uid).min(window.length.saturating_sub(Duration::from_mins(1)));
    Ok(Some(due.max(later(start, spread))))
}

fn due(rotation: &Rotation, last: Timestamp) -> Result<Option<Timestamp>, String> {
    if let Some(every) = &rotation.every {
        return Ok(Some(later(last, duration("every", every)?)));
    }
    let Some(schedule) = &rotation.schedule else { return Ok(None) };
    let zone = zone("timeZone", rotation.time_zone.as_deref())?;
    let invalid =
        |error: croner::errors::CronError| format!("spec.rotation.schedule {schedule:?} is no cron expression of five fields: {error}");
    if schedule.split_whitespace().count() != 5 {
        return Err(format!("spec.rotation.schedule {schedule:?} has not five fields: minute, hour, day of month, month, day of week"));
    }
    let cron = Cron::from_str(schedule).map_err(invalid)?;
    let next = cron.find_next_occurrence(&last.to_zoned(zone), false).map_err(invalid)?;
    Ok(Some(next.timestamp().max(later(last, APART))))
}

/// A number and a unit, as the schema lets pass.
pub fn duration(field: &str, text: &str) -> Result<Duration, String> {
    let invalid = || format!("spec.rotation.{field} {text:?} is not a number followed by d, h or m");
    let unit = text.chars().last().ok_or_else(invalid)?;
    let number: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| invalid())?;
    let minutes = match unit {
        'd' => number.saturating_mul(24 * 60),
        'h' => number.saturating_mul(60),
        'm' => number,
        _ => return Err(invalid()),
    };
    Ok(Duration::from_secs(minutes.saturating_mul(60)))
}

fn zone(field: &str, name: Option<&str>) -> Result<TimeZone, String> {
    let Some(name) = name else { return Ok(TimeZone::UTC) };
    TimeZone::get(name).map_err(|_| format!("spec.rotation.{field} {name:?} is no IANA time zone such as Europe/Berlin"))
}

/// The part of `jitter` that the UID decides: the same at every pass, spread over many keys.
fn part(jitter: Duration, uid: &str) -> Duration {
    let digest = Sha256::digest(uid.as_bytes());
    let number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    Duration::from_secs(jitter.as_secs().saturating_mul(u64::from(number)) >> 32)
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

struct Window {
    start: Time,
    length: Duration,
    zone: TimeZone,
}

impl Window {
    fn read(window: &RotationWindow) -> Result<Self, String> {
        let start = Time::strptime("%H:%M", &window.start)
            .map_err(|_| format!("spec.rotation.window.start {:?} is no time of the day such as 02:00", window.start))?;
        let length = duration("window.duration", &window.duration)?;
        if length > Duration::from_hours(24) {
            return Err("spec.rotation.window.duration is longer than a day".to_owned());
        }
        Ok(Self { start, length, zone: zone("window.timeZone", window.time_zone.as_deref())? })
    }

    /// The start of the window that is open at `time`, or of the next one.
    fn start_of(&self, time: Timestamp) -> Result<Timestamp, String> {
        let local = time.to_zoned(self.zone.clone());
        let start = |days: i64| -> Result<Zoned, jiff::Error> {
            local.date().checked_add(days.days())?.to_datetime(self.start).to_zoned(self.zone.clone())
        };
        for days in -1..=2 {
            let start = start(days).map_err(|error| format!("spec.rotation.window: {error}"))?.timestamp();
            if later(start, self.length) > time {
                return Ok(start);
            }
        }
        Err("spec.rotation.window never opens".to_owned())
    }
}

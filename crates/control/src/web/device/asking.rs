//! Terminals that ask to be signed in (RFC 8628): which are open, and who has confirmed them. They are gone
//! when the server ends; a terminal then asks again.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use stockade_trust::UserId;
use stockade_types::UnixMillis;

/// How long a code works.
pub(super) const LIFETIME: Duration = Duration::from_mins(10);
/// How often a terminal may ask at first.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);
/// How much longer it waits each time that it asked too soon (RFC 8628, section 3.5).
const SLOWER: Duration = Duration::from_secs(5);
/// Terminals that ask at one time, and from one place. A further one is refused, so that no stranger drives
/// out those that wait.
const OPEN_MAX: usize = 500;
const OPEN_OF_PLACE_MAX: usize = 10;
/// Wrong codes of one person, and of all, within [`LIFETIME`]. With [`OPEN_MAX`] codes of 34 bits open, who
/// tries them all hits one with a chance of one in a million.
const WRONG_OF_PERSON_MAX: u32 = 5;
const WRONG_MAX: u32 = 50;
/// Letters of codes: they are told apart when read aloud, and make no words.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// Letters of a code.
const CODE_LETTERS: usize = 8;

/// What a terminal says of itself, and what is seen of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asking {
    /// The name of its machine, in its own words.
    pub(super) machine: String,
    /// Where it asks from.
    pub(super) address: String,
    pub(super) at: UnixMillis,
}

/// Who has confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Confirmed {
    pub(super) user: UserId,
    pub(super) name: String,
    /// When that person had last proved who it is.
    pub(super) signed_in: UnixMillis,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    Waits,
    Confirmed(Confirmed),
    Refused,
}

struct Device {
    code: String,
    asking: Asking,
    until: Instant,
    asked_last: Instant,
    interval: Duration,
    standing: Standing,
}

/// What a terminal is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// There is none of this code, or it is over.
    Over,
    /// It asks too often.
    TooSoon(Duration),
    /// Nobody has confirmed yet.
    Waits,
    /// A person has refused.
    Refused,
    /// A person has confirmed.
    Confirmed(Confirmed),
}

/// Why a code is not looked up, or is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoCode {
    /// There is none.
    Unknown,
    /// There were too many wrong ones.
    TooMany,
}

/// Wrong codes within a time.
struct Wrong {
    since: Instant,
    count: u32,
}

impl Wrong {
    fn in_time(&self, now: Instant) -> u32 {
        if now.saturating_duration_since(self.since) < LIFETIME {
            self.count
        } else {
            0
        }
    }

    fn another(&mut self, now: Instant) {
        self.count = self.in_time(now).saturating_add(1);
        if self.count == 1 {
            self.since = now;
        }
    }
}

/// The open ones, by the hash of their device code.
#[derive(Default)]
pub(crate) struct Devices {
    open: HashMap<String, Device>,
    wrong: HashMap<UserId, Wrong>,
    wrong_of_all: Option<Wrong>,
}

/// Makes the letters of a code of random bytes; `None` if there are too few that are equally likely.
pub(super) fn code_of(bytes: &[u8]) -> Option<String> {
    let count = u8::try_from(LETTERS.len()).ok()?;
    let even = u8::MAX - u8::MAX % count;
    let letters = bytes.iter().filter(|byte| **byte < even);
    let letters = letters.filter_map(|byte| LETTERS.get(usize::from(byte % count)));
    let code: String = letters
        .take(CODE_LETTERS)
        .map(|byte| char::from(*byte))
        .collect();
    (code.len() == CODE_LETTERS).then_some(code)
}

/// Writes a code as people read it.
pub(super) fn grouped(code: &str) -> String {
    let (first, second) = code.split_at(CODE_LETTERS.min(code.len()) / 2);
    format!("{first}-{second}")
}

/// Reads what a person typed: case, spaces and dashes do not matter.
pub(super) fn typed(text: &str) -> String {
    let letters = text.chars().filter(char::is_ascii_alphanumeric);
    letters
        .take(CODE_LETTERS + 1)
        .map(|letter| letter.to_ascii_uppercase())
        .collect()
}

impl Devices {
    /// Takes a terminal that asks; `false` if too many do.
    pub(super) fn add(&mut self, hash: String, code: String, asking: Asking, now: Instant) -> bool {
        self.open.retain(|_, device| device.until > now);
        let from_there = |device: &&Device| device.asking.address == asking.address;
        let of_place = self.open.values().filter(from_there).count();
        let is_taken = self.open.values().any(|device| device.code == code);
        if self.open.len() >= OPEN_MAX || of_place >= OPEN_OF_PLACE_MAX || is_taken {
            return false;
        }
        let device = Device {
            code,
            asking,
            until: now + LIFETIME,
            asked_last: now,
            interval: INTERVAL,
            standing: Standing::Waits,
        };
        self.open.insert(hash, device);
        true
    }

    /// Says how it stands, to the terminal.
    pub(super) fn ask(&mut self, hash: &str, now: Instant) -> Told {
        let device = self.open.get_mut(hash);
        let Some(device) = device.filter(|device| device.until > now) else {
            return Told::Over;
        };
        let waited = now.saturating_duration_since(device.asked_last);
        device.asked_last = now;
        if waited < device.interval {
            device.interval += SLOWER;
            return Told::TooSoon(device.interval);
        }
        match &device.standing {
            Standing::Waits => Told::Waits,
            Standing::Refused => Told::Refused,
            Standing::Confirmed(by) => Told::Confirmed(by.clone()),
        }
    }

    /// Ends one that a person has confirmed, whom the terminal names; then the terminal gets the token.
    pub(super) fn take(
        &mut self,
        hash: &str,
        person: &str,
        now: Instant,
    ) -> Option<(Asking, Confirmed)> {
        let is_so = |device: &Device| {
            let by = matches!(&device.standing, Standing::Confirmed(by) if by.user.0 == person);
            by && device.until > now
        };
        if !self.open.get(hash).is_some_and(is_so) {
            return None;
        }
        let device = self.open.remove(hash)?;
        match device.standing {
            Standing::Confirmed(by) => Some((device.asking, by)),
            Standing::Waits | Standing::Refused => None,
        }
    }

    /// Finds the terminal of a code that a person typed.
    ///
    /// # Errors
    /// When there is none that waits, or there were too many wrong codes.
    pub(super) fn of_code(
        &mut self,
        code: &str,
        person: &UserId,
        now: Instant,
    ) -> Result<Asking, NoCode> {
        let of_all = self.wrong_of_all.as_ref();
        let of_person = self.wrong.get(person).map_or(0, |wrong| wrong.in_time(now));
        if of_person >= WRONG_OF_PERSON_MAX
            || of_all.is_some_and(|wrong| wrong.in_time(now) >= WRONG_MAX)
        {
            return Err(NoCode::TooMany);
        }
        let waits = |device: &&Device| {
            device.code == code && device.until > now && device.standing == Standing::Waits
        };
        if let Some(device) = self.open.values().find(waits) {
            return Ok(device.asking.clone());
        }
        self.wrong.retain(|_, wrong| wrong.in_time(now) > 0);
        let none = || Wrong {
            since: now,
            count: 0,
        };
        self.wrong
            .entry(person.clone())
            .or_insert_with(none)
            .another(now);
        self.wrong_of_all.get_or_insert_with(none).another(now);
        Err(NoCode::Unknown)
    }

    /// Settles the terminal of a code: a person confirms or refuses it, once.
    ///
    /// # Errors
    /// As [`Self::of_code`].
    pub(super) fn settle(
        &mut self,
        code: &str,
        person: &UserId,
        confirmed: Option<Confirmed>,
        now: Instant,
    ) -> Result<Asking, NoCode> {
        let asking = self.of_code(code, person, now)?;
        let device = self.open.values_mut().find(|device| device.code == code);
        if let Some(device) = device {
            device.standing = confirmed.map_or(Standing::Refused, Standing::Confirmed);
        }
        Ok(asking)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use stockade_trust::UserId;
    use stockade_types::UnixMillis;

    use super::{
        Asking, Confirmed, Devices, INTERVAL, LIFETIME, NoCode, OPEN_MAX, OPEN_OF_PLACE_MAX,
        SLOWER, Told, WRONG_MAX, WRONG_OF_PERSON_MAX, code_of, grouped, typed,
    };

    fn asking(address: &str) -> Asking {
        Asking {
            machine: "laptop".to_owned(),
            address: address.to_owned(),
            at: UnixMillis(0),
        }
    }

    fn ann() -> Confirmed {
        Confirmed {
            user: UserId("u-ann".to_owned()),
            name: "Ann".to_owned(),
            signed_in: UnixMillis(5),
        }
    }

    fn id(name: &str) -> UserId {
        UserId(name.to_owned())
    }

    #[test]
    fn a_code_is_confirmed_once_and_its_token_is_taken_once_by_who_names_the_person() {
        let (mut devices, start) = (Devices::default(), Instant::now());
        assert!(devices.add("h".into(), "BCDFGHJK".into(), asking("a"), start));
        let mut now = start + INTERVAL;
        assert_eq!(devices.ask("h", now), Told::Waits);
        assert_eq!(
            devices.take("h", "u-ann", now),
            None,
            "nobody has confirmed"
        );
        let shown = devices.of_code("BCDFGHJK", &id("u-ann"), now);
        assert_eq!(shown, Ok(asking("a")));
        let settled = devices.settle("BCDFGHJK", &id("u-ann"), Some(ann()), now);
        assert_eq!(settled, Ok(asking("a")));
        // Nobody else confirms or refuses it then.
        let again = devices.settle("BCDFGHJK", &id("u-eve"), None, now);
        assert_eq!(again, Err(NoCode::Unknown));
        now += INTERVAL;
        assert_eq!(devices.ask("h", now), Told::Confirmed(ann()));
        for (hash, person) in [("h", "u-eve"), ("h", ""), ("x", "u-ann")] {
            assert_eq!(devices.take(hash, person, now), None);
        }
        assert_eq!(devices.take("h", "u-ann", now), Some((asking("a"), ann())));
        assert_eq!(devices.take("h", "u-ann", now), None);
        assert_eq!(devices.ask("h", now + INTERVAL), Told::Over);
    }

    #[test]
    fn a_code_that_was_refused_or_is_old_gives_nothing() {
        let (mut devices, now) = (Devices::default(), Instant::now());
        assert!(devices.add("h".into(), "BCDFGHJK".into(), asking("a"), now));
        assert!(devices.add("i".into(), "CCDFGHJK".into(), asking("a"), now));
        assert!(devices.settle("BCDFGHJK", &id("u-ann"), None, now).is_ok());
        assert_eq!(devices.ask("h", now + INTERVAL), Told::Refused);
        assert_eq!(devices.take("h", "u-ann", now), None);
        assert!(
            devices
                .settle("CCDFGHJK", &id("u-ann"), Some(ann()), now)
                .is_ok()
        );
        assert_eq!(devices.take("i", "u-ann", now + LIFETIME), None);
        assert_eq!(devices.ask("i", now + LIFETIME), Told::Over);
        let late = devices.of_code("CCDFGHJK", &id("u-ann"), now + LIFETIME);
        assert_eq!(late, Err(NoCode::Unknown));
    }

    #[test]
    fn whoever_asks_too_often_waits_longer() {
        let (mut devices, now) = (Devices::default(), Instant::now());
        assert!(devices.add("h".into(), "BCDFGHJK".into(), asking("a"), now));
        assert_eq!(devices.ask("h", now), Told::TooSoon(INTERVAL + SLOWER));
        let soon = now + INTERVAL;
        assert_eq!(
            devices.ask("h", soon),
            Told::TooSoon(INTERVAL + SLOWER + SLOWER)
        );
        let late = soon + INTERVAL + SLOWER + SLOWER;
        assert_eq!(devices.ask("h", late), Told::Waits);
    }

    #[test]
    fn codes_are_not_guessed() {
        let (mut devices, now) = (Devices::default(), Instant::now());
        assert!(devices.add("h".into(), "BCDFGHJK".into(), asking("a"), now));
        let mut wrong = 0;
        for person in 0..100 {
            let person = id(&format!("u-{person}"));
            for _ in 0..=WRONG_OF_PERSON_MAX {
                match devices.of_code("ZZZZZZZZ", &person, now) {
                    Err(NoCode::Unknown) => wrong += 1,
                    Err(NoCode::TooMany) => {}
                    Ok(found) => assert_eq!(found, asking("nobody"), "there is no such code"),
                }
            }
            if wrong < WRONG_MAX {
                let right = devices.of_code("BCDFGHJK", &person, now);
                assert_eq!(
                    right,
                    Err(NoCode::TooMany),
                    "the person has tried too often"
                );
                let other = devices.of_code("BCDFGHJK", &id("u-ann"), now);
                assert!(other.is_ok(), "others are not kept out");
            }
        }
        assert_eq!(wrong, WRONG_MAX);
        let later = now + LIFETIME;
        assert!(devices.add("i".into(), "CCDFGHJK".into(), asking("a"), later));
        assert!(devices.of_code("CCDFGHJK", &id("u-0"), later).is_ok());
    }

    #[test]
    fn strangers_do_not_fill_the_memory_nor_drive_others_out() {
        let (mut devices, now) = (Devices::default(), Instant::now());
        let mut taken = 0;
        for number in 0..2 * OPEN_MAX {
            let place = format!("10.0.0.{}", number / (2 * OPEN_OF_PLACE_MAX));
            taken += usize::from(devices.add(
                number.to_string(),
                format!("{number}"),
                asking(&place),
                now,
            ));
        }
        assert_eq!(taken, OPEN_MAX);
        assert_eq!(devices.ask("0", now + INTERVAL), Told::Waits);
        assert!(devices.add("n".into(), "X".into(), asking("a"), now + LIFETIME));
    }

    #[test]
    fn codes_are_drawn_evenly_and_read_as_people_type_them() {
        assert_eq!(
            code_of(&[0, 1, 2, 3, 4, 5, 6, 7]).as_deref(),
            Some("BCDFGHJK")
        );
        // Bytes that would make some letters likelier are left out.
        assert_eq!(code_of(&[240, 1, 2, 3, 4, 5, 6, 7]), None);
        assert_eq!(
            code_of(&[255, 239, 1, 2, 3, 4, 5, 6, 7]).as_deref(),
            Some("ZCDFGHJK")
        );
        assert_eq!(grouped("BCDFGHJK"), "BCDF-GHJK");
        assert_eq!(typed(" bcdf - ghjk\n"), "BCDFGHJK");
        assert_eq!(typed(&"b".repeat(10_000)).len(), 9);
    }
}

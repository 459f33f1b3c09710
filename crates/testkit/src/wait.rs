//! Waits for an effect of another process or thread.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Time between two checks: short compared with anything a test waits for, long enough not to keep
/// one of two cores busy.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Checks until `look` gives a value or `timeout` has passed.
pub fn until<T>(timeout: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(value) = look() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

/// Checks until `look` returns true or `timeout` has passed; returns which happened.
pub fn until_true(timeout: Duration, mut look: impl FnMut() -> bool) -> bool {
    until(timeout, || look().then_some(())).is_some()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    #[test]
    fn a_value_ends_the_wait_and_time_ends_it_too() {
        let mut looks = 0;
        let seen = super::until(Duration::from_secs(5), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(seen, Some(3));
        assert!(!super::until_true(Duration::from_millis(30), || false));
    }
}

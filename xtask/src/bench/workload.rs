//! What is run: a start, and kinds of work whose time is taken inside.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{
    bounded,
    contender::{Contender, Writes},
    cpu,
    ground::Ground,
    lab::Lab,
};

/// Starts of which one sample of CPU time is made: the kernel counts it in steps of 10 ms.
const STARTS: u32 = 20;
/// The same for a contender that takes a quarter of a second for each.
const STARTS_OF_SLOW: u32 = 4;

/// Work inside, as lines of a shell in its workspace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inside {
    pub(super) ground: Ground,
    /// Not timed, before and after.
    pub(super) before: &'static str,
    pub(super) line: &'static str,
    pub(super) after: &'static str,
    pub(super) writes: Writes,
}

impl Inside {
    /// Does it once and returns how long the line took, in milliseconds, without the start.
    pub(super) fn sample(&self, contender: &Contender, lab: &Lab) -> Result<f64> {
        let folder = lab.ground(self.ground)?;
        let Self {
            before,
            line,
            after,
            ..
        } = self;
        let timed = format!(
            "{{ {before}; }} >/dev/null && start=$(date +%s%N) && {{ {line}; }} >/dev/null && \
             end=$(date +%s%N) && {{ {after}; }} >/dev/null && echo $((end-start))"
        );
        let command = contender.command(&folder, &["sh", "-c", &timed], self.writes);
        let (text, _) = bounded::run(&mut lab.prepare(command, &folder))?;
        let last = text.lines().last().unwrap_or_default().trim();
        let nanoseconds: u64 = last
            .parse()
            .with_context(|| format!("`{last}` is not a time in nanoseconds"))?;
        Ok(Duration::from_nanos(nanoseconds).as_secs_f64() * 1e3)
    }
}

/// Starts `/bin/true` once and returns how long that took, in milliseconds.
pub(super) fn start(ground: Ground, contender: &Contender, lab: &Lab) -> Result<f64> {
    let folder = lab.ground(ground)?;
    let command = contender.command(&folder, &["/bin/true"], Writes::Nothing);
    let (_, took) = bounded::run(&mut lab.prepare(command, &folder))?;
    Ok(took.as_secs_f64() * 1e3)
}

/// Returns the CPU time of one start of `/bin/true` with all that belongs to it, in milliseconds.
pub(super) fn start_cpu(contender: &Contender, lab: &Lab) -> Result<f64> {
    let starts = match contender {
        Contender::SandboxRuntime { .. } => STARTS_OF_SLOW,
        Contender::Bare
        | Contender::Stockade { .. }
        | Contender::Bubblewrap
        | Contender::Codex { .. } => STARTS,
    };
    let before = cpu::of_children_ms()?;
    for _ in 0..starts {
        start(Ground::Build, contender, lab)?;
    }
    Ok((cpu::of_children_ms()? - before) / f64::from(starts))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECHO: Inside = Inside {
        ground: Ground::Empty,
        before: "touch made",
        line: "test -e made",
        after: "rm made",
        writes: Writes::Workspace,
    };

    #[test]
    fn bare_work_is_timed_and_a_failure_is_an_error() {
        let lab = Lab::for_test();
        assert!(ECHO.sample(&Contender::Bare, &lab).unwrap() > 0.0);
        assert!(!lab.workspaces.join("empty/made").exists());
        let failing = Inside {
            line: "exit 3",
            ..ECHO
        };
        assert!(failing.sample(&Contender::Bare, &lab).is_err());
        assert!(start(Ground::Empty, &Contender::Bare, &lab).unwrap() > 0.0);
    }
}

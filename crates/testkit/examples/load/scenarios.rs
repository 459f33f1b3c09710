//! The scenarios.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use stockade_testkit::fleet::{
    Browser, Fleet, Machine, Meter, Plan, Seen, Site, Usage, backlog, is_same, own_usage, question,
    ship, ship_ended,
};
use stockade_types::{ApprovalId, SessionId};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::figures::{Asked, Report, count, float};

/// One machine of so many has a session that writes.
pub(crate) const ACTIVE: usize = 10;
/// Questions in a second.
const ASKED_PER_SECOND: u64 = 5;
/// How long the server is watched when machines do nothing.
const IDLE: Duration = Duration::from_secs(10);
/// Browsers that follow one session, and its events in a second.
const BROWSERS: usize = 50;
const TAIL_RATE: f64 = 500.0;
/// Events that each machine of a flood has: some 3 MB.
const FLOOD_EVENTS: u64 = 12_000;
/// Machines of a flood, at most.
const FLOOD_MACHINES: usize = 200;
/// How long questions are asked during a flood, at most.
const FLOOD_PATIENCE: Duration = Duration::from_mins(2);
/// The role that answers.
const ROLE: &str = "code-owner";
/// What is published: a policy of an organisation with some rules.
const POLICY: &str = include_str!("policy.toml");

/// How much.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) nodes: u32,
    /// Events in a second.
    pub(crate) rate: u32,
    pub(crate) seconds: u32,
    /// Kills.
    pub(crate) rounds: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 2_000,
            rate: 20_000,
            seconds: 30,
            rounds: 60,
        }
    }
}

/// A server with people and a policy, and machines that are enrolled.
pub(crate) struct Ground {
    site: Site,
    fleet: Fleet,
    seen: Arc<Seen>,
    lead: Browser,
    voter: Browser,
    serial: u64,
    sessions: u64,
    approvals: u32,
    is_connected: bool,
}

/// What a session that was shipped is compared by.
type Shipped = (usize, SessionId, PathBuf);

impl Ground {
    pub(crate) async fn make(program: &Path, options: &Options) -> Self {
        let begun = Instant::now();
        let site = Site::new(program);
        let lead = site.lead().await;
        let link = lead.invite("ann", ROLE).await;
        let mut voter = site.browser().await;
        voter.redeem(&link, "ann").await;
        lead.publish(POLICY, 0).await;
        let nodes = usize::try_from(options.nodes).expect("few");
        let tokens = site.tokens(nodes, Some("lead"));
        let fleet = tokio::task::block_in_place(|| Fleet::enrol(&tokens));
        eprintln!(
            "load: {nodes} machines enrolled in {:.1} s",
            begun.elapsed().as_secs_f64()
        );
        Self {
            site,
            fleet,
            seen: Arc::default(),
            lead,
            voter,
            serial: 1,
            sessions: 1,
            approvals: 0,
            is_connected: false,
        }
    }

    fn machines(&self) -> &[Arc<Machine>] {
        &self.fleet.machines
    }

    /// Connects all machines at once; returns how long that took.
    async fn connect(&mut self) -> Duration {
        let begun = Instant::now();
        let mut all = JoinSet::new();
        for machine in self.machines() {
            let (machine, seen) = (Arc::clone(machine), Arc::clone(&self.seen));
            all.spawn(async move { machine.connect(&seen).await });
        }
        while let Some(done) = all.join_next().await {
            if let Err(why) = done.expect("a machine") {
                panic!("a machine does not connect: {why}\n{}", self.site.said());
            }
        }
        self.is_connected = true;
        begun.elapsed()
    }

    async fn ensure_connected(&mut self) {
        if !self.is_connected {
            self.connect().await;
        }
    }

    /// A new server process, to which all machines connect at once.
    pub(crate) async fn storm(&mut self) -> Report {
        let nodes = self.machines().len();
        let what = format!("{nodes} machines connect at once, say hello, and follow the stream");
        let mut report = Report::new("storm", what);
        self.fleet.disconnect();
        self.site.stop();
        self.site.start();
        sleep(Duration::from_secs(1)).await;
        let before = self.site.usage();
        // One more bundle than machines have, which each takes and acknowledges.
        self.lead = self.site.browser_of(&self.lead).await;
        self.voter = self.site.browser_of(&self.voter).await;
        self.lead.publish(&policy(self.serial), self.serial).await;
        self.serial += 1;
        let took = self.connect().await;
        let after = self.site.usage();
        report.target(
            "all connected, with the bundle stored",
            took.as_secs_f64(),
            "s",
            5.0,
        );
        let kib = after.resident_kib.saturating_sub(before.resident_kib);
        report.target(
            "memory a machine",
            float(kib * 1_024 / 1_000) / count(nodes),
            "kB",
            50.0,
        );
        let cpu = after.cpu_ms.saturating_sub(before.cpu_ms);
        report.told(
            "time of the server's processor a machine",
            float(cpu) / count(nodes),
            "ms",
        );
        sleep(Duration::from_secs(5)).await;
        let before = self.site.usage();
        sleep(IDLE).await;
        let share = share(before, self.site.usage(), IDLE);
        report.target("idle, of a core", share, "%", 1.0);
        report
    }

    /// Starts sessions that write for a time; returns what tells when they are shipped.
    fn start_sessions(&mut self, options: &Options, meter: &Arc<Meter>) -> JoinSet<Shipped> {
        let active = (self.machines().len() / ACTIVE).max(1);
        let mut shipping = JoinSet::new();
        for (index, machine) in self.fleet.machines.iter().enumerate().take(active) {
            let number = self.sessions;
            self.sessions += 1;
            let plan = Plan {
                rate: f64::from(options.rate) / count(active),
                lasts: Duration::from_secs(options.seconds.into()),
                after: Duration::from_millis(u64::try_from(index * 997 % 1_000).expect("few")),
            };
            let shipped = ship(Arc::clone(machine), number, plan, Arc::clone(meter));
            shipping.spawn(async move {
                let (id, dir) = shipped.await;
                (index, id, dir)
            });
        }
        shipping
    }

    /// Counts sessions whose copies are not the same bytes.
    fn differing(&self, shipped: &[Shipped]) -> usize {
        let differs = |(index, id, dir): &&Shipped| {
            let node = self.fleet.machines.get(*index).expect("a machine").node();
            !is_same(dir, &self.site.copy(&node, id))
        };
        shipped.iter().filter(differs).count()
    }

    pub(crate) async fn ship(&mut self, options: &Options) -> Report {
        self.ensure_connected().await;
        let what = format!(
            "{} of {} machines write {} events a second together, for {} s",
            (self.machines().len() / ACTIVE).max(1),
            self.machines().len(),
            options.rate,
            options.seconds
        );
        let mut report = Report::new("ship", what);
        let meter = Arc::new(Meter::default());
        let (begun, before, own) = (Instant::now(), self.site.usage(), own_usage());
        let mut shipping = self.start_sessions(options, &meter);
        sleep(Duration::from_secs(options.seconds.into())).await;
        let (lasted, after) = (begun.elapsed(), self.site.usage());
        let own = own_usage().cpu_ms - own.cpu_ms;
        let mut shipped = Vec::new();
        while let Some(done) = shipping.join_next().await {
            shipped.push(done.expect("a session"));
        }
        report.target(
            "processor of the server, of a core",
            share(before, after, lasted),
            "%",
            60.0,
        );
        report.target("receipt, p99", meter.acks.percentile_ms(99), "ms", 50.0);
        report.told("receipt, p50", meter.acks.percentile_ms(50), "ms");
        self.whole(&mut report, &meter, &shipped);
        report.told("events a second", per_second(&meter, options.seconds), "");
        let pieces = count(meter.acks.count()) / f64::from(options.seconds);
        report.told("pieces a second", pieces, "");
        report.told(
            "memory of the server",
            float(after.resident_kib) / 1e3,
            "MB",
        );
        let own = float(own) / lasted.as_secs_f64() / 10.0;
        report.told("processor of the machines, of a core", own, "%");
        report
    }

    /// Adds how much was lost.
    fn whole(&self, report: &mut Report, meter: &Meter, shipped: &[Shipped]) {
        let (written, held) = (
            meter.written.load(Ordering::Relaxed),
            meter.held.load(Ordering::Relaxed),
        );
        report.target(
            "events without a receipt",
            float(written.saturating_sub(held)),
            "",
            0.0,
        );
        report.target(
            "copies that differ",
            count(self.differing(shipped)),
            "",
            0.0,
        );
        let faults = meter.faults.lock().expect("faults");
        for fault in faults.iter().take(3) {
            eprintln!("load: {fault}");
        }
        report.target("faults", count(faults.len()), "", 0.0);
        let bytes = meter.bytes.load(Ordering::Relaxed);
        if written > 0 {
            report.told("bytes of an event", float(bytes) / float(written), "");
        }
    }

    /// Asks questions until `end`, and answers them; returns the times to the inbox and to the machine.
    async fn questions(&mut self, end: Instant) -> Result<Asked, String> {
        let asked = Asked::default();
        let mut inbox = self.voter.follow("questions").await;
        let pause = Duration::from_secs(1) / u32::try_from(ASKED_PER_SECOND).expect("few");
        let mut next = Instant::now();
        while Instant::now() < end {
            sleep(next.saturating_duration_since(Instant::now())).await;
            next = Instant::now() + pause;
            // What came before says nothing about this question.
            while timeout(Duration::from_millis(1), inbox.next())
                .await
                .is_ok()
            {}
            self.approvals += 1;
            let approval = ApprovalId::from_random(self.approvals);
            let index = usize::try_from(self.approvals).expect("few") * 7;
            let machine = self.machines().get(index % self.machines().len());
            let machine = Arc::clone(machine.expect("a machine"));
            let session = SessionId::from_random(1 << 40 | u64::from(self.approvals));
            let sent = question(ROLE, machine.now());
            let begun = Instant::now();
            let connected = machine.connected();
            let (put, came) = tokio::join!(
                connected.ask(&session, &approval, &sent),
                timeout(Duration::from_secs(20), inbox.next())
            );
            put.map_err(|error| error.to_string())?;
            let came = came.map_err(|_| "the inbox does not hear of a question")?;
            asked.inbox.add(came.ok_or("the stream has ended")? - begun);
            self.answer(
                &machine,
                &session,
                &approval,
                &sent.rendered.to_string(),
                &asked,
            )
            .await?;
        }
        Ok(asked)
    }

    async fn answer(
        &self,
        machine: &Arc<Machine>,
        session: &SessionId,
        approval: &ApprovalId,
        rendered: &str,
        asked: &Asked,
    ) -> Result<(), String> {
        let all = self.voter.data("/api/v1/questions").await;
        let all = all.get("questions").and_then(|all| all.as_array());
        let open = all.and_then(|all| all.iter().find(|one| one["state"] == "open"));
        let id = open
            .and_then(|one| one["id"].as_str())
            .ok_or("no question is open")?;
        let form = [
            ("rendered", rendered),
            ("scope", "once"),
            ("reason", "looked at"),
            ("choice", "allow"),
        ];
        let begun = Instant::now();
        self.voter.post(&format!("/inbox/{id}"), &form).await;
        let end = begun + Duration::from_secs(20);
        let came = loop {
            if let Some(came) = self.seen.answer(approval) {
                break came;
            }
            if Instant::now() > end {
                return Err("the answer does not come".to_owned());
            }
            sleep(Duration::from_millis(1)).await;
        };
        asked.answer.add(came.saturating_duration_since(begun));
        let closed = machine.connected().close(session, approval).await;
        closed.map_err(|error| error.to_string())
    }

    pub(crate) async fn ask(&mut self, options: &Options) -> Report {
        self.ensure_connected().await;
        let what = format!(
            "{ASKED_PER_SECOND} questions a second, each answered, while machines ship {} events a second",
            options.rate
        );
        let mut report = Report::new("ask", what);
        let meter = Arc::new(Meter::default());
        let mut shipping = self.start_sessions(options, &meter);
        let end = Instant::now() + Duration::from_secs(options.seconds.into());
        let asked = self.questions(end).await;
        let mut shipped = Vec::new();
        while let Some(done) = shipping.join_next().await {
            shipped.push(done.expect("a session"));
        }
        self.asked(&mut report, asked, 200.0);
        self.whole(&mut report, &meter, &shipped);
        report.told("receipt, p99", meter.acks.percentile_ms(99), "ms");
        report
    }

    fn asked(&self, report: &mut Report, asked: Result<Asked, String>, at_most: f64) {
        let asked = asked.unwrap_or_else(|why| panic!("{why}\n{}", self.site.said()));
        assert!(asked.inbox.count() > 0, "nothing was asked");
        report.target(
            "question to the inbox, p99",
            asked.inbox.percentile_ms(99),
            "ms",
            at_most,
        );
        report.target(
            "answer to the machine, p99",
            asked.answer.percentile_ms(99),
            "ms",
            at_most,
        );
        report.told(
            "question to the inbox, p50",
            asked.inbox.percentile_ms(50),
            "ms",
        );
        report.told(
            "answer to the machine, p50",
            asked.answer.percentile_ms(50),
            "ms",
        );
        report.told("questions", count(asked.inbox.count()), "");
        report.target(
            "statements that machines refused",
            count(self.seen.refused().len()),
            "",
            0.0,
        );
    }

    /// Many browsers follow the page of one session.
    pub(crate) async fn tail(&mut self, options: &Options) -> Report {
        self.ensure_connected().await;
        let what = format!("{BROWSERS} browsers follow a session of {TAIL_RATE} events a second");
        let mut report = Report::new("tail", what);
        let meter = Arc::new(Meter::default());
        let lasts = Duration::from_secs(options.seconds.into());
        let plan = Plan {
            rate: TAIL_RATE,
            lasts,
            after: Duration::ZERO,
        };
        let number = self.sessions;
        self.sessions += 1;
        let machine = Arc::clone(self.machines().first().expect("a machine"));
        let shipping = tokio::spawn(ship(machine, number, plan, Arc::clone(&meter)));
        let mut browsers = JoinSet::new();
        for _ in 0..BROWSERS {
            // Each its own connection, as browsers have.
            let browser = self.site.browser_of(&self.lead).await;
            let mut browser = browser.follow("sessions").await;
            browsers.spawn(async move {
                let end = Instant::now() + lasts;
                let mut frames = 0_u64;
                let mut longest = Duration::ZERO;
                let mut last = Instant::now();
                while let Ok(Some(at)) = timeout(
                    end.saturating_duration_since(Instant::now()),
                    browser.next(),
                )
                .await
                {
                    longest = longest.max(at.saturating_duration_since(last));
                    (frames, last) = (frames + 1, at);
                }
                (frames, longest)
            });
        }
        let (mut most, mut least, mut longest) = (0, u64::MAX, Duration::ZERO);
        while let Some(done) = browsers.join_next().await {
            let (frames, gap) = done.expect("a browser");
            most = most.max(frames);
            least = least.min(frames);
            longest = longest.max(gap);
        }
        let (id, dir) = shipping.await.expect("a session");
        let seconds = f64::from(options.seconds);
        report.target("frames a second, most", float(most) / seconds, "", 20.0);
        report.target(
            "longest time without a frame",
            longest.as_secs_f64(),
            "s",
            3.0,
        );
        report.told("frames a second, least", float(least) / seconds, "");
        self.whole(&mut report, &meter, &[(0, id, dir)]);
        report
    }

    /// Publishes a policy to all machines.
    pub(crate) async fn roll(&mut self) -> Report {
        self.ensure_connected().await;
        let nodes = self.machines().len();
        let mut report = Report::new("roll", format!("a bundle for {nodes} connected machines"));
        let before = self.site.usage();
        self.seen.expect_bundle();
        let before_count = self.seen.bundles().count();
        self.lead.publish(&policy(self.serial), self.serial).await;
        self.serial += 1;
        let begun = Instant::now();
        while self.seen.bundles().count() - before_count < nodes {
            assert!(
                begun.elapsed() < Duration::from_mins(2),
                "{} of {nodes} machines stored the bundle; {:?}",
                self.seen.bundles().count() - before_count,
                self.seen.refused().first()
            );
            sleep(Duration::from_millis(10)).await;
        }
        let bundles = self.seen.bundles();
        report.target(
            "stored and acknowledged, p99",
            bundles.percentile_ms(99) / 1e3,
            "s",
            5.0,
        );
        report.told(
            "stored and acknowledged, p50",
            bundles.percentile_ms(50) / 1e3,
            "s",
        );
        let cpu = self.site.usage().cpu_ms.saturating_sub(before.cpu_ms);
        report.told(
            "time of the server's processor a machine",
            float(cpu) / count(nodes),
            "ms",
        );
        report
    }

    /// Machines that were offline send all that they have at once.
    pub(crate) async fn flood(&mut self) -> Report {
        self.ensure_connected().await;
        let many = self.machines().len().min(FLOOD_MACHINES);
        let meter = Arc::new(Meter::default());
        let mut ended = Vec::new();
        for machine in self.fleet.machines.iter().take(many) {
            ended.push(vec![backlog(machine, self.sessions, FLOOD_EVENTS, &meter)]);
            self.sessions += 1;
        }
        let megabytes = float(meter.bytes.load(Ordering::Relaxed)) / 1e6;
        let what = format!(
            "{many} machines send {megabytes:.0} MB that they have recorded, as fast as they can"
        );
        let mut report = Report::new("flood", what);
        let (begun, before) = (Instant::now(), self.site.usage());
        let mut shipping = JoinSet::new();
        for (index, ended) in ended.iter().enumerate() {
            let machine = Arc::clone(self.machines().get(index).expect("a machine"));
            shipping.spawn(ship_ended(machine, ended.clone(), Arc::clone(&meter)));
        }
        let drained = tokio::spawn(async move {
            while shipping.join_next().await.is_some() {}
            Instant::now()
        });
        let mut all = Asked::default();
        while !drained.is_finished() && begun.elapsed() < FLOOD_PATIENCE {
            let some = self
                .questions(Instant::now() + Duration::from_secs(1))
                .await;
            match some {
                Ok(some) => all.join(&some),
                Err(why) => panic!("{why}\n{}", self.site.said()),
            }
        }
        let drained = drained.await.expect("a flood") - begun;
        let after = self.site.usage();
        let shipped: Vec<Shipped> = ended
            .iter()
            .enumerate()
            .flat_map(|(index, all)| {
                all.iter()
                    .map(move |(id, dir)| (index, id.clone(), dir.clone()))
            })
            .collect();
        let written = float(meter.written.load(Ordering::Relaxed));
        report.target(
            "memory of the server, at most",
            float(after.peak_kib) / 1e3,
            "MB",
            512.0,
        );
        self.asked(&mut report, Ok(all), 1_000.0);
        self.whole(&mut report, &meter, &shipped);
        report.told("events a second", written / drained.as_secs_f64(), "");
        report.told("until the server has all", drained.as_secs_f64(), "s");
        report.told(
            "pieces without room",
            float(meter.busy.load(Ordering::Relaxed)),
            "",
        );
        report.told(
            "processor of the server, of a core",
            share(before, after, drained),
            "%",
        );
        report
    }
}

/// Returns a policy that differs from that of every other serial.
fn policy(serial: u64) -> String {
    format!("{POLICY}\n# after serial {serial}\n")
}

/// Returns which part of a core a process has used, in percent.
pub(crate) fn share(before: Usage, after: Usage, lasted: Duration) -> f64 {
    float(after.cpu_ms.saturating_sub(before.cpu_ms)) / lasted.as_secs_f64() / 10.0
}

fn per_second(meter: &Meter, seconds: u32) -> f64 {
    float(meter.written.load(Ordering::Relaxed)) / f64::from(seconds)
}

//! The same rate of messages through a broker of the distribution, mosquitto: what each message costs where nothing is
//! verified, chained or kept.

use std::{
    collections::VecDeque,
    env, fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use stockade_testkit::fleet::{Times, Usage};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    figures::{Report, count, float},
    scenarios::{ACTIVE, Options, share},
};

/// Bytes of a message, those of an event of `ship`.
const MESSAGE_BYTES: usize = 243;
/// Where Debian has the program, beside what is on the path.
const PLACE: &str = "/usr/sbin";
const TOPIC: &[u8] = b"events";

/// A broker that was started.
struct Broker {
    process: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Broker {
    /// Starts it; `None` if it is not installed.
    fn start() -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let mut places = env::split_paths(&path).chain([PathBuf::from(PLACE)]);
        let program =
            places.find_map(|dir| Some(dir.join("mosquitto")).filter(|path| path.is_file()))?;
        let dir = tempfile::tempdir().expect("a directory");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let settings =
            format!("listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\n");
        let file = dir.path().join("mosquitto.conf");
        fs::write(&file, settings).expect("a file");
        let process = Command::new(program)
            .arg("-c")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = process.expect("the broker starts");
        Some(Self {
            process,
            port,
            _dir: dir,
        })
    }

    /// Connects a client.
    async fn connect(&self, name: &str) -> TcpStream {
        let begun = Instant::now();
        let mut stream = loop {
            match TcpStream::connect(("127.0.0.1", self.port)).await {
                Ok(stream) => break stream,
                Err(_) if begun.elapsed() < Duration::from_secs(10) => {
                    sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("the broker does not listen: {error}"),
            }
        };
        // MQTT 3.1.1: a clean session, no time after which silence is an end.
        let mut body = b"\x00\x04MQTT\x04\x02\x00\x00".to_vec();
        text(&mut body, name.as_bytes());
        stream
            .write_all(&packet(0x10, &body))
            .await
            .expect("CONNECT");
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.expect("CONNACK");
        assert_eq!(answer, [0x20, 2, 0, 0], "the broker takes the client");
        stream
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let ended = self.process.kill().and_then(|()| self.process.wait());
        stockade_types::ignored(ended, "it has ended by itself");
    }
}

fn text(to: &mut Vec<u8>, text: &[u8]) {
    let length = u16::try_from(text.len()).expect("short");
    to.extend(length.to_be_bytes());
    to.extend(text);
}

/// Writes a packet: its kind, the length of the rest in groups of seven bits, and the rest.
fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut left = body.len();
    loop {
        let low = u8::try_from(left % 128).expect("seven bits");
        left /= 128;
        packet.push(if left > 0 { low | 0x80 } else { low });
        if left == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

/// Publishes so many messages in a second, each of which the broker acknowledges (quality of service 1).
async fn publish(mut stream: TcpStream, every: Duration, end: Instant, times: Arc<Times>) {
    let mut sent: VecDeque<Instant> = VecDeque::new();
    let (mut next, mut number) = (Instant::now(), 0_u16);
    let mut read = Vec::new();
    while next < end || !sent.is_empty() {
        tokio::select! {
            () = sleep_until(next), if next < end => {
                number = number.wrapping_add(1).max(1);
                let mut body = Vec::new();
                text(&mut body, TOPIC);
                body.extend(number.to_be_bytes());
                body.resize(body.len() + MESSAGE_BYTES, b'x');
                sent.push_back(Instant::now());
                stream.write_all(&packet(0x32, &body)).await.expect("PUBLISH");
                next += every;
            }
            got = stream.read_buf(&mut read) => {
                assert!(got.expect("PUBACK") > 0, "the broker has ended");
                // An acknowledgement has four bytes, and they come in order.
                let whole = read.len() / 4;
                read.drain(..whole * 4);
                for at in sent.drain(..whole) {
                    times.add(at.elapsed());
                }
            }
        }
    }
}

/// Takes everything, as a program that stores it would, and counts it in bytes.
async fn subscribe(mut stream: TcpStream) -> u64 {
    let mut body = vec![0, 1];
    text(&mut body, TOPIC);
    body.push(0);
    stream
        .write_all(&packet(0x82, &body))
        .await
        .expect("SUBSCRIBE");
    let mut all = 0_u64;
    let mut buffer = vec![0; 1 << 16];
    while let Ok(got @ 1..) = stream.read(&mut buffer).await {
        all += u64::try_from(got).expect("few");
    }
    all
}

/// Measures it; nothing if it is not installed.
pub(crate) async fn peer(options: &Options) -> Option<Report> {
    let broker = Broker::start()?;
    let nodes = usize::try_from(options.nodes).expect("few");
    let clients = (nodes / ACTIVE).max(1);
    let what = format!(
        "mosquitto: {clients} clients publish {} messages of {MESSAGE_BYTES} bytes a second together, without TLS, \
         each acknowledged, to one that takes all; nothing is verified or kept",
        options.rate
    );
    let mut report = Report::new("peer", what);
    let taking = tokio::spawn(subscribe(broker.connect("all").await));
    let times = Arc::new(Times::default());
    let lasts = Duration::from_secs(options.seconds.into());
    let every = Duration::from_secs_f64(count(clients) / f64::from(options.rate));
    let mut publishing = JoinSet::new();
    let mut streams = Vec::new();
    for number in 0..clients {
        streams.push(broker.connect(&format!("c{number}")).await);
    }
    let (begun, before) = (Instant::now(), Usage::of(broker.process.id()));
    for stream in streams {
        publishing.spawn(publish(stream, every, begun + lasts, Arc::clone(&times)));
    }
    while let Some(done) = publishing.join_next().await {
        done.expect("a client");
    }
    let (lasted, after) = (begun.elapsed(), Usage::of(broker.process.id()));
    drop(broker);
    let taken = taking.await.expect("who takes all");
    report.told(
        "processor of the broker, of a core",
        share(before, after, lasted),
        "%",
    );
    report.told("acknowledgement, p99", times.percentile_ms(99), "ms");
    report.told("acknowledgement, p50", times.percentile_ms(50), "ms");
    let published = count(times.count());
    report.told("messages a second", published / lasted.as_secs_f64(), "");
    report.told("MB that were taken", float(taken) / 1e6, "");
    Some(report)
}

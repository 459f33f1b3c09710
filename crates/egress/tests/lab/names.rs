//! DNS from outside: a client, and a name server that is scripted and remembers.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    time::timeout,
};

use super::PATIENCE;

pub fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

/// Asks over UDP.
pub async fn ask(server: SocketAddr, name: &str, kind: RecordType) -> Message {
    ask_bytes(server, &query(name, kind)).await
}

pub async fn ask_bytes(server: SocketAddr, bytes: &[u8]) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    socket.send(bytes).await.unwrap();
    let mut buffer = [0; 2048];
    let read = timeout(PATIENCE, socket.recv(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    let message = Message::from_vec(&buffer[..read]).unwrap();
    assert_eq!(message.metadata.id, 4711);
    message
}

/// Asks over TCP.
pub async fn ask_stream(stream: &mut TcpStream, name: &str, kind: RecordType) -> Message {
    let bytes = query(name, kind);
    stream
        .write_u16(u16::try_from(bytes.len()).unwrap())
        .await
        .unwrap();
    stream.write_all(&bytes).await.unwrap();
    let length = timeout(PATIENCE, stream.read_u16()).await.unwrap().unwrap();
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

pub fn addresses(message: &Message) -> Vec<IpAddr> {
    message
        .answers
        .iter()
        .filter_map(|record| record.data.ip_addr())
        .collect()
}

/// Looks `name` up as `getaddrinfo` would; `Err` is the code.
pub async fn lookup(server: SocketAddr, name: &str) -> Result<IpAddr, ResponseCode> {
    let (v4, v6) = tokio::join!(
        ask(server, name, RecordType::A),
        ask(server, name, RecordType::AAAA),
    );
    assert_eq!(v4.metadata.response_code, v6.metadata.response_code);
    addresses(&v4)
        .first()
        .copied()
        .ok_or(v4.metadata.response_code)
}

/// What the scripted server answers a question with.
pub struct Script {
    pub addresses: Vec<IpAddr>,
    pub truncate: bool,
}

/// A name server on loopback.
pub struct NameServer {
    pub address: SocketAddr,
    pub queries: Arc<Mutex<Vec<(String, RecordType)>>>,
    /// Other records than addresses, by name.
    pub records: Records,
}

pub type Records = Arc<Mutex<Vec<(String, RData)>>>;

impl NameServer {
    /// `answer` is called with the name and how often its addresses were asked for before.
    pub async fn start(answer: impl Fn(&str, usize) -> Script + Send + Sync + 'static) -> Self {
        let (listener, socket) = same_port().await;
        let address = listener.local_addr().unwrap();
        let queries = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::new(answer);
        let records = Records::default();
        let (for_udp, for_tcp) = (Arc::clone(&records), Arc::clone(&records));
        let (known, over_tcp) = (Arc::clone(&queries), Arc::clone(&answer));
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            loop {
                let (read, peer) = socket.recv_from(&mut buffer).await.unwrap();
                let reply = reply(&buffer[..read], (&known, &for_udp), answer.as_ref(), false);
                socket.send_to(&reply, peer).await.unwrap();
            }
        });
        let known = Arc::clone(&queries);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let length = stream.read_u16().await.unwrap();
                let mut bytes = vec![0; usize::from(length)];
                stream.read_exact(&mut bytes).await.unwrap();
                let reply = reply(&bytes, (&known, &for_tcp), over_tcp.as_ref(), true);
                stream
                    .write_u16(u16::try_from(reply.len()).unwrap())
                    .await
                    .unwrap();
                stream.write_all(&reply).await.unwrap();
            }
        });
        Self {
            address,
            queries,
            records,
        }
    }

    pub fn asked(&self) -> Vec<(String, RecordType)> {
        self.queries.lock().unwrap().clone()
    }
}

/// Takes one free port for both protocols; the second may be taken by somebody else.
async fn same_port() -> (TcpListener, UdpSocket) {
    for _ in 0..100 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()).await {
            return (listener, socket);
        }
    }
    panic!("no port is free for both protocols");
}

fn reply(
    bytes: &[u8],
    (known, records): (&Mutex<Vec<(String, RecordType)>>, &Records),
    answer: &(dyn Fn(&str, usize) -> Script + Send + Sync),
    over_tcp: bool,
) -> Vec<u8> {
    let asked = Message::from_vec(bytes).unwrap();
    let question = asked.queries.first().unwrap().clone();
    let name = question.name().to_ascii();
    let kind = question.query_type();
    let before = {
        let mut known = known.lock().unwrap();
        let before = known
            .iter()
            .filter(|(n, k)| *n == name && *k == kind)
            .count();
        known.push((name.clone(), kind));
        before
    };
    let mut message = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
    message.add_query(question.clone());
    if !matches!(kind, RecordType::A | RecordType::AAAA) {
        for (own, data) in records.lock().unwrap().iter() {
            if *own == name && data.record_type() == kind {
                message.add_answer(Record::from_rdata(question.name().clone(), 0, data.clone()));
            }
        }
        let whole = message.to_vec().unwrap();
        if over_tcp || whole.len() <= 1232 {
            return whole;
        }
        message.answers.clear();
        message.metadata.truncation = true;
        return message.to_vec().unwrap();
    }
    let script = answer(&name, before);
    if script.truncate && !over_tcp {
        message.metadata.truncation = true;
        return message.to_vec().unwrap();
    }
    for address in script.addresses {
        let data = match (address, kind) {
            (IpAddr::V4(v4), RecordType::A) => RData::A(v4.into()),
            (IpAddr::V6(v6), RecordType::AAAA) => RData::AAAA(v6.into()),
            _ => continue,
        };
        message.add_answer(Record::from_rdata(question.name().clone(), 0, data));
    }
    message.to_vec().unwrap()
}

//! One request of our own to a registry.

use std::io::Read as _;

use flate2::read::MultiGzDecoder;
use stockade_policy::{Approvals, AsRequest, Ecosystem, NetRequest};
use stockade_types::Verdict;

use super::Place;
use crate::{
    alpn::Http,
    dial::Carries,
    gate::count,
    http::{
        Carrier, Way,
        h1::head::{Carried, write},
        head::{Field, Fields, Head},
        whole,
    },
    judge::{Judgement, Waiter},
    limits::DESCRIPTION_BYTES_MAX,
    upstream::Upstream,
    watch::Watch,
};

/// What gzip begins with (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Asks for a description of a package as the program that sent `own`; or says why there is none.
pub(super) async fn description(
    carrier: Carrier<'_>,
    own: &Head,
    (place, ecosystem): (&Place, Ecosystem),
    waiter: Waiter<'_>,
) -> Result<Vec<u8>, String> {
    let request = carrier.request();
    if (&place.host, place.port) == (&request.host, request.port) {
        let head = head(carrier, own, (place, ecosystem), true);
        return send(carrier, head, waiter).await;
    }
    let elsewhere = NetRequest {
        host: place.host.clone(),
        port: place.port,
        subject: request.subject.clone(),
    };
    let judge = &carrier.proxy.judge;
    if judge.look(&elsewhere.as_request()).verdict != Verdict::Allow {
        return Err(not_allowed(place));
    }
    match judge.judge(&elsewhere, &Approvals::none(), waiter).await {
        Judgement::Permitted(allowed) => {
            let carrier = Carrier {
                allowed: &allowed,
                ..carrier
            };
            let head = head(carrier, own, (place, ecosystem), false);
            send(carrier, head, waiter).await
        }
        Judgement::Denied(_) => Err(not_allowed(place)),
    }
}

fn not_allowed(place: &Place) -> String {
    format!(
        "policy does not allow to ask `{}` about it without a question",
        place.host
    )
}

/// Makes the head; a login of the program's is for its own host alone.
fn head(
    carrier: Carrier<'_>,
    own: &Head,
    (place, ecosystem): (&Place, Ecosystem),
    is_same_host: bool,
) -> Head {
    let usual = if carrier.sealed { 443 } else { 80 };
    let host = match place.port.get() {
        port if port == usual => place.host.to_string(),
        port => format!("{}:{port}", place.host),
    };
    let accept = match ecosystem {
        Ecosystem::Pypi => "application/vnd.pypi.simple.v1+json",
        Ecosystem::Npm | Ecosystem::Go => "application/json",
        Ecosystem::Crates | Ecosystem::Debian | Ecosystem::Oci => "*/*",
    };
    let mut fields = Fields::default();
    for (name, value) in [
        ("Host", host.as_bytes()),
        ("User-Agent", own.agent()),
        ("Accept", accept.as_bytes()),
        ("Accept-Encoding", b"identity"),
        ("Connection", b"close"),
    ] {
        fields.add(Field {
            name: name.as_bytes(),
            value,
        });
    }
    let is_login = |field: &Field<'_>| is_same_host && field.is("authorization");
    own.fields
        .iter()
        .filter(is_login)
        .for_each(|field| fields.add(field));
    Head {
        method: "GET".to_owned(),
        host: place.host.clone(),
        port: Some(place.port.get()),
        path: place.path.as_str().into(),
        fields,
    }
}

/// Takes the request through all that happens to one of a program, and reads the answer.
async fn send(carrier: Carrier<'_>, head: Head, waiter: Waiter<'_>) -> Result<Vec<u8>, String> {
    let host = carrier.request().host.to_string();
    let meaning = carrier
        .proxy
        .judge
        .meaning(&carrier.request().host, "GET", &head.path);
    let request = carrier.addressed(head, Carried::bare(), meaning.into());
    // What would be refused or asked about is not tried: nobody but us wants it.
    let verdict = carrier.proxy.judge.look(&request.as_request()).verdict;
    if verdict != Verdict::Allow {
        return Err(format!(
            "policy does not allow to ask `{host}` about it without a question"
        ));
    }
    let carries = if carrier.sealed {
        Carries::Sealed(Http::One)
    } else {
        Carries::Requests
    };
    let mut upstream = None;
    let way = Way::Closed(Box::pin(async {
        let said = (None, Some("to ask how old a version is".to_owned()));
        let made = (None, carries);
        upstream = Some(Upstream::open(carrier.proxy, carrier.allowed, made, said).await?);
        Ok(())
    }));
    let admitted = Box::pin(carrier.admit(&request, waiter, way)).await;
    let admitted = admitted.map_err(|_| format!("`{host}` could not be asked"))?;
    let mut upstream = upstream.ok_or_else(|| format!("`{host}` could not be asked"))?;
    let dressed = carrier
        .proxy
        .credentials
        .dress(&admitted.allowed.permitted, &admitted.uses);
    let bytes = write(&dressed, upstream.forward.as_ref());
    let (incoming, mut outgoing) = upstream.server.open(&admitted.allowed, Watch::over());
    let failed = || format!("`{host}` could not be asked");
    outgoing
        .announce(count(bytes.len()))
        .map_err(|_| failed())?;
    outgoing.write(&bytes).await.map_err(|_| failed())?;
    let (head, body) = whole::receive(incoming, "GET", DESCRIPTION_BYTES_MAX)
        .await
        .ok_or_else(|| format!("`{host}` did not describe it in an answer that can be read"))?;
    if head.status != 200 {
        return Err(format!("`{host}` answers with status {}", head.status));
    }
    plain(body, head.coded).ok_or_else(|| format!("the description at `{host}` cannot be read"))
}

/// Unpacks what a registry has packed although it was asked not to; bounded.
fn plain(body: Vec<u8>, coded: bool) -> Option<Vec<u8>> {
    if !coded {
        return Some(body);
    }
    if !body.starts_with(&GZIP) {
        return None;
    }
    let mut text = Vec::new();
    let limit = count(DESCRIPTION_BYTES_MAX);
    let mut reader = MultiGzDecoder::new(body.as_slice()).take(limit + 1);
    reader.read_to_end(&mut text).ok()?;
    (text.len() <= DESCRIPTION_BYTES_MAX).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::plain;
    use crate::limits::DESCRIPTION_BYTES_MAX;

    #[test]
    fn what_is_packed_is_unpacked_within_its_bound() {
        let packed = |bytes: usize| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&vec![b' '; bytes]).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(plain(b"{}".to_vec(), false).unwrap(), b"{}");
        assert_eq!(plain(packed(3), true).unwrap(), b"   ");
        assert_eq!(plain(packed(DESCRIPTION_BYTES_MAX + 1), true), None);
        assert_eq!(plain(b"{}".to_vec(), true), None);
        let mut cut = packed(1000);
        cut.truncate(cut.len() / 2);
        assert_eq!(plain(cut, true), None);
    }
}

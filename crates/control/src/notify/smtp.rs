//! The dialogue with a relay of mail (RFC 5321, RFC 3207, RFC 4954): commands, and replies of bounded
//! length.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Bytes of a line of a reply; the standard lets one have 512.
const LINE_BYTES_MAX: usize = 2_000;
/// Lines of a reply.
const LINES_MAX: usize = 100;
/// Characters of a refusal that are kept.
const WORDS_CHARS_MAX: usize = 200;
/// Bytes that are read at once.
const CHUNK: usize = 1_024;

/// A dialogue.
pub(super) struct Dialogue<S> {
    stream: S,
    /// What was read and not understood yet.
    ahead: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Dialogue<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self {
            stream,
            ahead: Vec::new(),
        }
    }

    /// Returns the connection, to begin TLS on it.
    ///
    /// # Errors
    /// When the relay, or somebody between, has said more than it was asked: that would be read as if it
    /// were said inside TLS.
    pub(super) fn into_inner(self) -> Result<S, String> {
        if self.ahead.is_empty() {
            return Ok(self.stream);
        }
        Err("the relay said something before TLS that belongs behind it".to_owned())
    }

    /// Waits for the greeting.
    ///
    /// # Errors
    /// When it is none.
    pub(super) async fn greeted(&mut self) -> Result<(), String> {
        self.expect("its greeting", &[220]).await.map(drop)
    }

    /// Says who we are, and returns what the relay offers.
    ///
    /// # Errors
    /// When it refuses.
    pub(super) async fn hello(&mut self, own: &str) -> Result<Vec<String>, String> {
        let lines = self.command(&format!("EHLO {own}"), "EHLO", &[250]).await?;
        let offers = lines.iter().skip(1).map(|line| line.to_ascii_uppercase());
        Ok(offers.collect())
    }

    /// Logs in with a name and a password.
    ///
    /// # Errors
    /// When the relay has no way that we know, or refuses.
    pub(super) async fn log_in(
        &mut self,
        offers: &[String],
        name: &str,
        password: &str,
    ) -> Result<(), String> {
        let offers = |way: &str| {
            let ways = offers
                .iter()
                .filter_map(|offer| offer.strip_prefix("AUTH "));
            ways.flat_map(str::split_whitespace).any(|one| one == way)
        };
        if offers("PLAIN") {
            let both = STANDARD.encode(format!("\0{name}\0{password}"));
            let line = format!("AUTH PLAIN {both}");
            return self.command(&line, "AUTH", &[235]).await.map(drop);
        }
        if offers("LOGIN") {
            self.command("AUTH LOGIN", "AUTH", &[334]).await?;
            let (name, password) = (STANDARD.encode(name), STANDARD.encode(password));
            self.command(&name, "the name", &[334]).await?;
            return self
                .command(&password, "the password", &[235])
                .await
                .map(drop);
        }
        Err("the relay offers neither AUTH PLAIN nor AUTH LOGIN".to_owned())
    }

    /// Sends a command, and returns the lines of the reply. `what` names it for people, since a line may hold
    /// a password.
    ///
    /// # Errors
    /// When the reply has another code.
    pub(super) async fn command(
        &mut self,
        line: &str,
        what: &str,
        codes: &[u16],
    ) -> Result<Vec<String>, String> {
        if line.contains(['\r', '\n']) {
            return Err(format!("{what} has two lines"));
        }
        self.write(&format!("{line}\r\n")).await?;
        self.expect(what, codes).await
    }

    /// Sends the bytes of a message.
    ///
    /// # Errors
    /// When the relay does not take it.
    pub(super) async fn data(&mut self, message: &str) -> Result<(), String> {
        let stuffed = message.replace("\r\n.", "\r\n..");
        self.write(&format!("{stuffed}.\r\n")).await?;
        self.expect("the message", &[250]).await.map(drop)
    }

    async fn write(&mut self, text: &str) -> Result<(), String> {
        let broken = |error: std::io::Error| format!("the relay broke off: {error}");
        self.stream
            .write_all(text.as_bytes())
            .await
            .map_err(broken)?;
        self.stream.flush().await.map_err(broken)
    }

    async fn expect(&mut self, what: &str, codes: &[u16]) -> Result<Vec<String>, String> {
        let (code, lines) = self.reply().await?;
        if codes.contains(&code) {
            return Ok(lines);
        }
        let said = lines.join(" ");
        let said: String = said.chars().take(WORDS_CHARS_MAX).collect();
        Err(format!("the relay answered {what} with {code} {said}"))
    }

    /// Reads a reply: its code, and its lines without it.
    async fn reply(&mut self) -> Result<(u16, Vec<String>), String> {
        let wrong = || "the relay answered something that is no reply".to_owned();
        let mut lines = Vec::new();
        let mut first = None;
        while lines.len() < LINES_MAX {
            let line = self.line().await?;
            let code = line.get(..3).and_then(|code| code.parse::<u16>().ok());
            let code = code.filter(|code| (200..=599).contains(code));
            let code = code.ok_or_else(wrong)?;
            if *first.get_or_insert(code) != code {
                return Err(wrong());
            }
            lines.push(line.get(4..).unwrap_or_default().trim().to_owned());
            match line.as_bytes().get(3) {
                None | Some(b' ') => return Ok((code, lines)),
                Some(b'-') => {}
                Some(_) => return Err(wrong()),
            }
        }
        Err(format!("the relay answered more than {LINES_MAX} lines"))
    }

    async fn line(&mut self) -> Result<String, String> {
        loop {
            if let Some(end) = self.ahead.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.ahead.drain(..=end).collect();
                let text = String::from_utf8_lossy(&line);
                return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
            }
            if self.ahead.len() > LINE_BYTES_MAX {
                return Err(format!(
                    "the relay answered a line of more than {LINE_BYTES_MAX} bytes"
                ));
            }
            let mut chunk = [0; CHUNK];
            let read = self.stream.read(&mut chunk).await;
            let read = read.map_err(|error| format!("the relay broke off: {error}"))?;
            if read == 0 {
                return Err("the relay broke off".to_owned());
            }
            self.ahead.extend(chunk.iter().take(read));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::{Dialogue, LINE_BYTES_MAX};

    /// A relay that says these bytes whatever it is told.
    async fn asked(said: &[u8]) -> Result<Vec<String>, String> {
        let (here, mut there) = duplex(1 << 20);
        there.write_all(said).await.unwrap();
        there.shutdown().await.unwrap();
        Dialogue::new(here).hello("stockade.test").await
    }

    #[tokio::test]
    async fn replies_are_read_within_bounds() {
        let offers = asked(b"250-relay.test\r\n250-starttls\r\n250 AUTH PLAIN\r\n").await;
        assert_eq!(offers.unwrap(), ["STARTTLS", "AUTH PLAIN"]);
        assert_eq!(asked(b"250\r\n").await.unwrap(), [""; 0]);
        let long = vec![b'2'; LINE_BYTES_MAX + 2_000];
        let many = b"250-x\r\n".repeat(200);
        for (said, why) in [
            (&b"550 no\r\n"[..], "answered EHLO with 550 no"),
            (b"250-a\r\n550 b\r\n", "no reply"),
            (b"hello\r\n", "no reply"),
            (b"999 x\r\n", "no reply"),
            (b"250x\r\n", "no reply"),
            (b"", "broke off"),
            (b"250-a\r\n", "broke off"),
            (b"250-a", "broke off"),
            (&long, "a line of more than"),
            (&many, "more than 100 lines"),
            (b"\xff\xfe\r\n", "no reply"),
        ] {
            let refused = asked(said).await.unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }

    /// What comes in clear behind the reply to STARTTLS is not taken for something said inside TLS.
    #[tokio::test]
    async fn nothing_said_in_clear_goes_into_tls() {
        for (said, is_fine) in [
            (&b"220 go\r\n"[..], true),
            (b"220 go\r\n250 injected\r\n", false),
        ] {
            let (here, mut there) = duplex(1 << 16);
            there.write_all(said).await.unwrap();
            let mut dialogue = Dialogue::new(here);
            dialogue
                .command("STARTTLS", "STARTTLS", &[220])
                .await
                .unwrap();
            assert_eq!(dialogue.into_inner().is_ok(), is_fine);
        }
    }

    #[tokio::test]
    async fn no_line_of_a_message_ends_it_and_no_command_has_two_lines() {
        let (here, mut there) = duplex(1 << 16);
        there.write_all(b"250 taken\r\n").await.unwrap();
        let mut dialogue = Dialogue::new(here);
        dialogue
            .data("Subject: x\r\n\r\n.\r\nMAIL FROM:<eve@evil.test>\r\n")
            .await
            .unwrap();
        let two = dialogue
            .command("RCPT TO:<a@b>\r\nDATA", "RCPT", &[250])
            .await;
        assert_eq!(two, Err("RCPT has two lines".to_owned()));
        drop(dialogue);
        let mut sent = String::new();
        there.read_to_string(&mut sent).await.unwrap();
        assert_eq!(
            sent,
            "Subject: x\r\n\r\n..\r\nMAIL FROM:<eve@evil.test>\r\n.\r\n"
        );
    }
}

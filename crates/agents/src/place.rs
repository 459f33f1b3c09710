//! Which requests are calls, by their heads.

use stockade_types::RawText;

use crate::content::name;

/// A form of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Messages of Anthropic.
    Messages,
    /// Responses of OpenAI.
    Responses,
    /// Chat completions of OpenAI, which others offer too.
    Chat,
    /// Content of Gemini.
    Generate,
    /// Converse of Bedrock.
    Converse,
}

/// What the head of a request says of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its form.
    pub api: Api,
    /// The model, where the address names it.
    pub model: Option<RawText>,
    /// The answer is to come in pieces, where the address says so.
    pub streaming: Option<bool>,
}

impl Place {
    /// Reads method and path of a request; `None` if no known call is made so. Whether it is one, its
    /// body says.
    pub fn of(method: &str, path: &[u8]) -> Option<Self> {
        if method != "POST" {
            return None;
        }
        let end = path.iter().position(|byte| *byte == b'?');
        let path = decoded(path.get(..end.unwrap_or(path.len()))?);
        let path = std::str::from_utf8(&path).ok()?.trim_end_matches('/');
        let (before, last) = path.rsplit_once('/')?;
        let plain = |api| {
            Some(Self {
                api,
                model: None,
                streaming: None,
            })
        };
        match last {
            "messages" => return plain(Api::Messages),
            "responses" => return plain(Api::Responses),
            "completions" if before.ends_with("/chat") => return plain(Api::Chat),
            _ => {}
        }
        if let Some(place) = Self::of_bedrock(before, last) {
            return Some(place);
        }
        let (model, method) = last.rsplit_once(':')?;
        let (api, streaming) = match method {
            "generateContent" => (Api::Generate, false),
            "streamGenerateContent" => (Api::Generate, true),
            "rawPredict" => (Api::Messages, false),
            "streamRawPredict" => (Api::Messages, true),
            _ => return None,
        };
        // Code Assist has the model in the body: `/v1internal:generateContent`.
        let model = before.ends_with("/models").then(|| name(model.as_bytes()));
        Some(Self {
            api,
            model,
            streaming: Some(streaming),
        })
    }
}

impl Place {
    /// Reads a path of Bedrock, `/model/MODEL/METHOD`; a model can be a resource name with a slash.
    fn of_bedrock(before: &str, method: &str) -> Option<Self> {
        let (api, streaming) = match method {
            "invoke" => (Api::Messages, false),
            "invoke-with-response-stream" => (Api::Messages, true),
            "converse" => (Api::Converse, false),
            "converse-stream" => (Api::Converse, true),
            _ => return None,
        };
        let (_, model) = before.split_once("/model/")?;
        Some(Self {
            api,
            model: Some(name(model.as_bytes())),
            streaming: Some(streaming),
        })
    }
}

/// Resolves the escapes of a path, once.
fn decoded(path: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut plain = Vec::with_capacity(path.len());
    let mut at = 0;
    while let Some(byte) = path.get(at) {
        at += 1;
        let pair = (digit(path.get(at)), digit(path.get(at + 1)));
        match (byte, pair) {
            (b'%', (Some(high), Some(low))) => {
                plain.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 2;
            }
            _ => plain.push(*byte),
        }
    }
    plain
}

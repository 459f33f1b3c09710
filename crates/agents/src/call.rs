//! One call of a model: its two bodies while they pass.

use crate::{
    adapters::{self, Adapter, Gathering},
    claims::{Answered, Asked, Call},
    events::Events,
    frames::Frames,
    json::{Extent, Json},
    limits::BODY_BYTES_MAX,
    place::{Api, Place},
    tree::Tree,
};

/// The body of a request while it passes.
pub struct Request {
    place: Place,
    adapter: Box<dyn Adapter>,
    body: Bounded,
    json: Json,
}

impl Request {
    /// Begins with nothing read.
    pub fn new(place: Place) -> Self {
        let adapter = adapters::of(place.api);
        let json = Json::new(adapter.request());
        Self {
            place,
            adapter,
            body: Bounded::default(),
            json,
        }
    }

    /// Reads on.
    pub fn feed(&mut self, bytes: &[u8]) {
        let part = self.body.take(bytes);
        self.json.feed(part);
    }

    /// Says what the request asks, as far as it was read.
    pub fn finish(self) -> Asked {
        let (tree, extent) = self.json.finish();
        let mut asked = Asked::default();
        if let Some(tree) = tree.filter(Tree::is_object) {
            self.adapter.ask(&tree, &mut asked);
        }
        if self.place.model.is_some() {
            asked.model = self.place.model;
        }
        asked.streaming = self.place.streaming.unwrap_or(asked.streaming);
        asked.is_truncated |= extent.is_truncated || extent.is_cut || self.body.is_over;
        asked
    }
}

/// The body of an answer while it passes.
pub struct Response {
    adapter: Box<dyn Adapter>,
    body: Bounded,
    form: Form,
    gathering: Gathering,
}

/// How an answer is written, which its first character says.
enum Form {
    Unknown,
    Json(Box<Json>),
    Events(Box<Events>),
    Frames(Box<Frames>),
}

impl Response {
    /// Begins with nothing read.
    pub fn new(api: Api) -> Self {
        Self {
            adapter: adapters::of(api),
            body: Bounded::default(),
            form: Form::Unknown,
            gathering: Gathering::default(),
        }
    }

    /// Reads on.
    pub fn feed(&mut self, bytes: &[u8]) {
        let part = self.body.take(bytes);
        if let Form::Unknown = &self.form {
            let is_blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
            let shape = self.adapter.response();
            self.form = match part.iter().find(|byte| !is_blank(byte)) {
                None => return,
                // The length of a frame begins so: none has 16 MiB.
                Some(0) => Form::Frames(Box::new(Frames::new(shape))),
                Some(b'{' | b'[') => Form::Json(Box::new(Json::new(shape))),
                Some(_) => Form::Events(Box::new(Events::new(shape))),
            };
        }
        let (adapter, gathering) = (&mut self.adapter, &mut self.gathering);
        let mut take = |tree: Option<Tree>, extent: Extent| {
            gathering.answered.is_truncated |= extent.is_truncated || extent.is_cut;
            // Of an event that is not whole nothing is taken.
            if let Some(tree) = tree.filter(|_| !extent.is_cut) {
                adapter.piece(&tree, gathering);
            }
        };
        match &mut self.form {
            Form::Unknown => {}
            Form::Json(json) => {
                json.feed(part);
                // Known with its last byte, so that nothing comes of a call that is not recorded.
                if let Some(tree) = json.take_whole() {
                    adapter.whole(&tree, gathering);
                }
            }
            Form::Events(events) => events.feed(part, &mut take),
            Form::Frames(frames) => frames.feed(part, &mut take),
        }
    }

    /// Returns the tool calls that have become whole since the last time.
    pub fn new_calls(&mut self) -> Vec<Call> {
        self.gathering.new_calls()
    }

    /// Says what was answered, as far as it was read; `is_cut` if it ended early.
    pub fn finish(mut self) -> Answered {
        let mut is_whole = true;
        match self.form {
            Form::Unknown => is_whole = false,
            Form::Events(events) => {
                is_whole = events.is_between();
                self.gathering.answered.is_answer |= self.gathering.has_ended;
            }
            Form::Frames(frames) => is_whole = frames.is_between(),
            Form::Json(json) => {
                let (tree, extent) = json.finish();
                if let Some(tree) = tree {
                    self.adapter.whole(&tree, &mut self.gathering);
                }
                is_whole &= !extent.is_cut;
                self.gathering.answered.is_truncated |= extent.is_truncated;
            }
        }
        let mut answered = self.gathering.finish();
        answered.is_cut |= !is_whole;
        answered.is_truncated |= self.body.is_over;
        answered
    }
}

/// Counts a body, of which no more than a bound is read.
#[derive(Debug, Default)]
struct Bounded {
    read: u64,
    is_over: bool,
}

impl Bounded {
    /// Returns what of the next bytes is read.
    fn take<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let left = usize::try_from(BODY_BYTES_MAX - self.read).unwrap_or(usize::MAX);
        let part = bytes.get(..left.min(bytes.len())).unwrap_or_default();
        self.is_over |= part.len() < bytes.len();
        self.read += u64::try_from(part.len()).unwrap_or_default();
        part
    }
}

//! A streamed response: the events that OpenAI's client adds up, each with its place in the sequence. The last one holds
//! the whole object, so the items are kept until then.

use chandler_core::{RequestError, TextDelta, Token, Usage};
use serde_json::{Value, json};

use super::object::{Face, Item, Status, part};
use crate::api::dialogue::blocks::{Block, Blocks, Change};
use crate::api::openai::logprobs;
use crate::api::sse::{Frames, Manners, Writer};

/// A response on its way out.
pub(super) struct Talk {
    face: Face,
    top: Option<usize>,
    blocks: Blocks,
    open: Option<Open>,
    output: Vec<Value>,
    /// How the answer ends, once it is known.
    status: Status,
    /// Tokens whose text has not come yet.
    waiting: Vec<Token>,
    sequence: u64,
}

/// The item that is being written.
struct Open {
    block: Block,
    id: String,
    text: String,
    logprobs: Vec<Value>,
}

impl Talk {
    pub(super) fn new(face: Face, top: Option<usize>) -> Self {
        Self {
            face,
            top,
            blocks: Blocks::default(),
            open: None,
            output: Vec::new(),
            status: Status::Completed,
            waiting: Vec::new(),
            sequence: 0,
        }
    }

    fn push(&mut self, kind: &str, mut event: Value, frames: &mut Frames) {
        event["type"] = kind.into();
        event["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        frames.push_named(kind, &event);
    }

    fn change(&mut self, change: Change, frames: &mut Frames) {
        match change {
            Change::Begun(block) => self.begin(block, frames),
            Change::More(text) => self.more(&text, frames),
            Change::Ended => self.end(Status::Completed, frames),
        }
    }

    fn begin(&mut self, block: Block, frames: &mut Frames) {
        let index = self.output.len();
        let id = self.face.item_id(&block, index);
        let empty = Item {
            text: "",
            logprobs: json!([]),
            status: Status::InProgress,
        };
        let added = json!({"output_index": index, "item": empty.of(&block, &id)});
        self.push("response.output_item.added", added, frames);
        if let Some(part) = part(&block, "", json!([])) {
            let added =
                json!({"item_id": id, "output_index": index, "content_index": 0, "part": part});
            self.push("response.content_part.added", added, frames);
        }
        self.open = Some(Open {
            block,
            id,
            text: String::new(),
            logprobs: Vec::new(),
        });
    }

    fn more(&mut self, text: &str, frames: &mut Frames) {
        // Why of text only: a call has no place for them.
        let logprobs = match &self.open {
            Some(open) if open.block == Block::Text => self.logprobs(),
            _ => Vec::new(),
        };
        let index = self.output.len();
        let Some(open) = &mut self.open else {
            return;
        };
        open.text.push_str(text);
        let mut event = json!({"item_id": open.id, "output_index": index, "delta": text});
        let kind = match open.block {
            Block::Thoughts => {
                event["content_index"] = 0.into();
                "response.reasoning_text.delta"
            }
            Block::Text => {
                open.logprobs.extend(logprobs.iter().cloned());
                event["content_index"] = 0.into();
                event["logprobs"] = logprobs.into();
                "response.output_text.delta"
            }
            Block::Call { .. } => "response.function_call_arguments.delta",
        };
        self.push(kind, event, frames);
    }

    /// The log-probabilities of the tokens that have waited for text.
    fn logprobs(&mut self) -> Vec<Value> {
        let (Some(top), tokens) = (self.top, std::mem::take(&mut self.waiting)) else {
            return Vec::new();
        };
        match logprobs::content(tokens, top) {
            Value::Array(list) => list,
            _ => Vec::new(),
        }
    }

    fn end(&mut self, status: Status, frames: &mut Frames) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        let index = self.output.len();
        if open.block == Block::Text {
            open.logprobs.extend(self.logprobs());
        }
        let place = json!({"item_id": open.id, "output_index": index});
        let with = |more: Value| {
            let mut event = place.clone();
            if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
                event.extend(more);
            }
            event
        };
        let (text, logprobs) = (&open.text, Value::from(open.logprobs));
        let (kind, done) = match &open.block {
            Block::Thoughts => (
                "response.reasoning_text.done",
                json!({"content_index": 0, "text": text}),
            ),
            Block::Text => (
                "response.output_text.done",
                json!({"content_index": 0, "text": text, "logprobs": logprobs}),
            ),
            Block::Call { name, .. } => (
                "response.function_call_arguments.done",
                json!({"name": name, "arguments": text}),
            ),
        };
        self.push(kind, with(done), frames);
        if let Some(part) = part(&open.block, text, logprobs.clone()) {
            let done = with(json!({"content_index": 0, "part": part}));
            self.push("response.content_part.done", done, frames);
        }
        let whole = Item {
            text,
            logprobs,
            status,
        };
        let item = whole.of(&open.block, &open.id);
        let done = json!({"output_index": index, "item": item});
        self.push("response.output_item.done", done, frames);
        self.output.push(item);
    }
}

impl Writer for Talk {
    fn manners(&self) -> Manners {
        Manners {
            done: "",
            cuts: false,
            ..Manners::OPENAI
        }
    }

    fn open(&mut self, _: Usage, frames: &mut Frames) {
        for kind in ["response.created", "response.in_progress"] {
            let object = self.face.object(Status::InProgress, &[], None);
            self.push(kind, json!({"response": object}), frames);
        }
    }

    fn text(&mut self, _: usize, mut delta: TextDelta, frames: &mut Frames) {
        if self.top.is_some() {
            self.waiting.append(&mut delta.tokens);
        }
        for change in self.blocks.take(&mut delta) {
            self.change(change, frames);
        }
        if delta.finish.is_some() {
            self.status = Status::of(delta.finish);
        }
    }

    fn close(&mut self, usage: Usage, frames: &mut Frames) {
        let answered = self
            .open
            .iter()
            .map(|open| open.block != Block::Thoughts)
            .chain(self.output.iter().map(|item| item["type"] != "reasoning"))
            .any(|answers| answers);
        if !answered {
            self.end(Status::Completed, frames);
            self.begin(Block::Text, frames);
        }
        self.end(self.status, frames);
        let object = self.face.object(self.status, &self.output, Some(usage));
        let kind = match self.status {
            Status::Incomplete => "response.incomplete",
            _ => "response.completed",
        };
        self.push(kind, json!({"response": object}), frames);
    }

    fn fail(&mut self, error: &RequestError, frames: &mut Frames) {
        let object = self.face.failed(error, &self.output);
        self.push("response.failed", json!({"response": object}), frames);
    }
}

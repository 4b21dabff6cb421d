//! A streamed message: Anthropic's named events, from message_start to message_stop.

use chandler_core::{FinishReason, RequestError, TextDelta, Usage};
use serde_json::{Value, json};

use super::answer::{Face, begin, stop_reason, usage_body};
use crate::api::dialogue::blocks::{Block, Blocks, Change};
use crate::api::error::anthropic_body;
use crate::api::sse::{Frames, Manners, Writer};

/// A message on its way out.
pub(super) struct Talk {
    face: Face,
    blocks: Blocks,
    /// What the open block holds, which decides what its pieces are called.
    open: Option<Block>,
    /// Blocks that have ended.
    ended: usize,
    finish: Option<FinishReason>,
    stop: Option<Box<str>>,
}

impl Talk {
    pub(super) fn new(face: Face) -> Self {
        Self {
            face,
            blocks: Blocks::default(),
            open: None,
            ended: 0,
            finish: None,
            stop: None,
        }
    }

    fn change(&mut self, change: Change, frames: &mut Frames) {
        let index = self.ended;
        match change {
            Change::Begun(block) => {
                let begun = begin(&block, "");
                push(
                    frames,
                    "content_block_start",
                    json!({"index": index, "content_block": begun}),
                );
                self.open = Some(block);
            }
            Change::More(text) => {
                let delta = match self.open {
                    Some(Block::Thoughts) => json!({"type": "thinking_delta", "thinking": text}),
                    Some(Block::Call { .. }) => {
                        json!({"type": "input_json_delta", "partial_json": text})
                    }
                    _ => json!({"type": "text_delta", "text": text}),
                };
                push(
                    frames,
                    "content_block_delta",
                    json!({"index": index, "delta": delta}),
                );
            }
            Change::Ended => {
                push(frames, "content_block_stop", json!({"index": index}));
                self.open = None;
                self.ended += 1;
            }
        }
    }
}

impl Writer for Talk {
    fn manners(&self) -> Manners {
        Manners {
            ping: "event: ping\ndata: {\"type\":\"ping\"}\n\n",
            done: "",
            cuts: true,
        }
    }

    fn open(&mut self, read: Usage, frames: &mut Frames) {
        let message = self.face.begun(read);
        push(frames, "message_start", json!({"message": message}));
        push(frames, "ping", json!({}));
    }

    fn text(&mut self, _: usize, mut delta: TextDelta, frames: &mut Frames) {
        for change in self.blocks.take(&mut delta) {
            self.change(change, frames);
        }
        self.finish = delta.finish.or(self.finish);
        self.stop = delta.stop.or(self.stop.take());
    }

    fn close(&mut self, usage: Usage, frames: &mut Frames) {
        if let Some(change) = self.blocks.end() {
            self.change(change, frames);
        }
        let reason = stop_reason(self.finish, self.stop.as_deref());
        let delta = json!({"stop_reason": reason, "stop_sequence": self.stop});
        let usage = usage_body(usage);
        push(
            frames,
            "message_delta",
            json!({"delta": delta, "usage": usage}),
        );
        push(frames, "message_stop", json!({}));
    }

    fn fail(&mut self, error: &RequestError, frames: &mut Frames) {
        frames.push_named("error", &anthropic_body(error));
    }
}

fn push(frames: &mut Frames, kind: &str, mut event: Value) {
    event["type"] = kind.into();
    frames.push_named(kind, &event);
}

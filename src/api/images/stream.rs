//! Pictures as events: what is there of them so far, and at the end the whole ones, in OpenAI's words.

use std::collections::BTreeMap;
use std::sync::Arc;

use chandler_core::{TextDelta, Usage};
use serde_json::{Value, json};

use super::answer::{self, Asked};
use crate::api::sse::{Encode, Frames, Seen, Writer};
use crate::api::state::unix_seconds;

/// Writes them.
pub(super) struct Events {
    asked: Arc<Asked>,
    /// What the events' names begin with.
    name: &'static str,
    /// How many previews each picture has had.
    partial: BTreeMap<u32, u32>,
    /// Whole pictures by their place. They wait for the usage, which OpenAI's event has and which is known at the end.
    completed: BTreeMap<u64, Value>,
}

impl Events {
    pub(super) fn new(asked: Arc<Asked>, name: &'static str) -> Self {
        Self {
            asked,
            name,
            partial: BTreeMap::new(),
            completed: BTreeMap::new(),
        }
    }

    /// What every event with a picture has.
    fn event(&self, kind: &str, (width, height): (u32, u32)) -> Value {
        json!({
            "type": format!("{}.{kind}", self.name),
            "b64_json": "",
            "created_at": unix_seconds(),
            "size": format!("{width}x{height}"),
            "quality": "auto",
            "background": "opaque",
            "output_format": self.asked.wish.encoding.format.name(),
        })
    }
}

impl Writer for Events {
    fn text(&mut self, _: usize, _: TextDelta, _: &mut Frames) {}

    fn progress(&mut self, _: usize, (done, total): (u32, u32), frames: &mut Frames) {
        if self.asked.wish.progress {
            let name = format!("{}.progress", self.name);
            frames.push_named(&name, &json!({"type": name, "step": done, "steps": total}));
        }
    }

    fn picture(&mut self, seen: Seen) -> Option<Encode> {
        let asked = self.asked.clone();
        match seen {
            Seen::Preview(preview) => {
                let count = self.partial.entry(preview.index).or_default();
                let number = *count;
                *count += 1;
                let mut event = self.event("partial_image", (preview.width, preview.height));
                event["partial_image_index"] = number.into();
                event["image_index"] = preview.index.into();
                event["step"] = preview.step.into();
                Some(Box::new(move || {
                    event["b64_json"] = asked.preview(&preview)?.into();
                    Ok(event)
                }))
            }
            Seen::Drawn(drawn) => {
                let mut event = self.event("completed", (drawn.width, drawn.height));
                event["image_index"] = drawn.index.into();
                event["seed"] = drawn.recipe.seed.into();
                if let Value::Object(map) = &mut event {
                    map.extend(answer::recipe(&drawn.recipe));
                }
                if drawn.recipe.flagged {
                    event["flagged"] = true.into();
                }
                Some(Box::new(move || {
                    event["b64_json"] = asked.drawn(&drawn)?.into();
                    Ok(event)
                }))
            }
        }
    }

    fn pictured(&mut self, event: Value, frames: &mut Frames) {
        let name = event["type"].as_str().unwrap_or_default().to_owned();
        if name.ends_with(".completed") {
            let index = event["image_index"].as_u64().unwrap_or_default();
            self.completed.insert(index, event);
        } else {
            frames.push_named(&name, &event);
        }
    }

    fn close(&mut self, usage: Usage, frames: &mut Frames) {
        let name = format!("{}.completed", self.name);
        for (_, mut event) in std::mem::take(&mut self.completed) {
            event["usage"] = answer::usage(usage);
            frames.push_named(&name, &event);
        }
    }
}

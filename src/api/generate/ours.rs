//! Our own `/generate`: a prompt in, text out. The seed is always in the answer, so that each one can be had again.

use axum::Json;
use axum::response::{IntoResponse, Response};
use chandler_core::{FinishReason, Input, Prompt, RequestError, TextDelta, Usage};
use serde_json::{Value, json};

use crate::api::json::{self, Fields};
use crate::api::observe::RequestId;
use crate::api::openai::{UsageBody, terms};
use crate::api::predict::plain;
use crate::api::sse::{self, Frames, Writer};
use crate::api::state::Api;

pub(super) async fn answer(
    api: &Api,
    id: RequestId,
    body: &Value,
) -> Result<Response, RequestError> {
    let fields = Fields::new(json::object(body)?);
    let served = api.serves(fields.string("model")?).await?;
    let Some(prompt) = fields.string("prompt")? else {
        return Err(fields.missing("prompt", "a string"));
    };
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let mut input = plain(&fields, Prompt::Text(prompt.to_owned()), stream)?;
    input.logprobs = None;
    input.adapter = served.adapter;
    let seed = *input.sampling.seed.get_or_insert_with(fresh_seed);
    let rows = input.n as usize;
    let subscription = api.engine.submit(Input::Text(input)).await?;
    if stream {
        let writer = Pieces {
            seed,
            finish: vec![None; rows],
        };
        let streamed = sse::respond(vec![subscription], writer, terms(api, id)).await;
        return streamed.map_err(|(_, error)| error);
    }
    let collected = subscription.collect().await?;
    let choices: Vec<Value> = collected
        .rows
        .into_iter()
        .map(|row| json!({"text": row.text, "finish_reason": word(row.finish)}))
        .collect();
    let mut reply = choices.first().cloned().unwrap_or_else(|| json!({}));
    if let Value::Object(reply) = &mut reply {
        reply.insert("seed".into(), seed.into());
        reply.insert("usage".into(), json!(UsageBody::from(collected.usage)));
        if choices.len() > 1 {
            reply.insert("choices".into(), choices.into());
        }
    }
    Ok(Json(reply).into_response())
}

/// A seed that survives a client who keeps numbers as doubles and writes them with `.0`: 49 bits, which are read back exactly.
fn fresh_seed() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1 >> 2 & ((1 << 49) - 1)
}

fn word(finish: Option<FinishReason>) -> &'static str {
    finish.map_or("stop", |finish| finish.as_str())
}

/// `{"text", "index"}` per piece, then one event with how it ended.
struct Pieces {
    seed: u64,
    finish: Vec<Option<FinishReason>>,
}

impl Writer for Pieces {
    fn text(&mut self, _: usize, delta: TextDelta, frames: &mut Frames) {
        if let Some(finish) = self.finish.get_mut(delta.row as usize) {
            *finish = delta.finish.or(*finish);
        }
        if !delta.text.is_empty() {
            frames.push(&json!({"text": delta.text, "index": delta.row}));
        }
    }

    fn close(&mut self, usage: Usage, frames: &mut Frames) {
        let reasons: Vec<&str> = self.finish.iter().map(|finish| word(*finish)).collect();
        let mut last = json!({
            "finish_reason": reasons.first().copied().unwrap_or("stop"),
            "seed": self.seed,
            "usage": UsageBody::from(usage),
        });
        if reasons.len() > 1 {
            last["finish_reasons"] = json!(reasons);
        }
        frames.push(&last);
    }
}

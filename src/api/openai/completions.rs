//! Legacy completions: several prompts in one request, echo, and log-probabilities as parallel lists.

use axum::Json;
use axum::response::{IntoResponse, Response};
use chandler_core::{Collected, Input, Prompt, RequestError, TextDelta, TextInput, Usage};
use futures_util::future::try_join_all;
use serde_json::Value;

use super::logprobs::{self, Offset, Piece};
use super::sampling::{MOST_PROMPTS, best_of, limits, or_tokens, refuse, rows, sampling};
use super::types::{Envelope, Reply, TextChoice};
use super::{RunningUsage, UsageWish, envelope, served, streaming, terms};
use crate::api::dialogue::format::{self, Form};
use crate::api::dialogue::renamed;
use crate::api::json::{self, Fields, Found, token_ids, wrong};
use crate::api::observe::RequestId;
use crate::api::sse::{self, Frames, Writer};
use crate::api::state::Api;

/// OpenAI's default; chat has none.
const DEFAULT_TOKENS: u32 = 16;
const MOST_LOGPROBS: u32 = 20;
const PROMPT: &str = "a string, an array of strings, or one or more arrays of token ids";

/// What a completion request asks for: one input per prompt.
#[derive(Debug)]
pub(in crate::api) struct CompletionRequest {
    pub(in crate::api) inputs: Vec<TextInput>,
    form: Option<Form>,
    stream: bool,
    usage: UsageWish,
}

/// Reads the fields of a completion request; the model's name is looked at elsewhere.
pub(in crate::api) fn parse(fields: &Fields<'_>) -> Result<CompletionRequest, RequestError> {
    refuse(
        fields,
        "suffix",
        |v| v == "",
        "this model does not fill in the middle",
    )?;
    let n = rows(fields)?;
    let (stream, usage) = streaming(fields)?;
    let echo = fields.boolean("echo")?.unwrap_or(false);
    let limits = limits(fields, &["max_tokens"], u32::from(!echo))?;
    let form = format::requested(fields)?;
    let template = TextInput {
        prompt: Prompt::default(),
        sampling: sampling(fields)?,
        limits: or_tokens(limits, DEFAULT_TOKENS),
        n,
        logprobs: logprobs_of(fields)?,
        echo,
        best_of: best_of(fields, n, stream)?,
        constraint: form.as_ref().map(|form| form.constraint.clone()),
        adapter: None,
    };
    let inputs = prompts(fields)?
        .into_iter()
        .map(|prompt| TextInput {
            prompt,
            ..template.clone()
        })
        .collect();
    Ok(CompletionRequest {
        inputs,
        form,
        stream,
        usage,
    })
}

/// A number of alternatives; chat's `true` and `false` are understood as well.
pub(in crate::api) fn logprobs_of(fields: &Fields<'_>) -> Result<Option<u32>, RequestError> {
    match fields.find("logprobs").map(|found| found.value) {
        Some(Value::Bool(wanted)) => Ok(wanted.then_some(0)),
        _ => fields.whole("logprobs", 0..=MOST_LOGPROBS),
    }
}

fn prompts(fields: &Fields<'_>) -> Result<Vec<Prompt>, RequestError> {
    let Some(Found { name, value }) = fields.find("prompt") else {
        return Ok(vec![Prompt::default()]);
    };
    let list = match value {
        Value::String(text) => return Ok(vec![Prompt::Text(text.clone())]),
        Value::Array(list) => list,
        other => return Err(wrong(&name, other, PROMPT)),
    };
    if list.len() > MOST_PROMPTS && !list.iter().all(Value::is_number) {
        let message = format!(
            "{name} has {} entries; it may have at most {MOST_PROMPTS} prompts",
            list.len()
        );
        return Err(RequestError::field(name, message));
    }
    match list.first() {
        None => {
            let message = format!("{name} is empty; it must be {PROMPT}");
            Err(RequestError::field(name, message))
        }
        Some(Value::Number(_)) => Ok(vec![Prompt::Tokens(token_ids(&name, list)?)]),
        Some(_) => list
            .iter()
            .enumerate()
            .map(|(i, item)| match item {
                Value::String(text) => Ok(Prompt::Text(text.clone())),
                Value::Array(ids) => token_ids(&format!("{name}[{i}]"), ids).map(Prompt::Tokens),
                other => Err(wrong(
                    &format!("{name}[{i}]"),
                    other,
                    "a string or an array of token ids",
                )),
            })
            .collect(),
    }
}

/// Serves a completion request, whole or streamed.
pub(in crate::api) async fn answer(
    api: &Api,
    id: RequestId,
    body: &Value,
) -> Result<Response, RequestError> {
    let fields = Fields::new(json::object(body)?);
    let served = served(api, &fields).await?;
    let mut request = parse(&fields)?;
    for input in &mut request.inputs {
        input.adapter.clone_from(&served.adapter);
    }
    let several = request.inputs.len() > 1;
    let (n, top) = request.inputs.first().map_or((1, None), |input| {
        (input.n, input.logprobs.map(|top| top as usize))
    });
    let inputs = request.inputs.into_iter().map(Input::Text).collect();
    let form = request.form;
    let name_prompt = |(i, error): (usize, RequestError)| {
        let prompt = if several {
            format!("prompt[{i}]")
        } else {
            "prompt".into()
        };
        let mut names = Form::names(form.as_ref());
        names.push(("prompt", prompt.as_str()));
        renamed(error, &names)
    };
    let subscriptions = api.engine.submit_all(inputs).await.map_err(name_prompt)?;
    let envelope = envelope(api, &id, served.id, ("cmpl", "text_completion"));
    if request.stream {
        let writer = Chunks {
            envelope,
            offsets: vec![Offset::default(); subscriptions.len() * n as usize],
            n,
            top,
            usage: RunningUsage::new(request.usage),
        };
        let streamed = sse::respond(subscriptions, writer, terms(api, id)).await;
        return streamed.map_err(name_prompt);
    }
    // Why together: an answer that nobody reads is stalled by the engine.
    let all = try_join_all(subscriptions.into_iter().map(|s| s.collect())).await?;
    let (choices, usage) = choices(all, n, top);
    let reply = Reply {
        envelope: &envelope,
        choices,
        usage: Some(Some(usage.into())),
    };
    Ok(Json(reply).into_response())
}

/// The choices of all prompts' answers, numbered prompt by prompt, and what they cost together.
fn choices(answers: Vec<Collected>, n: u32, top: Option<usize>) -> (Vec<TextChoice>, Usage) {
    let mut usage = Usage::default();
    let mut choices = Vec::new();
    for (collected, prompt) in answers.into_iter().zip(0..) {
        usage = sse::sum(usage, collected.usage);
        for (row, number) in collected.rows.into_iter().zip(0..) {
            let logprobs = top.map(|top| {
                let whole = Piece {
                    text: &row.text,
                    last: true,
                };
                logprobs::text(row.tokens, top, whole, &mut Offset::default())
            });
            choices.push(TextChoice {
                index: prompt * n + number,
                text: row.text,
                logprobs,
                finish_reason: Some(row.finish.map_or("stop", |finish| finish.as_str())),
            });
        }
    }
    (choices, usage)
}

struct Chunks {
    envelope: Envelope,
    /// By choice.
    offsets: Vec<Offset>,
    n: u32,
    top: Option<usize>,
    usage: RunningUsage,
}

impl Writer for Chunks {
    fn started(&mut self, prompt_tokens: u32, cached_tokens: u32) {
        self.usage.started(prompt_tokens, cached_tokens);
    }

    fn text(&mut self, request: usize, delta: TextDelta, frames: &mut Frames) {
        self.usage.wrote(&delta);
        let index = request as u32 * self.n + delta.row;
        let wants_tokens = self.top.is_some() && delta.tokens.iter().any(logprobs::is_shown);
        if delta.text.is_empty() && !wants_tokens && delta.finish.is_none() {
            return;
        }
        let mut spare = Offset::default();
        let offset = self.offsets.get_mut(index as usize).unwrap_or(&mut spare);
        let logprobs = self.top.map(|top| {
            let piece = Piece {
                text: &delta.text,
                last: delta.finish.is_some(),
            };
            logprobs::text(delta.tokens, top, piece, offset)
        });
        let choice = TextChoice {
            index,
            text: delta.text,
            logprobs,
            finish_reason: delta.finish.map(|finish| finish.as_str()),
        };
        frames.push(&Reply {
            envelope: &self.envelope,
            choices: vec![choice],
            usage: self.usage.of_chunk(),
        });
    }

    fn close(&mut self, usage: Usage, frames: &mut Frames) {
        if self.usage.is_wanted() {
            frames.push(&Reply::<TextChoice> {
                envelope: &self.envelope,
                choices: Vec::new(),
                usage: Some(Some(usage.into())),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chandler_core::ErrorKind;
    use serde_json::json;

    fn read(body: Value) -> Result<Vec<Prompt>, RequestError> {
        let request = parse(&Fields::new(body.as_object().unwrap()))?;
        Ok(request
            .inputs
            .into_iter()
            .map(|input| input.prompt)
            .collect())
    }

    #[test]
    fn every_form_of_prompt_is_read() {
        let text = |t: &str| Prompt::Text(t.into());
        assert_eq!(read(json!({})).unwrap(), [text("")]);
        assert_eq!(read(json!({"prompt": "a"})).unwrap(), [text("a")]);
        assert_eq!(
            read(json!({"prompt": ["a", "b"]})).unwrap(),
            [text("a"), text("b")]
        );
        assert_eq!(
            read(json!({"prompt": [1, 2.0]})).unwrap(),
            [Prompt::Tokens(vec![1, 2])]
        );
        assert_eq!(
            read(json!({"prompt": [[1], [2, 3]]})).unwrap(),
            [Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2, 3])]
        );
    }

    #[test]
    fn what_is_not_served_is_refused_by_name() {
        for (body, named) in [
            (json!({"prompt": 7}), "prompt"),
            (json!({"prompt": []}), "prompt"),
            (json!({"prompt": ["a", 1]}), "prompt[1]"),
            (json!({"prompt": [[1, -1]]}), "prompt[0][1]"),
            (json!({"prompt": "a", "suffix": "b"}), "suffix"),
            (json!({"prompt": "a", "best_of": 1, "n": 2}), "best_of"),
            (
                json!({"prompt": "a", "best_of": 3, "stream": true}),
                "best_of",
            ),
            (
                json!({"prompt": "a", "response_format": {"type": "json_schema"}}),
                "response_format.json_schema",
            ),
            (json!({"prompt": "a", "logprobs": 21}), "logprobs"),
            (json!({"prompt": "a", "max_tokens": 0}), "max_tokens"),
            (json!({"prompt": vec!["a"; 257]}), "prompt"),
        ] {
            assert_eq!(read(body).unwrap_err().field.as_deref(), Some(named));
        }
        assert!(read(json!({"prompt": "a", "echo": true, "max_tokens": 0})).is_ok());
    }

    #[test]
    fn an_error_kind_is_all_that_decides_the_status() {
        let error = read(json!({"prompt": "a", "suffix": "b"})).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported);
    }
}

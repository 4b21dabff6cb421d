//! The fields that chat, completions, Vertex instances and our `/generate` share: how tokens are chosen and where the
//! answer ends.

use std::collections::BTreeMap;

use chandler_core::{Limits, RequestError, Sampling};

use crate::api::json::{Fields, Found, wrong};

/// The most a request may name; the model's context window is checked where it is known.
const MOST_TOKENS: u32 = i32::MAX as u32;
const MOST_STOPS: usize = 16;
/// Of all stop strings together. This and the next two bound what each prompt of a request costs on its own.
const MOST_STOP_BYTES: usize = 4096;
const MOST_STOP_TOKENS: usize = 256;
const MOST_BIASES: usize = 1024;
/// As OpenAI has it; the engine refuses what it has no room for.
pub(in crate::api) const MOST_ROWS: u32 = 128;
/// Prompts or instances of one request; each is a request of its own to the engine, whose queue holds as many.
pub(in crate::api) const MOST_PROMPTS: usize = 256;

/// How tokens are chosen.
pub(in crate::api) fn sampling(fields: &Fields<'_>) -> Result<Sampling, RequestError> {
    let sampling = Sampling {
        temperature: fields.number("temperature", 0.0..=2.0)?,
        top_k: top_k(fields)?,
        top_p: fields.number("top_p", 0.0..=1.0)?,
        min_p: fields.number("min_p", 0.0..=1.0)?,
        repetition_penalty: fields.number("repetition_penalty", 0.01..=100.0)?,
        presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?,
        frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?,
        seed: fields.seed("seed")?,
        logit_bias: logit_bias(fields)?,
    };
    if sampling.top_p == Some(0.0) {
        let name = fields.name("top_p");
        let message = format!("{name} is 0; it must be above 0 and at most 1");
        return Err(RequestError::field(name, message));
    }
    Ok(sampling)
}

/// Where an answer ends. `keys` are the names of the token limit, the strongest first.
pub(in crate::api) fn limits(
    fields: &Fields<'_>,
    keys: &[&str],
    least: u32,
) -> Result<Limits, RequestError> {
    let mut max_tokens = None;
    for key in keys {
        let given = fields.whole(key, least..=MOST_TOKENS)?;
        max_tokens = max_tokens.or(given);
    }
    let limits = Limits {
        max_tokens,
        min_tokens: fields.whole("min_tokens", 0..=MOST_TOKENS)?.unwrap_or(0),
        stop: fields.strings("stop", MOST_STOPS)?,
        stop_token_ids: fields.tokens("stop_token_ids")?,
        ignore_eos: fields.boolean("ignore_eos")?.unwrap_or(false),
        ..Limits::default()
    };
    let bytes = limits.stop.iter().map(String::len).sum();
    at_most(fields, "stop", bytes, MOST_STOP_BYTES, "bytes")?;
    let ids = limits.stop_token_ids.len();
    at_most(fields, "stop_token_ids", ids, MOST_STOP_TOKENS, "entries")?;
    match limits.max_tokens {
        Some(most) if limits.min_tokens > most => {
            let name = fields.name("min_tokens");
            let message = format!(
                "{name} is {}; it must be at most max_tokens, {most}",
                limits.min_tokens
            );
            Err(RequestError::field(name, message))
        }
        _ => Ok(limits),
    }
}

/// Limits that end an answer after `tokens` where the client has not said how long it may be. A number of ours is cut to
/// what the context window leaves; one that the client gave is refused.
pub(in crate::api) fn or_tokens(mut limits: Limits, tokens: u32) -> Limits {
    limits.default_max_tokens = Some(tokens.max(limits.min_tokens));
    limits
}

fn at_most(
    fields: &Fields<'_>,
    key: &str,
    has: usize,
    most: usize,
    unit: &str,
) -> Result<(), RequestError> {
    match fields.find(key) {
        Some(Found { name, .. }) if has > most => {
            let message = format!("{name} has {has} {unit}; it may have at most {most}");
            Err(RequestError::field(name, message))
        }
        _ => Ok(()),
    }
}

/// How many answers.
pub(in crate::api) fn rows(fields: &Fields<'_>) -> Result<u32, RequestError> {
    Ok(fields.whole("n", 1..=MOST_ROWS)?.unwrap_or(1))
}

/// How many rows to run for the `n` best of them; `None` where that is n itself. Not with stream, as OpenAI has it: which
/// rows are best is known at their end.
pub(in crate::api) fn best_of(
    fields: &Fields<'_>,
    n: u32,
    stream: bool,
) -> Result<Option<u32>, RequestError> {
    let best = fields.whole("best_of", 1..=MOST_ROWS)?;
    let Some(best) = best.filter(|best| *best != n) else {
        return Ok(None);
    };
    let name = fields.name("best_of");
    let message = match best < n {
        true => format!("{name} is {best}; it must be at least n, {n}"),
        false if stream => format!("{name} is {best} with stream; leave it out, or set it to n"),
        false => return Ok(Some(best)),
    };
    Err(RequestError::field(name, message))
}

/// 0 and -1 both keep all tokens; peers use one or the other.
fn top_k(fields: &Fields<'_>) -> Result<Option<u32>, RequestError> {
    match fields.find("top_k") {
        Some(found) if found.value.as_f64() == Some(-1.0) => Ok(Some(0)),
        _ => fields.whole("top_k", 0..=MOST_TOKENS),
    }
}

fn logit_bias(fields: &Fields<'_>) -> Result<BTreeMap<u32, f32>, RequestError> {
    let (Some(map), name) = (fields.object("logit_bias")?, fields.name("logit_bias")) else {
        return Ok(BTreeMap::new());
    };
    at_most(fields, "logit_bias", map.len(), MOST_BIASES, "entries")?;
    map.iter()
        .map(|(key, value)| {
            let token: u32 = key.parse().map_err(|_| {
                let message = format!("{name} has the key {key:?}; its keys must be token ids");
                RequestError::field(&name, message)
            })?;
            let bias = value
                .as_f64()
                .filter(|bias| (-100.0..=100.0).contains(bias));
            let bias = bias.ok_or_else(|| {
                wrong(
                    &format!("{name}[{token}]"),
                    value,
                    "a number from -100 to 100",
                )
            })?;
            Ok((token, bias as f32))
        })
        .collect()
}

/// Refuses a field that asks for something not built, unless it is absent or one of the harmless values.
pub(in crate::api) fn refuse(
    fields: &Fields<'_>,
    key: &str,
    harmless: impl FnOnce(&serde_json::Value) -> bool,
    instead: &str,
) -> Result<(), RequestError> {
    match fields.find(key) {
        Some(found) if !harmless(found.value) => {
            let message = format!("{} is not supported: {instead}", found.name);
            Err(RequestError::unsupported(found.name, message))
        }
        _ => Ok(()),
    }
}

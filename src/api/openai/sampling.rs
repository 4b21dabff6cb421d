//! The fields that chat, completions, Vertex instances and our `/generate` share: how tokens are chosen and where the
//! answer ends.

use std::collections::BTreeMap;

use chandler_core::{Limits, RequestError, Sampling};

use crate::api::json::{Fields, wrong};

/// The most a request may name; the model's context window is checked where it is known.
const MOST_TOKENS: u32 = i32::MAX as u32;
const MOST_STOPS: usize = 16;
const MOST_ROWS: u32 = 16;

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
        max_chars: None,
    };
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

/// How many answers.
pub(in crate::api) fn rows(fields: &Fields<'_>) -> Result<u32, RequestError> {
    Ok(fields.whole("n", 1..=MOST_ROWS)?.unwrap_or(1))
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

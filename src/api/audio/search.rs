//! How words are searched for: temperatures, beams and what they may not be. A file of its own because a ladder of temperatures
//! is asked for in three ways.

use chandler_core::{RequestError, Search};
use serde_json::Value;

use super::fields::signed;
use crate::api::json::{Fields, Found, wrong};
use crate::api::openai::sampling::MOST_ROWS;

/// As many as draws are kept apart for.
const MOST_TEMPERATURES: usize = 16;
const MOST_SUPPRESSED: usize = 1024;

/// Reads them.
pub(super) fn read(fields: &Fields<'_>) -> Result<Search, RequestError> {
    let number = |key: &str, low: f64, high: f64| -> Result<Option<f32>, RequestError> {
        Ok(fields.number(key, low..=high)?.map(|number| number as f32))
    };
    Ok(Search {
        temperatures: temperatures(fields)?,
        beam_size: fields.whole("beam_size", 1..=MOST_ROWS)?,
        best_of: fields.whole("best_of", 1..=MOST_ROWS)?,
        patience: number("patience", 0.01, 100.0)?,
        length_penalty: number("length_penalty", -100.0, 100.0)?,
        seed: fields.seed("seed")?,
        max_new_tokens: fields.whole("max_new_tokens", 1..=u32::MAX)?,
        suppress_tokens: suppressed(fields)?,
    })
}

/// The ladder. 0 by itself is where the model's own begins, as OpenAI says of it; `[0]` is 0 and nothing else.
fn temperatures(fields: &Fields<'_>) -> Result<Option<Vec<f32>>, RequestError> {
    let key = "temperature_increment_on_fallback";
    let increment = fields.number(key, 0.0..=1.0)?;
    let Some(Found { name, value }) = fields.find("temperature") else {
        return Ok(increment.map(|by| ladder(0.0, by)));
    };
    let one = |name: &str, value: &Value| {
        let number = value.as_f64().filter(|number| (0.0..=1.0).contains(number));
        number.ok_or_else(|| wrong(name, value, "a number from 0 to 1, or a list of them"))
    };
    let Value::Array(list) = value else {
        let first = one(&name, value)?;
        return Ok(match increment {
            Some(by) => Some(ladder(first, by)),
            None if first == 0.0 => None,
            None => Some(vec![first as f32]),
        });
    };
    if list.is_empty() || list.len() > MOST_TEMPERATURES {
        let message = format!(
            "{name} has {} entries; it must have 1 to {MOST_TEMPERATURES}",
            list.len()
        );
        return Err(RequestError::field(name, message));
    }
    if increment.is_some() {
        let key = fields.name(key);
        let message =
            format!("{key} is given beside a list of temperatures; leave one of the two out");
        return Err(RequestError::field(key, message));
    }
    let read = |(i, value)| one(&format!("{name}[{i}]"), value).map(|number| number as f32);
    let all: Result<Vec<f32>, _> = list.iter().enumerate().map(read).collect();
    all.map(Some)
}

/// From `first` to 1 in steps; without a step, `first` alone.
fn ladder(first: f64, by: f64) -> Vec<f32> {
    let by = if by > 0.0 { by.max(0.01) } else { 2.0 };
    let rungs = (0..=100).map(|rung| first + f64::from(rung) * by);
    rungs
        .take_while(|temperature| *temperature <= 1.0 + 1e-6)
        .map(|temperature| temperature.min(1.0) as f32)
        .collect()
}

/// `"-1"`, `"1,2"`, one number, or a list of numbers.
fn suppressed(fields: &Fields<'_>) -> Result<Option<Vec<i64>>, RequestError> {
    let Some(Found { name, value }) = fields.find("suppress_tokens") else {
        return Ok(None);
    };
    let wanted = "token ids, or -1 for the model's own list: \"-1\", \"1,2\" or [1, 2]";
    let written: Vec<Value>;
    let list = match value {
        Value::Array(list) => list.as_slice(),
        Value::String(text) => {
            let parts = text
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty());
            let numbers: Result<Vec<i64>, _> = parts.map(str::parse).collect();
            let numbers = numbers.map_err(|_| wrong(&name, value, wanted))?;
            written = numbers.into_iter().map(Value::from).collect();
            written.as_slice()
        }
        one => std::slice::from_ref(one),
    };
    if list.len() > MOST_SUPPRESSED {
        let message = format!(
            "{name} has {} entries; it may have at most {MOST_SUPPRESSED}",
            list.len()
        );
        return Err(RequestError::field(name, message));
    }
    let read = |value| signed(&name, value).map_err(|_| wrong(&name, value, wanted));
    let all: Result<Vec<i64>, _> = list.iter().map(read).collect();
    all.map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn search(body: Value) -> Result<Search, RequestError> {
        read(&Fields::new(body.as_object().unwrap()))
    }

    #[test]
    fn a_ladder_of_temperatures_is_asked_for_in_three_ways() {
        let ladder = |body: Value| search(body).unwrap().temperatures;
        assert_eq!(ladder(json!({})), None);
        assert_eq!(ladder(json!({"temperature": 0.0})), None);
        assert_eq!(ladder(json!({"temperature": 0.5})), Some(vec![0.5]));
        assert_eq!(ladder(json!({"temperature": [0]})), Some(vec![0.0]));
        assert_eq!(
            ladder(json!({"temperature": [0, 0.5]})),
            Some(vec![0.0, 0.5])
        );
        let by = |body: Value| ladder(body).unwrap();
        let stepped = by(json!({"temperature": 0, "temperature_increment_on_fallback": 0.2}));
        assert_eq!(stepped, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        let stepped = by(json!({"temperature_increment_on_fallback": 0.5}));
        assert_eq!(stepped, [0.0, 0.5, 1.0]);
        let flat = by(json!({"temperature": 0.25, "temperature_increment_on_fallback": 0}));
        assert_eq!(flat, [0.25]);
        let fine = by(json!({"temperature_increment_on_fallback": 1e-9}));
        assert_eq!(fine.len(), 101);
    }

    #[test]
    fn suppressed_tokens_are_a_text_or_a_list() {
        let of = |value: Value| {
            search(json!({ "suppress_tokens": value }))
                .unwrap()
                .suppress_tokens
        };
        assert_eq!(of(json!("-1")), Some(vec![-1]));
        assert_eq!(of(json!(-1)), Some(vec![-1]));
        assert_eq!(of(json!("1, 2")), Some(vec![1, 2]));
        assert_eq!(of(json!([-1.0, 5.0])), Some(vec![-1, 5]));
        assert_eq!(of(json!("")), Some(vec![]));
        assert_eq!(of(Value::Null), None);
    }

    #[test]
    fn what_will_not_do_is_refused_by_name() {
        for (body, named) in [
            (json!({"temperature": 1.5}), "temperature"),
            (json!({"temperature": []}), "temperature"),
            (json!({"temperature": [0, "a"]}), "temperature[1]"),
            (
                json!({"temperature": [0], "temperature_increment_on_fallback": 0.2}),
                "temperature_increment_on_fallback",
            ),
            (json!({"beam_size": 0}), "beam_size"),
            (json!({"best_of": 1.5}), "best_of"),
            (json!({"patience": 0}), "patience"),
            (json!({"suppress_tokens": "a"}), "suppress_tokens"),
            (json!({"suppress_tokens": [-2]}), "suppress_tokens"),
            (json!({"seed": 0.5}), "seed"),
        ] {
            let error = search(body.clone()).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(named), "{body}");
        }
    }
}

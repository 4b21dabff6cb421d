//! vLLM's `SamplingParams` by name: which of them are the same on our routes, and which are refused unless they ask for
//! what happens anyway. The values are looked at where they are used.

use serde_json::{Map, Value, json};

use super::shown;
use crate::kinds::kind_of;

/// worker-vllm's; vLLM itself has 16.
const DEFAULT_TOKENS: u32 = 100;

/// The same name and meaning on our routes.
const SAME: [&str; 18] = [
    "n",
    "best_of",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "max_tokens",
    "min_tokens",
    "logit_bias",
    "guided_decoding",
    "structured_outputs",
];

/// Not done here: harmless only with the value that changes nothing.
const UNBUILT: [(&str, Nothing); 14] = [
    ("use_beam_search", Nothing::False),
    ("length_penalty", Nothing::One),
    ("early_stopping", Nothing::False),
    ("bad_words", Nothing::Empty),
    ("allowed_token_ids", Nothing::Empty),
    ("include_stop_str_in_output", Nothing::False),
    ("logprobs", Nothing::Null),
    ("prompt_logprobs", Nothing::Null),
    ("detokenize", Nothing::True),
    ("skip_special_tokens", Nothing::True),
    ("spaces_between_special_tokens", Nothing::True),
    ("truncate_prompt_tokens", Nothing::Null),
    ("logits_processors", Nothing::Empty),
    ("extra_args", Nothing::Empty),
];

/// The value of a parameter that asks for nothing.
#[derive(Debug, Clone, Copy)]
enum Nothing {
    Null,
    True,
    False,
    One,
    Empty,
}

impl Nothing {
    fn is(self, value: &Value) -> bool {
        match self {
            Self::Null => false,
            Self::True => value == &Value::Bool(true),
            Self::False => value == &Value::Bool(false),
            Self::One => value.as_f64() == Some(1.0),
            Self::Empty => match value {
                Value::Array(list) => list.is_empty(),
                Value::Object(map) => map.is_empty(),
                _ => false,
            },
        }
    }

    fn shown(self) -> &'static str {
        match self {
            Self::Null => "leave it out",
            Self::True => "leave it out or at true",
            Self::False => "leave it out or at false",
            Self::One => "leave it out or at 1.0",
            Self::Empty => "leave it out or empty",
        }
    }
}

/// The parameters as fields of a request to our routes.
///
/// # Errors
/// A parameter that is not done here, or that nobody knows.
pub(super) fn read(given: Option<Value>) -> Result<Map<String, Value>, String> {
    let given = match given {
        None => Map::new(),
        Some(Value::Object(map)) => map,
        Some(other) => {
            return Err(format!(
                "sampling_params is {}; it must be an object",
                kind_of(&other)
            ));
        }
    };
    let mut body = Map::new();
    for (name, value) in given {
        if value.is_null() {
            continue;
        }
        if SAME.contains(&name.as_str()) {
            let name = match name.as_str() {
                "guided_decoding" => "structured_outputs".to_owned(),
                _ => name,
            };
            body.insert(name, value);
        } else if let Some((_, nothing)) = UNBUILT.iter().find(|(known, _)| *known == name) {
            if !nothing.is(&value) {
                let (value, instead) = (shown(&value), nothing.shown());
                return Err(format!(
                    "sampling_params.{name} is {value}, which this worker does not do; {instead}"
                ));
            }
        } else {
            let known = SAME.join(", ");
            return Err(format!(
                "sampling_params has {name:?}, which is no sampling parameter here; there are {known}"
            ));
        }
    }
    if let Some(Value::Object(form)) = body.get_mut("structured_outputs") {
        form.retain(|_, value| !value.is_null());
    }
    body.entry("max_tokens").or_insert(json!(DEFAULT_TOKENS));
    Ok(body)
}

/// Refuses parameters that stand beside `sampling_params` instead of in it, where worker-vllm would not see them.
///
/// # Errors
/// The first of them.
pub(super) fn nothing_beside(map: &Map<String, Value>) -> Result<(), String> {
    let stray = map.keys().find(|key| {
        let key = key.as_str();
        SAME.contains(&key) || UNBUILT.iter().any(|(name, _)| *name == key)
    });
    match stray {
        Some(name) => Err(format!(
            "{name} stands beside sampling_params; put it inside"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_the_same_is_passed_on_and_the_length_is_bounded() {
        assert_eq!(
            read(None).unwrap(),
            *json!({"max_tokens": 100}).as_object().unwrap()
        );
        let given = json!({
            "n": 2, "top_k": -1, "min_p": 0.1, "stop": ["a"], "max_tokens": null, "seed": null, "skip_special_tokens": true,
            "bad_words": [], "length_penalty": 1, "guided_decoding": {"regex": "a+", "json": null},
        });
        assert_eq!(
            Value::Object(read(Some(given)).unwrap()),
            json!({"n": 2, "top_k": -1, "min_p": 0.1, "stop": ["a"], "structured_outputs": {"regex": "a+"}, "max_tokens": 100})
        );
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        for (params, words) in [
            (
                json!({"use_beam_search": true}),
                "sampling_params.use_beam_search is true",
            ),
            (
                json!({"length_penalty": 0.5}),
                "sampling_params.length_penalty is 0.5",
            ),
            (json!({"logprobs": 0}), "sampling_params.logprobs is 0"),
            (
                json!({"skip_special_tokens": false}),
                "sampling_params.skip_special_tokens is false",
            ),
            (
                json!({"bad_words": ["a"]}),
                "sampling_params.bad_words is an array",
            ),
            (
                json!({"temprature": 1}),
                "sampling_params has \"temprature\"",
            ),
            (json!([1]), "sampling_params is an array"),
        ] {
            let error = read(Some(params)).unwrap_err();
            assert!(error.starts_with(words), "{error}");
        }
    }
}

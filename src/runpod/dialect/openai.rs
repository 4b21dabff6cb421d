//! `{openai_route, openai_input}`: what the platform makes of a call to its `/openai/v1/…` path (runpod.md 5). Streamed
//! answers are server-sent events as text, whole ones a list of one, which is how the platform unwraps them.

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::{Call, Known, Shape, take};
use crate::kinds::kind_of;
use crate::runpod::answer::Failure;
use crate::sse::Event;

pub(super) fn read(mut map: Map<String, Value>, known: &Known) -> Result<Call, String> {
    let path = match take(&mut map, "openai_route") {
        Some(Value::String(route)) => path_of(&route),
        other => {
            let is = other.as_ref().map_or("missing", kind_of);
            return Err(format!(
                "openai_route is {is}; it must be a string such as \"/v1/chat/completions\""
            ));
        }
    };
    let input = take(&mut map, "openai_input");
    let body = input.filter(|_| !is_read(&path));
    Ok(Call {
        method: if body.is_some() {
            Method::POST
        } else {
            Method::GET
        },
        path,
        body,
        shape: passed_on(known.streaming.raw_openai),
        growth: known.streaming.growth,
    })
}

/// The route under `/v1`, with or without which the platform's clients write it.
fn path_of(route: &str) -> String {
    let route = route.trim().trim_matches('/');
    let route = route.strip_prefix("openai/").unwrap_or(route);
    match route.strip_prefix("v1/").unwrap_or(route) {
        "v1" | "" => "/v1".to_owned(),
        rest => format!("/v1/{rest}"),
    }
}

/// Whether the route only reads: clients send `{}` to these as well as nothing.
fn is_read(path: &str) -> bool {
    path == "/v1/models" || path.starts_with("/v1/models/")
}

/// An answer that is passed on as it is.
pub(super) fn passed_on(raw: bool) -> Box<dyn Shape> {
    match raw {
        true => Box::new(Raw::default()),
        false => Box::new(Objects::default()),
    }
}

/// Events as text.
#[derive(Default)]
struct Raw(String);

impl Shape for Raw {
    fn whole(&self, answer: Value) -> Value {
        json!([answer])
    }

    fn event(&mut self, event: &Event) {
        self.0.push_str(event.text());
    }

    fn chunks(&mut self) -> Vec<Value> {
        let text = std::mem::take(&mut self.0);
        (!text.is_empty())
            .then(|| text.into())
            .into_iter()
            .collect()
    }

    fn error(&self, failure: Failure) -> String {
        failure.as_json()
    }
}

/// The objects that events hold, a list of them in each chunk: worker-vllm's RAW_OPENAI_OUTPUT=0.
#[derive(Default)]
struct Objects(Vec<Value>);

impl Shape for Objects {
    fn whole(&self, answer: Value) -> Value {
        json!([answer])
    }

    fn event(&mut self, event: &Event) {
        if event.error().is_none() {
            self.0.extend(event.data());
        }
    }

    fn chunks(&mut self) -> Vec<Value> {
        let objects = std::mem::take(&mut self.0);
        (!objects.is_empty())
            .then(|| objects.into())
            .into_iter()
            .collect()
    }

    fn error(&self, failure: Failure) -> String {
        failure.as_json()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runpod::dialect::tests::known;
    use crate::sse::Splitter;

    fn call(input: Value) -> Result<(Method, String, Option<Value>), String> {
        let map = input.as_object().unwrap().clone();
        read(map, &known(None)).map(|call| (call.method, call.path, call.body))
    }

    #[test]
    fn a_route_is_found_with_and_without_its_prefix() {
        for route in [
            "/v1/messages",
            "v1/messages",
            "messages",
            "/messages/",
            "/openai/v1/messages",
            " /messages",
        ] {
            let (method, path, body) =
                call(json!({"openai_route": route, "openai_input": {"a": 1}})).unwrap();
            assert_eq!(
                (method, path.as_str()),
                (Method::POST, "/v1/messages"),
                "{route}"
            );
            assert_eq!(body, Some(json!({"a": 1})));
        }
        for input in [json!(null), json!({})] {
            let models = json!({"openai_route": "/models/", "openai_input": input});
            assert_eq!(
                call(models).unwrap(),
                (Method::GET, "/v1/models".into(), None)
            );
        }
        assert_eq!(call(json!({"openai_route": "/"})).unwrap().1, "/v1");
        let error = call(json!({"openai_route": 7})).unwrap_err();
        assert!(error.starts_with("openai_route is a number"), "{error}");
    }

    #[test]
    fn events_go_out_as_text_or_as_the_objects_in_them() {
        let text = "data: {\"a\":1}\n\ndata: {\"a\":2}\n\ndata: [DONE]\n\n";
        let chunk = |raw| {
            let mut shape = passed_on(raw);
            for event in Splitter::default().push(text.as_bytes()) {
                shape.event(&event);
            }
            let chunks = shape.chunks();
            assert!(shape.chunks().is_empty());
            chunks
        };
        assert_eq!(chunk(true), [json!(text)]);
        assert_eq!(chunk(false), [json!([{"a": 1}, {"a": 2}])]);
    }
}

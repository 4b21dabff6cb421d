//! `{route, body?, method?}`: any route of the worker, named outright, as the newer worker-vllm takes it (runpod.md 11.1).
//! The answer is passed on as the OpenAI routes' are.

use axum::http::{Method, Uri};
use serde_json::{Map, Value};

use super::openai::passed_on;
use super::{Call, Known, take};
use crate::kinds::kind_of;

pub(super) fn read(mut map: Map<String, Value>, known: &Known) -> Result<Call, String> {
    let path = match take(&mut map, "route") {
        Some(Value::String(route)) if is_path(&route) => route,
        Some(Value::String(_)) => {
            return Err("route is not a path of this worker; it must begin with / and have no spaces, such as \
                \"/v1/chat/completions\""
                .to_owned());
        }
        other => {
            let is = other.as_ref().map_or("missing", kind_of);
            return Err(format!(
                "route is {is}; it must be a path such as \"/v1/chat/completions\""
            ));
        }
    };
    let body = take(&mut map, "body");
    Ok(Call {
        method: method(take(&mut map, "method"), body.is_some())?,
        path,
        body,
        shape: passed_on(known.streaming.raw_openai),
        growth: known.streaming.growth,
    })
}

/// A path, perhaps with a query; no other host, which `//` would name.
fn is_path(route: &str) -> bool {
    let clean = route
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let one = route.starts_with('/') && !route.starts_with("//") && clean;
    // Some visible characters, `<` among them, have no place in a path either.
    one && route.parse::<Uri>().is_ok()
}

fn method(given: Option<Value>, has_body: bool) -> Result<Method, String> {
    let wanted = "it must be GET, POST, PUT, PATCH or DELETE";
    let Some(given) = given else {
        return Ok(if has_body { Method::POST } else { Method::GET });
    };
    let Some(name) = given.as_str() else {
        return Err(format!("method is {}; {wanted}", kind_of(&given)));
    };
    let known = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    ];
    let found = known
        .into_iter()
        .find(|method| name.eq_ignore_ascii_case(method.as_str()));
    found.ok_or_else(|| format!("method is no method of this worker; {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runpod::dialect::tests::known;
    use serde_json::json;

    fn call(input: Value) -> Result<(Method, String), String> {
        let map = input.as_object().unwrap().clone();
        read(map, &known(None)).map(|call| (call.method, call.path))
    }

    #[test]
    fn the_method_follows_the_body_unless_it_is_named() {
        let of = |input| call(input).unwrap().0;
        assert_eq!(of(json!({"route": "/metrics"})), Method::GET);
        assert_eq!(of(json!({"route": "/predict", "body": {}})), Method::POST);
        assert_eq!(
            of(json!({"route": "/v1/responses/a", "method": "delete"})),
            Method::DELETE
        );
        assert!(call(json!({"route": "/a", "method": "BREW"})).is_err());
    }

    #[test]
    fn only_a_path_of_this_worker_is_a_route() {
        assert_eq!(call(json!({"route": "/a?b=c"})).unwrap().1, "/a?b=c");
        for route in [
            "http://example.com/",
            "//example.com",
            "a",
            "",
            "/a b",
            "/a\n",
            "/ü",
            "/a#b",
            "/<",
        ] {
            assert!(call(json!({"route": route})).is_err(), "{route}");
        }
        assert!(
            call(json!({"route": ["/a"]}))
                .unwrap_err()
                .contains("an array")
        );
    }
}

//! What scripts in other languages steer the double by: `/control/…` on the hub's port, JSON in and out. Production has
//! nothing like it.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::answer::Answer;
use crate::double::State;
use crate::faults::{Fault, Kind, Rates};
use crate::links::LinkRules;
use crate::spec::Spec;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    kind: Kind,
    #[serde(default)]
    path: String,
    faults: Vec<Fault>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Throttle {
    bytes_per_second: u64,
}

pub fn answer(state: &State, what: &str, body: &Bytes) -> Answer {
    let done = match what {
        "seen" => return Answer::json(&json!(*state.seen())),
        "injected" => return Answer::json(&json!(state.faults().injected)),
        "put" => read(body).and_then(|spec: Spec| {
            let repo = spec.repo().map_err(|error| error.to_string())?;
            state.put(repo);
            Ok(())
        }),
        "rates" => read(body).map(|rates: Rates| state.faults().set(rates)),
        "script" => read(body).map(|script: Script| {
            state
                .faults()
                .script(script.kind, &script.path, script.faults);
        }),
        "heal" => {
            state.faults().forget();
            Ok(())
        }
        "links" => read(body).map(|rules: LinkRules| state.links().rules = rules),
        "expire" => {
            state.links().expire();
            Ok(())
        }
        "throttle" => read(body).map(|given: Throttle| state.set_throttle(given.bytes_per_second)),
        "forget" => {
            state.seen().clear();
            Ok(())
        }
        _ => return Answer::error(404, None, "there is no such thing to see or to do"),
    };
    match done {
        Ok(()) => Answer::json(&json!({})),
        Err(why) => Answer::error(400, None, &why),
    }
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

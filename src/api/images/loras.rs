//! Adapters (LoRA) that a request asks for: a list of objects, of names, or an object of names and weights.

use chandler_core::RequestError;
use serde_json::Value;

use super::fields::name;
use crate::api::json::{Fields, wrong};

/// Adapters of one request at most.
const MOST: usize = 16;
const WANTED: &str = "a list of {name, weight}";

/// Reads them, in their order.
pub(super) fn read(fields: &Fields<'_>) -> Result<Vec<(String, f32)>, RequestError> {
    let Some(found) = fields.find("loras") else {
        return Ok(Vec::new());
    };
    let loras: Vec<(String, f32)> = match found.value {
        Value::Array(list) => {
            let one = |(at, value): (usize, &Value)| one(format!("{}[{at}]", found.name), value);
            list.iter().enumerate().map(one).collect::<Result<_, _>>()?
        }
        Value::Object(map) => {
            let one = |(name, value): (&String, &Value)| {
                let weight = weight(&format!("{}.{name}", found.name), value)?;
                Ok((name.clone(), weight))
            };
            map.iter().map(one).collect::<Result<_, RequestError>>()?
        }
        other => return Err(wrong(&found.name, other, WANTED)),
    };
    if loras.len() > MOST {
        let name = name(fields, "loras");
        let message = format!(
            "{name} has {} entries; it may have at most {MOST}",
            loras.len()
        );
        return Err(RequestError::field(name, message));
    }
    Ok(loras)
}

fn one(place: String, value: &Value) -> Result<(String, f32), RequestError> {
    match value {
        Value::String(name) if !name.is_empty() => Ok((name.clone(), 1.0)),
        Value::Object(map) => {
            let fields = Fields::within(place, map).spelled(&[("weight", &["scale", "strength"])]);
            let name = fields.string("name")?.filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| fields.missing("name", "the name of an adapter"))?;
            let weight = fields
                .find("weight")
                .map(|found| weight(&found.name, found.value));
            Ok((name.to_owned(), weight.transpose()?.unwrap_or(1.0)))
        }
        other => Err(wrong(&place, other, "{name, weight}, or a name")),
    }
}

fn weight(name: &str, value: &Value) -> Result<f32, RequestError> {
    let weight = value
        .as_f64()
        .filter(|weight| (-100.0..=100.0).contains(weight));
    let weight = weight.ok_or_else(|| wrong(name, value, "a number from -100 to 100"))?;
    Ok(weight as f32)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn loras(value: Value) -> Result<Vec<(String, f32)>, String> {
        let body = json!({ "loras": value });
        let read = read(&Fields::new(body.as_object().unwrap()));
        read.map_err(|error| error.field.unwrap())
    }

    #[test]
    fn adapters_come_in_the_ways_that_clients_have() {
        let two = Ok(vec![("a".to_owned(), 0.5), ("b".to_owned(), 1.0)]);
        assert_eq!(loras(json!([{"name": "a", "weight": 0.5}, "b"])), two);
        assert_eq!(
            loras(json!([{"name": "a", "scale": 0.5}, {"name": "b"}])),
            two
        );
        assert_eq!(loras(json!({"a": 0.5, "b": 1})), two);
        for (value, field) in [
            (json!("a"), "loras"),
            (json!([7]), "loras[0]"),
            (json!([{"name": "a", "weight": "x"}]), "loras[0].weight"),
            (json!({"a": 1e9}), "loras.a"),
            (json!(vec!["a"; 17]), "loras"),
        ] {
            assert_eq!(loras(value), Err(field.to_owned()));
        }
    }
}

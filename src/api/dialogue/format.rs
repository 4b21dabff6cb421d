//! The form that an answer must have: OpenAI's `response_format` and its relatives in the other dialects, and vLLM's
//! `guided_*` and `structured_outputs`. A request may ask for one form only.

use chandler_core::{Constraint, RequestError};
use serde_json::{Map, Value};

use super::{NAME, is_name};
use crate::api::json::{Fields, Found, wrong};

/// Each is a branch of the grammar.
const MOST_CHOICES: usize = 1024;
const KINDS: &str = "\"text\", \"json_object\" or \"json_schema\"";

/// A form and the field that asked for it.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::api) struct Form {
    pub(in crate::api) constraint: Constraint,
    pub(in crate::api) field: String,
}

impl Form {
    /// The names that pipelines have for a form, for errors that are to carry the caller's.
    pub(in crate::api) fn names(form: Option<&Self>) -> Vec<(&'static str, &str)> {
        form.map(|form| ["response_format", "constraint"].map(|ours| (ours, form.field.as_str())))
            .map_or(Vec::new(), Vec::from)
    }
}

/// What chat and completions ask for, in any of the spellings.
pub(in crate::api) fn requested(fields: &Fields<'_>) -> Result<Option<Form>, RequestError> {
    let mut forms = Vec::new();
    if let Some(map) = fields.object("response_format")? {
        let field = fields.name("response_format");
        let constraint = of_format(&Fields::within(field.clone(), map), Schema::Nested)?;
        forms.extend(constraint.map(|constraint| Form { constraint, field }));
    }
    forms.extend(guided(
        fields,
        [
            "guided_json",
            "guided_regex",
            "guided_grammar",
            "guided_choice",
        ],
    )?);
    if let Some(map) = fields.object("structured_outputs")? {
        let inner = Fields::within(fields.name("structured_outputs"), map);
        if let Some(Found { name, .. }) = inner.find("structural_tag") {
            let message = format!("{name} is not supported: use json, regex, grammar or choice");
            return Err(RequestError::unsupported(name, message));
        }
        forms.extend(guided(&inner, ["json", "regex", "grammar", "choice"])?);
        if inner.boolean("json_object")? == Some(true) {
            forms.push(Form {
                constraint: Constraint::JsonObject,
                field: inner.name("json_object"),
            });
        }
    }
    let mut forms = forms.into_iter();
    match (forms.next(), forms.next()) {
        (Some(first), Some(second)) => {
            let message = format!(
                "{} and {} are both given; one excludes the other",
                first.field, second.field
            );
            Err(RequestError::field(second.field, message))
        }
        (form, _) => Ok(form),
    }
}

/// Where a dialect keeps a schema and its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Schema {
    /// In `json_schema`, with a name: chat.
    Nested,
    /// Beside the type, with a name: `/v1/responses`.
    Flat,
    /// Beside the type, without a name: `/v1/messages`.
    Nameless,
}

/// A format object of any dialect.
pub(in crate::api) fn of_format(
    fields: &Fields<'_>,
    place: Schema,
) -> Result<Option<Constraint>, RequestError> {
    let kind = fields.string("type")?;
    match kind.ok_or_else(|| fields.missing("type", KINDS))? {
        "text" => Ok(None),
        "json_object" => Ok(Some(Constraint::JsonObject)),
        "json_schema" if place == Schema::Nested => match fields.object("json_schema")? {
            Some(map) => schema(&Fields::within(fields.name("json_schema"), map), place).map(Some),
            None => Err(fields.missing("json_schema", "an object with name and schema")),
        },
        "json_schema" => schema(fields, place).map(Some),
        other => {
            let name = fields.name("type");
            let message = format!("{name} is {other:?}; it must be {KINDS}");
            Err(RequestError::unsupported(name, message))
        }
    }
}

/// A schema with its name. Whether it is strict or not, the answer follows it: more than was asked for harms nobody.
fn schema(fields: &Fields<'_>, place: Schema) -> Result<Constraint, RequestError> {
    if place != Schema::Nameless {
        match fields.string("name")? {
            Some(name) if is_name(name) => {}
            Some(name) => return Err(wrong(&fields.name("name"), &name.into(), NAME)),
            None => return Err(fields.missing("name", NAME)),
        }
    }
    fields.boolean("strict")?;
    fields.string("description")?;
    match fields.object("schema")? {
        Some(schema) => Ok(Constraint::JsonSchema(Value::Object(schema.clone()))),
        None => Err(fields.missing("schema", "a JSON schema")),
    }
}

/// vLLM's four ways, under the names that they have in this place: JSON, regular expression, grammar, choice.
fn guided(fields: &Fields<'_>, keys: [&str; 4]) -> Result<Vec<Form>, RequestError> {
    let [json, regex, grammar, choice] = keys;
    let mut forms = Vec::new();
    let mut add = |key: &str, constraint: Constraint| {
        let field = fields.name(key);
        forms.push(Form { constraint, field });
    };
    if let Some(Found { name, value }) = fields.find(json) {
        add(
            json,
            Constraint::JsonSchema(Value::Object(object(&name, value)?)),
        );
    }
    if let Some(text) = fields.string(regex)? {
        add(regex, Constraint::Regex(text.to_owned()));
    }
    if let Some(text) = fields.string(grammar)? {
        add(grammar, Constraint::Grammar(text.to_owned()));
    }
    if let Some(list) = fields.array(choice)? {
        let texts = fields.strings(choice, MOST_CHOICES)?;
        if list.is_empty() {
            let name = fields.name(choice);
            let message = format!("{name} is empty; it must have at least one text");
            return Err(RequestError::field(name, message));
        }
        add(choice, Constraint::Choice(texts));
    }
    Ok(forms)
}

/// A schema, or the text of one.
fn object(name: &str, value: &Value) -> Result<Map<String, Value>, RequestError> {
    let parsed = match value {
        Value::Object(map) => Some(map.clone()),
        Value::String(text) => serde_json::from_str(text).ok(),
        _ => None,
    };
    parsed.ok_or_else(|| wrong(name, value, "a JSON schema, or the text of one"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: Value) -> Result<Option<Form>, RequestError> {
        requested(&Fields::new(body.as_object().unwrap()))
    }

    #[test]
    fn every_spelling_is_read() {
        let schema = json!({"type": "object"});
        let wanted = Constraint::JsonSchema(schema.clone());
        for body in [
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": true}}}),
            json!({"guided_json": schema}),
            json!({"guided_json": schema.to_string()}),
            json!({"structured_outputs": {"json": schema}}),
        ] {
            assert_eq!(read(body).unwrap().unwrap().constraint, wanted);
        }
        for (body, constraint) in [
            (
                json!({"response_format": {"type": "json_object"}}),
                Constraint::JsonObject,
            ),
            (
                json!({"guided_regex": "a+"}),
                Constraint::Regex("a+".into()),
            ),
            (
                json!({"guided_grammar": "start: \"a\""}),
                Constraint::Grammar("start: \"a\"".into()),
            ),
            (
                json!({"guided_choice": ["a", "b"]}),
                Constraint::Choice(vec!["a".into(), "b".into()]),
            ),
            (
                json!({"structured_outputs": {"json_object": true}}),
                Constraint::JsonObject,
            ),
        ] {
            assert_eq!(read(body).unwrap().unwrap().constraint, constraint);
        }
        assert_eq!(
            read(json!({"response_format": {"type": "text"}})).unwrap(),
            None
        );
    }

    #[test]
    fn a_form_that_will_not_do_is_named() {
        let of = |schema: Value| json!({"response_format": {"type": "json_schema", "json_schema": schema}});
        for (body, field) in [
            (json!({"response_format": "json"}), "response_format"),
            (json!({"response_format": {}}), "response_format.type"),
            (
                json!({"response_format": {"type": "yaml"}}),
                "response_format.type",
            ),
            (
                json!({"response_format": {"type": "json_schema"}}),
                "response_format.json_schema",
            ),
            (
                of(json!({"schema": {}})),
                "response_format.json_schema.name",
            ),
            (
                of(json!({"name": "a b", "schema": {}})),
                "response_format.json_schema.name",
            ),
            (
                of(json!({"name": "a"})),
                "response_format.json_schema.schema",
            ),
            (
                of(json!({"name": "a", "schema": []})),
                "response_format.json_schema.schema",
            ),
            (
                of(json!({"name": "a", "schema": {}, "strict": 1})),
                "response_format.json_schema.strict",
            ),
            (json!({"guided_json": "{"}), "guided_json"),
            (json!({"guided_choice": []}), "guided_choice"),
            (json!({"guided_choice": "a"}), "guided_choice"),
            (
                json!({"guided_choice": ["a"], "guided_regex": "a"}),
                "guided_choice",
            ),
            (
                json!({"structured_outputs": {"structural_tag": {}}}),
                "structured_outputs.structural_tag",
            ),
        ] {
            let error = read(body).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(field), "{}", error.message);
            assert!(error.message.contains(field), "{}", error.message);
        }
    }
}

//! The tools that a model may call, and whether it must: read from three dialects into OpenAI's chat shape, which is the
//! one that chat templates know.

use chandler_core::{RequestError, ToolChoice};
use serde_json::{Map, Value, json};

use super::{NAME, is_name};
use crate::api::json::{Fields, Found, wrong};

/// As OpenAI has it; each is written into the prompt and, where a call is forced, into a grammar.
const MOST_TOOLS: usize = 128;

/// The tools of a request, ready for the template.
#[derive(Debug, Default)]
pub(in crate::api) struct Tools {
    pub(in crate::api) definitions: Vec<Value>,
    pub(in crate::api) choice: ToolChoice,
}

/// What a request says about calling.
#[derive(Debug)]
pub(in crate::api) enum Wish {
    Auto,
    None,
    Required,
    /// This one, named by this field.
    Named(String, String),
    /// Only these, named by this field; and whether one of them must be called.
    Allowed {
        names: Vec<String>,
        field: String,
        required: bool,
    },
}

/// How a dialect writes a tool's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Shape {
    /// `{"type": "function", "function": {"name": …}}`, as chat has it.
    Nested,
    /// `{"type": "function", "name": …}`, as `/v1/responses` has it.
    Flat,
}

/// A function with the fields name, description, strict, and its parameters' schema under `schema_key`; without nulls.
pub(in crate::api) fn function(
    fields: &Fields<'_>,
    schema_key: &str,
) -> Result<Value, RequestError> {
    let Some(name) = fields.string("name")? else {
        return Err(fields.missing("name", NAME));
    };
    if !is_name(name) {
        return Err(wrong(&fields.name("name"), &name.into(), NAME));
    }
    let mut function = Map::new();
    function.insert("name".into(), name.into());
    if let Some(description) = fields.string("description")? {
        function.insert("description".into(), description.into());
    }
    if let Some(schema) = fields.object(schema_key)? {
        function.insert("parameters".into(), Value::Object(schema.clone()));
    }
    if let Some(strict) = fields.boolean("strict")? {
        function.insert("strict".into(), strict.into());
    }
    Ok(json!({"type": "function", "function": function}))
}

/// The tools of a request, each read by `read`; no two may have the same name.
pub(in crate::api) fn definitions(
    fields: &Fields<'_>,
    read: impl Fn(&Fields<'_>) -> Result<Value, RequestError>,
) -> Result<Vec<Value>, RequestError> {
    let name = fields.name("tools");
    let list = fields.array("tools")?.map_or(&[][..], Vec::as_slice);
    if list.len() > MOST_TOOLS {
        let has = list.len();
        let message = format!("{name} has {has} entries; it may have at most {MOST_TOOLS}");
        return Err(RequestError::field(name, message));
    }
    let mut tools: Vec<Value> = Vec::with_capacity(list.len());
    for (i, tool) in list.iter().enumerate() {
        let path = format!("{name}[{i}]");
        let Some(map) = tool.as_object() else {
            return Err(wrong(&path, tool, "an object"));
        };
        let read = read(&Fields::within(path.clone(), map))?;
        if let Some(twin) = tools.iter().position(|t| name_of(t) == name_of(&read)) {
            let message = format!(
                "{path} is named {:?}, and so is {name}[{twin}]; give each a name of its own",
                name_of(&read)
            );
            return Err(RequestError::field(path, message));
        }
        tools.push(read);
    }
    Ok(tools)
}

/// OpenAI's `tools` and `tool_choice`, in either shape.
pub(in crate::api) fn openai(fields: &Fields<'_>, shape: Shape) -> Result<Tools, RequestError> {
    let tools = definitions(fields, |tool| {
        match tool.string("type")? {
            Some("function") => {}
            Some(kind) => {
                let name = tool.name("type");
                let message = format!(
                    "{name} is {kind:?}; this worker runs no tools of its own and takes \"function\" only"
                );
                return Err(RequestError::unsupported(name, message));
            }
            None => return Err(tool.missing("type", "\"function\"")),
        }
        match (shape, tool.object("function")?) {
            (Shape::Flat, _) => function(tool, "parameters"),
            (Shape::Nested, Some(map)) => {
                let inner = Fields::within(tool.name("function"), map);
                function(&inner, "parameters")
            }
            (Shape::Nested, None) => Err(tool.missing("function", "an object with a name")),
        }
    })?;
    let wish = match fields.find("tool_choice") {
        None => Wish::Auto,
        Some(found) => wish(found, shape)?,
    };
    resolve(tools, wish, &fields.name("tool_choice"))
}

fn wish(Found { name, value }: Found<'_>, shape: Shape) -> Result<Wish, RequestError> {
    let wanted = "\"none\", \"auto\", \"required\", or an object that names a function";
    let map = match value {
        Value::String(word) => {
            return match word.as_str() {
                "auto" => Ok(Wish::Auto),
                "none" => Ok(Wish::None),
                "required" => Ok(Wish::Required),
                _ => Err(wrong(&name, value, wanted)),
            };
        }
        Value::Object(map) => map,
        other => return Err(wrong(&name, other, wanted)),
    };
    let fields = Fields::within(name, map);
    match fields.string("type")? {
        Some("function") => {
            let (field, named) = name_in(&fields, shape)?;
            Ok(Wish::Named(named, field))
        }
        Some("allowed_tools") => match shape {
            Shape::Flat => allowed(&fields, shape),
            Shape::Nested => {
                let Some(inner) = fields.object("allowed_tools")? else {
                    return Err(fields.missing("allowed_tools", "an object with mode and tools"));
                };
                let inner = Fields::within(fields.name("allowed_tools"), inner);
                allowed(&inner, shape)
            }
        },
        Some(kind) => {
            let name = fields.name("type");
            let message =
                format!("{name} is {kind:?}; it must be \"function\" or \"allowed_tools\"");
            Err(RequestError::unsupported(name, message))
        }
        None => Err(fields.missing("type", "\"function\" or \"allowed_tools\"")),
    }
}

fn allowed(fields: &Fields<'_>, shape: Shape) -> Result<Wish, RequestError> {
    let required = match fields.string("mode")? {
        Some("required") => true,
        Some("auto") => false,
        Some(other) => {
            let name = fields.name("mode");
            return Err(wrong(&name, &other.into(), "\"auto\" or \"required\""));
        }
        None => return Err(fields.missing("mode", "\"auto\" or \"required\"")),
    };
    let Some(list) = fields.array("tools")? else {
        return Err(fields.missing("tools", "an array of functions"));
    };
    let field = fields.name("tools");
    let names = list
        .iter()
        .enumerate()
        .map(|(i, tool)| {
            let path = format!("{field}[{i}]");
            let Some(map) = tool.as_object() else {
                return Err(wrong(&path, tool, "an object that names a function"));
            };
            Ok(name_in(&Fields::within(path, map), shape)?.1)
        })
        .collect::<Result<_, _>>()?;
    Ok(Wish::Allowed {
        names,
        field,
        required,
    })
}

/// The field that holds a function's name, and the name.
fn name_in(fields: &Fields<'_>, shape: Shape) -> Result<(String, String), RequestError> {
    let inner = match shape {
        Shape::Flat => None,
        Shape::Nested => match fields.object("function")? {
            None => return Err(fields.missing("function", "an object with a name")),
            Some(map) => Some(Fields::within(fields.name("function"), map)),
        },
    };
    let fields = inner.as_ref().unwrap_or(fields);
    match fields.string("name")? {
        Some(name) => Ok((fields.name("name"), name.to_owned())),
        None => Err(fields.missing("name", "a function's name")),
    }
}

/// The tools that are left after the wish, and what it means for them. `field` is where the wish was made.
pub(in crate::api) fn resolve(
    mut definitions: Vec<Value>,
    wish: Wish,
    field: &str,
) -> Result<Tools, RequestError> {
    let unknown = |field: String, name: &str, definitions: &[Value]| {
        let names: Vec<String> = definitions
            .iter()
            .map(|t| format!("{:?}", name_of(t)))
            .collect();
        let message = match names.is_empty() {
            true => format!("{field} names {name:?}, and there are no tools"),
            false => format!(
                "{field} names {name:?}; it must name one of the tools: {}",
                names.join(", ")
            ),
        };
        RequestError::field(field, message)
    };
    let choice = match wish {
        Wish::Auto => ToolChoice::Auto,
        Wish::None => {
            definitions.clear();
            ToolChoice::None
        }
        Wish::Required => ToolChoice::Required,
        Wish::Named(name, field) => {
            if !definitions.iter().any(|tool| name_of(tool) == name) {
                return Err(unknown(field, &name, &definitions));
            }
            ToolChoice::Named(name)
        }
        Wish::Allowed {
            names,
            field,
            required,
        } => {
            for name in &names {
                if !definitions.iter().any(|tool| name_of(tool) == name) {
                    return Err(unknown(field, name, &definitions));
                }
            }
            definitions.retain(|tool| names.iter().any(|name| name == name_of(tool)));
            match required {
                true => ToolChoice::Required,
                false => ToolChoice::Auto,
            }
        }
    };
    if choice == ToolChoice::Required && definitions.is_empty() {
        let message = format!("{field} demands a call, and there are no tools to call");
        return Err(RequestError::field(field, message));
    }
    Ok(Tools {
        definitions,
        choice,
    })
}

fn name_of(tool: &Value) -> &str {
    let name = tool.pointer("/function/name").and_then(Value::as_str);
    name.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value, shape: Shape) -> Result<Tools, RequestError> {
        openai(&Fields::new(body.as_object().unwrap()), shape)
    }

    fn named(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name, "strict": null}})
    }

    #[test]
    fn both_shapes_come_out_as_the_template_wants_them() {
        let schema = json!({"type": "object"});
        let flat = json!({"tools": [{"type": "function", "name": "f", "parameters": schema, "strict": true}]});
        let nested = json!({"tools": [{"type": "function", "function":
            {"name": "f", "parameters": schema, "strict": true, "description": null}}]});
        let flat = read(flat, Shape::Flat).unwrap();
        assert_eq!(
            flat.definitions,
            read(nested, Shape::Nested).unwrap().definitions
        );
        assert_eq!(flat.definitions[0]["function"]["parameters"], schema);
    }

    #[test]
    fn a_choice_is_held_against_the_tools() {
        let with = |choice: Value| {
            read(
                json!({"tools": [named("a"), named("b")], "tool_choice": choice}),
                Shape::Nested,
            )
        };
        let one = with(json!({"type": "function", "function": {"name": "b"}})).unwrap();
        assert_eq!(one.choice, ToolChoice::Named("b".into()));
        assert!(with(json!("none")).unwrap().definitions.is_empty());
        let allowed = |mode: &str, name: &str| json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [named(name)]}});
        let some = with(allowed("required", "b")).unwrap();
        assert_eq!(some.choice, ToolChoice::Required);
        assert_eq!(
            some.definitions,
            [json!({"type": "function", "function": {"name": "b"}})]
        );
        for (choice, field) in [
            (json!("any"), "tool_choice"),
            (
                json!({"type": "function", "function": {"name": "c"}}),
                "tool_choice.function.name",
            ),
            (allowed("auto", "c"), "tool_choice.allowed_tools.tools"),
            (allowed("none", "a"), "tool_choice.allowed_tools.mode"),
            (
                json!({"type": "custom", "custom": {"name": "a"}}),
                "tool_choice.type",
            ),
        ] {
            assert_eq!(with(choice).unwrap_err().field.as_deref(), Some(field));
        }
        let none = read(json!({"tool_choice": "required"}), Shape::Flat).unwrap_err();
        assert_eq!(none.field.as_deref(), Some("tool_choice"));
    }

    #[test]
    fn a_tool_that_will_not_do_is_named() {
        for (tools, field) in [
            (json!([7]), "tools[0]"),
            (json!([{"type": "function"}]), "tools[0].function"),
            (json!([{"type": "custom", "custom": {}}]), "tools[0].type"),
            (json!([named("a b")]), "tools[0].function.name"),
            (json!([named("a"), named("a")]), "tools[1]"),
            (
                json!([{"type": "function", "function": {"name": "a", "parameters": "{}"}}]),
                "tools[0].function.parameters",
            ),
        ] {
            let error = read(json!({"tools": tools}), Shape::Nested).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(field));
            assert!(error.message.contains(field), "{}", error.message);
        }
    }
}

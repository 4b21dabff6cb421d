//! Tool calls: how models write them, reading them out of the text, and making them come.

pub(crate) mod format;
pub(crate) mod grammar;
pub(crate) mod ids;
mod object;
pub(crate) mod reader;
mod tags;

#[cfg(test)]
mod tests;

use chandler_core::RequestError;
use serde_json::Value;

/// A tool that may be called.
#[derive(Debug, Clone)]
pub(crate) struct Tool {
    /// Its place in the request.
    pub(crate) index: usize,
    pub(crate) name: String,
    /// A JSON schema; null where it has none.
    pub(crate) parameters: Value,
    /// The schema is to be kept to the letter.
    pub(crate) strict: bool,
}

/// Reads tool definitions, `{"type": "function", "function": {…}}` or the function alone.
///
/// # Errors
/// Names the definition that has no name.
pub(crate) fn definitions(tools: &[Value]) -> Result<Vec<Tool>, RequestError> {
    let read = |(index, tool): (usize, &Value)| {
        let function = tool.get("function").unwrap_or(tool);
        let name = function.get("name").and_then(Value::as_str);
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            let field = format!("tools[{index}].function.name");
            let message = format!("{field} is missing; a tool has a name that it is called by");
            return Err(RequestError::field(field, message));
        };
        let parameters = function
            .get("parameters")
            .or_else(|| function.get("input_schema"));
        Ok(Tool {
            index,
            name: name.to_owned(),
            parameters: parameters.cloned().unwrap_or(Value::Null),
            strict: function.get("strict").and_then(Value::as_bool) == Some(true),
        })
    };
    tools.iter().enumerate().map(read).collect()
}

/// The parameters' types of tools, for formats that write values as plain text.
pub(crate) fn types(tools: &[Tool]) -> tags::Types {
    tools
        .iter()
        .map(|tool| (tool.name.clone(), tags::types(&tool.parameters)))
        .collect()
}

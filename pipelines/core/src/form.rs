//! What form an answer must have: a grammar it must match, tools it may call, and where the model's thoughts go.
//! Apart from the input because front doors translate these from three dialects and one pipeline compiles them.

use serde_json::Value;

/// A language that the whole answer must belong to; no token that leads out of it is ever chosen. Marked thoughts come
/// before the answer and are free; of a message that is continued, what is written now is meant. The row ends when nothing
/// may follow, whatever `min_tokens` says; end-of-text and stop tokens end it only where the language may end, stop strings
/// and `max_tokens` anywhere. Where a tool must be called, the call is the answer and its own language counts; where one
/// may be, the answer is of this language or is calls. Errors name the field `constraint`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// JSON that this schema accepts. What llguidance does not enforce of a schema is an error.
    JsonSchema(Value),
    /// Text that this regular expression matches from end to end.
    Regex(String),
    /// Text of a grammar in llguidance's dialect of Lark.
    Grammar(String),
    /// One of these texts.
    Choice(Vec<String>),
}

/// Whether the model may call a tool, or must.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// It may not; the tools are not shown to it.
    None,
    /// It must call at least one of them.
    Required,
    /// It must call the one of this name.
    Named(String),
}

/// Where the thoughts go that a model marks as such (`<think>…</think>`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reasoning {
    /// Into a field of their own.
    #[default]
    Separated,
    /// Nowhere; the answer alone is given.
    Stripped,
    /// Into the text, marks and all.
    Inline,
}

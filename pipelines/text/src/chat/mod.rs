//! From a conversation to the text that a model was trained to continue: what transformers' `apply_chat_template` renders, with
//! the template of the snapshot. Apart from the tokenizer, which turns that text into ids.

mod clock;
mod continuation;
mod conversation;
mod functions;
mod json;
mod methods;
mod strings;

use std::error::Error as _;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use chandler_core::RequestError;
use chandler_core::input::{Chat, Message};
use chandler_nn::weights::Snapshot;
use minijinja::value::Serde;
use minijinja::{Environment, Value};

use crate::error::{Result, TextError};
use crate::tokenizer::{Tokenizer, read_json};
use continuation::Continuation;
use conversation::{ContentForms, Fields};
use functions::Raised;

pub use clock::{CivilTime, Clock};

/// The templates that are told apart, as transformers does: this one, and one for when there are tools.
const DEFAULT: &str = "default";
const TOOL_USE: &str = "tool_use";

/// A model's chat template, compiled. `Send + Sync`.
pub struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: Vec<(String, String)>,
    default: Option<Form>,
    tool_use: Option<Form>,
}

/// What is known of one of the templates.
#[derive(Debug, Clone)]
struct Form {
    name: &'static str,
    source: String,
    content: ContentForms,
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate")
            .field("default", &self.default.is_some())
            .field("tool_use", &self.tool_use.is_some())
            .finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// The template of a snapshot, or nothing when it has none: chat_template.jinja (and `additional_chat_templates/`), else
    /// `chat_template` of tokenizer_config.json, else chat_template.json. `clock` is what `strftime_now` asks.
    ///
    /// # Errors
    /// [`TextError::Template`] when the template is not well formed, or a file is not what it should be.
    pub fn from_snapshot(
        snapshot: &Snapshot,
        tokenizer: &Tokenizer,
        clock: Clock,
    ) -> Result<Option<Self>> {
        let mut sources = Vec::new();
        if let Some(source) = text_file(snapshot, "chat_template.jinja")? {
            sources.push((DEFAULT.to_owned(), source));
        }
        if let Some(source) = text_file(snapshot, "additional_chat_templates/tool_use.jinja")? {
            sources.push((TOOL_USE.to_owned(), source));
        }
        for file in ["tokenizer_config.json", "chat_template.json"] {
            if sources.is_empty()
                && let Some(config) = read_json(snapshot, file)?
            {
                sources = sources_of(file, &config)?;
            }
        }
        if sources.is_empty() {
            return Ok(None);
        }
        let tokens = tokenizer.named_tokens();
        Self::new(
            sources,
            tokens.map(|(name, token)| (name.to_owned(), token.to_owned())),
            clock,
        )
        .map(Some)
    }

    /// A template from its source, or from several by name, of which `default` and `tool_use` count; and the special tokens that
    /// it sees (`bos_token`, …).
    ///
    /// # Errors
    /// [`TextError::Template`] when a template is not well formed, or there is neither of the two names.
    pub fn new(
        sources: impl IntoIterator<Item = (String, String)>,
        special_tokens: impl IntoIterator<Item = (String, String)>,
        clock: Clock,
    ) -> Result<Self> {
        let mut template = Self {
            environment: functions::environment(clock)?,
            special_tokens: special_tokens.into_iter().collect(),
            default: None,
            tool_use: None,
        };
        let mut others = Vec::new();
        for (given, source) in sources {
            let name = match given.as_str() {
                DEFAULT => DEFAULT,
                TOOL_USE => TOOL_USE,
                _ => {
                    others.push(given);
                    continue;
                }
            };
            template
                .environment
                .add_template_owned(name, functions::adapted(&source))
                .map_err(|error| TextError::Template(format!("{name}: {}", described(&error))))?;
            let content = ContentForms::of(|messages| template.probe(name, messages));
            let form = Some(Form {
                name,
                source,
                content,
            });
            match name {
                DEFAULT => template.default = form,
                _ => template.tool_use = form,
            }
        }
        if template.default.is_none() && template.tool_use.is_none() {
            return Err(TextError::Template(format!(
                "there is no template named {DEFAULT}, only {}",
                others.join(", ")
            )));
        }
        Ok(template)
    }

    /// The conversation as text, for a model that reads text alone.
    ///
    /// # Errors
    /// `BadInput` with what the template raised, when it does not accept the conversation; `Unsupported`
    /// for content that is no text, naming it; `Internal` when the template does not end, or asks for what is not there.
    pub fn render(&self, chat: &Chat) -> Result<String, RequestError> {
        conversation::text_only(&chat.messages)?;
        self.render_any(chat)
    }

    /// As [`render`](Self::render), with parts that are no text handed to a template that goes through parts, which writes a
    /// placeholder for each.
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn render_any(&self, chat: &Chat) -> Result<String, RequestError> {
        if chat.messages.is_empty() {
            return Err(RequestError::field(
                "messages",
                "messages is empty; a conversation has at least one message",
            ));
        }
        let form = self.form(!chat.tools.is_empty())?;
        let mut messages = conversation::fields(&chat.messages, form.content)?;
        let continuation = if chat.continue_final_message {
            Some(Continuation::mark(&mut messages, &form.source)?)
        } else {
            None
        };
        let mut context = Context::new(chat)?;
        context.special_tokens(&self.special_tokens);
        let text = self
            .run(form.name, context, messages)
            .map_err(|error| request_error(&error))?;
        match continuation {
            Some(continuation) => continuation.cut(text),
            None => Ok(text),
        }
    }

    /// The templates' text: the plain one, and the one for conversations with tools.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        [&self.tool_use, &self.default]
            .into_iter()
            .flatten()
            .map(|form| form.source.as_str())
    }

    /// Whether a tool of a conversation is shown to the model: `mark` is text of its definition.
    pub fn shows(&self, tool: serde_json::Value, mark: &str) -> bool {
        let chat = Chat {
            messages: vec![Message::text("user", "Question?")],
            tools: vec![tool],
            ..Chat::default()
        };
        self.render_any(&chat).is_ok_and(|text| text.contains(mark))
    }

    /// transformers' `get_chat_template`.
    fn form(&self, tools: bool) -> Result<&Form, RequestError> {
        match (&self.default, &self.tool_use) {
            (_, Some(form)) if tools => Ok(form),
            (Some(form), _) => Ok(form),
            _ => Err(RequestError::unsupported(
                "tools",
                "this model's only chat template is for conversations with tools; give tools",
            )),
        }
    }

    fn probe(&self, name: &str, messages: Vec<Fields>) -> Option<String> {
        let mut context = Context::new(&Chat::default()).ok()?;
        context.special_tokens(&self.special_tokens);
        self.run(name, context, messages).ok()
    }

    fn run(
        &self,
        name: &str,
        context: Context,
        messages: Vec<Fields>,
    ) -> Result<String, minijinja::Error> {
        let mut out = Bounded(Vec::new());
        let context = context.with(messages);
        // A fault in the template engine costs the request and not the thread. Nothing that it leaves half done is looked at again.
        let rendered = catch_unwind(AssertUnwindSafe(|| {
            let template = self.environment.get_template(name)?;
            template.render_captured_to(context, &mut out).map(|_| ())
        }));
        let failed =
            |why: &str| minijinja::Error::new(minijinja::ErrorKind::WriteFailure, why.to_owned());
        rendered.map_err(|_| failed("the template engine panicked"))??;
        String::from_utf8(out.0).map_err(|error| failed(&error.to_string()))
    }
}

/// The names that a template sees, besides the messages.
struct Context {
    names: Vec<(String, Value)>,
    /// What the request gives itself goes before the special tokens.
    given: usize,
}

impl Context {
    fn new(chat: &Chat) -> Result<Self, RequestError> {
        let mut prompt = !chat.continue_final_message;
        let mut documents = Value::from(());
        let mut names = Vec::new();
        for (name, value) in &chat.template_arguments {
            let refuse = |message: String| {
                Err(RequestError::field(
                    format!("chat_template_kwargs.{name}"),
                    message,
                ))
            };
            match name.as_str() {
                "documents" => documents = Value::from(Serde(value)),
                "add_generation_prompt" => match value.as_bool() {
                    Some(true) if chat.continue_final_message => {
                        return refuse(
                            "add_generation_prompt does not go with continue_final_message".into(),
                        );
                    }
                    Some(wanted) => prompt = wanted,
                    None => {
                        return refuse(format!(
                            "add_generation_prompt is {value}; it must be true or false"
                        ));
                    }
                },
                "messages" | "tools" | "chat_template" | "tokenize" | "continue_final_message" => {
                    return refuse(format!(
                        "{name} is not an argument of the template; it is a field of its own"
                    ));
                }
                _ => names.push((name.clone(), Value::from(Serde(value)))),
            }
        }
        let tools = if chat.tools.is_empty() {
            Value::from(())
        } else {
            Value::from(Serde(&chat.tools))
        };
        let given = names.len();
        names.push(("tools".into(), tools));
        names.push(("documents".into(), documents));
        names.push(("add_generation_prompt".into(), prompt.into()));
        Ok(Self { names, given })
    }

    fn special_tokens(&mut self, tokens: &[(String, String)]) {
        for (name, token) in tokens {
            let given = self.names.get(..self.given).unwrap_or_default();
            if !given.iter().any(|(other, _)| other == name) {
                self.names.push((name.clone(), Value::from(token.as_str())));
            }
        }
    }

    fn with(mut self, messages: Vec<Fields>) -> Value {
        self.names
            .push(("messages".into(), Value::from(Serde(&messages))));
        Value::from_pairs(self.names)
    }
}

/// Takes [`functions::MOST_BYTES`] and no more.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > functions::MOST_BYTES {
            return Err(io::Error::other(format!(
                "it writes more than {} bytes",
                functions::MOST_BYTES
            )));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn text_file(snapshot: &Snapshot, file: &str) -> Result<Option<String>> {
    match snapshot.read(file)? {
        None => Ok(None),
        Some(bytes) => String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| TextError::Template(format!("{file} is not UTF-8"))),
    }
}

/// `chat_template` of a config: a template, or a list of named ones.
fn sources_of(file: &str, config: &serde_json::Value) -> Result<Vec<(String, String)>> {
    let wrong = || {
        TextError::Template(format!(
            "{file}: chat_template is neither a template nor a list of {{\"name\": …, \"template\": …}}"
        ))
    };
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    match config.get("chat_template") {
        None | Some(serde_json::Value::Null) => Ok(Vec::new()),
        Some(serde_json::Value::String(source)) => Ok(vec![(DEFAULT.to_owned(), source.clone())]),
        Some(serde_json::Value::Array(list)) => list
            .iter()
            .map(|entry| Some((text(entry.get("name")?)?, text(entry.get("template")?)?)))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(wrong),
        Some(serde_json::Value::Object(named)) => named
            .iter()
            .map(|(name, source)| Some((name.clone(), text(source)?)))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(wrong),
        Some(_) => Err(wrong()),
    }
}

/// An error of the engine in one line.
fn described(error: &minijinja::Error) -> String {
    let mut text = error.kind().to_string();
    if let Some(detail) = error.detail() {
        text = format!("{text}: {detail}");
    }
    if let Some(line) = error.line() {
        text = format!("{text} (line {line})");
    }
    text
}

/// What a request is told when its rendering failed.
fn request_error(error: &minijinja::Error) -> RequestError {
    use minijinja::ErrorKind as Engine;
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(Raised(text)) = inner.downcast_ref::<Raised>() {
            return RequestError::field("messages", text.clone());
        }
        source = inner.source();
    }
    let what = described(error);
    match error.kind() {
        Engine::OutOfFuel => RequestError::internal(format!(
            "this model's chat template took more than {} steps on this conversation and was stopped",
            functions::MOST_INSTRUCTIONS
        )),
        Engine::UnknownFilter
        | Engine::UnknownFunction
        | Engine::UnknownMethod
        | Engine::UnknownTest
        | Engine::TemplateNotFound
        | Engine::BadInclude
        | Engine::WriteFailure => {
            let cause = error
                .source()
                .map_or(String::new(), |cause| format!(": {cause}"));
            RequestError::internal(format!("this model's chat template failed: {what}{cause}"))
        }
        // What is left depends on the conversation: a field that the template reads and a message lacks, a number where text is due.
        _ => RequestError::field(
            "messages",
            format!("this model's chat template does not accept these messages: {what}"),
        ),
    }
}

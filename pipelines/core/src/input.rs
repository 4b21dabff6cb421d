//! What a request asks for, after a front door has translated its dialect and before a pipeline prepares it.
//! A field that is `None` was not given: the model's own defaults decide, not the front door's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::RequestError;
use crate::form::{Constraint, Reasoning, ToolChoice};
use crate::image::ImageInput;
use crate::speech::SpeechInput;

/// What a model does, by its Hugging Face pipeline tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Task {
    /// Chat and completion.
    TextGeneration,
    /// Speech to text.
    AutomaticSpeechRecognition,
    /// Text to picture.
    TextToImage,
    /// Picture to picture.
    ImageToImage,
    /// Filling a masked part of a picture.
    ImageInpainting,
    /// Embeddings.
    FeatureExtraction,
    /// Scoring documents against a query.
    TextRanking,
    /// From one language to another.
    Translation,
    /// Text to speech.
    TextToSpeech,
    /// Text to sounds that are no speech.
    TextToAudio,
    /// Text to moving pictures.
    TextToVideo,
}

impl Task {
    /// The tag as the hub writes it.
    pub fn tag(self) -> &'static str {
        match self {
            Self::TextGeneration => "text-generation",
            Self::AutomaticSpeechRecognition => "automatic-speech-recognition",
            Self::TextToImage => "text-to-image",
            Self::ImageToImage => "image-to-image",
            Self::ImageInpainting => "image-inpainting",
            Self::FeatureExtraction => "feature-extraction",
            Self::TextRanking => "text-ranking",
            Self::Translation => "translation",
            Self::TextToSpeech => "text-to-speech",
            Self::TextToAudio => "text-to-audio",
            Self::TextToVideo => "text-to-video",
        }
    }
}

/// One request's payload. A modality adds its variant here when it moves in.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Input {
    /// For a language model.
    Text(TextInput),
    /// For a speech recogniser.
    Speech(SpeechInput),
    /// For an image model.
    Image(Box<ImageInput>),
}

impl Input {
    /// What it asks for, in a few words.
    fn wants(&self) -> &'static str {
        match self {
            Self::Text(_) => "the request is for text to be written",
            Self::Speech(_) => "the request has audio to be heard",
            Self::Image(_) => "the request is for a picture to be drawn",
        }
    }

    /// The input of a language model.
    ///
    /// # Errors
    /// That it is for a model of another kind; `does` says what the loaded one does.
    pub fn text(self, does: Task) -> Result<TextInput, RequestError> {
        match self {
            Self::Text(input) => Ok(input),
            other => Err(other.unable(does)),
        }
    }

    /// The input of a speech recogniser.
    ///
    /// # Errors
    /// As [`Input::text`].
    pub fn speech(self, does: Task) -> Result<SpeechInput, RequestError> {
        match self {
            Self::Speech(input) => Ok(input),
            other => Err(other.unable(does)),
        }
    }

    /// The input of an image model.
    ///
    /// # Errors
    /// As [`Input::text`].
    pub fn image(self, does: Task) -> Result<ImageInput, RequestError> {
        match self {
            Self::Image(input) => Ok(*input),
            other => Err(other.unable(does)),
        }
    }

    fn unable(&self, does: Task) -> RequestError {
        let message = format!(
            "{}; the model loaded here does {:?}",
            self.wants(),
            does.tag()
        );
        RequestError::unsupported("model", message)
    }
}

/// A request to a language model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TextInput {
    /// What the model reads.
    pub prompt: Prompt,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// Where the answer ends.
    pub limits: Limits,
    /// Answers wanted; each is a row of its own. 0 is read as 1.
    pub n: u32,
    /// Log-probabilities per token: `Some(k)` gives the chosen token's and the k most likely.
    pub logprobs: Option<u32>,
    /// Whether the answer begins with the prompt (and its log-probabilities, where asked for).
    pub echo: bool,
    /// Rows to run, of which the `n` most likely are given; `None` runs n. At least n.
    pub best_of: Option<u32>,
    /// The form that the answer must have.
    pub constraint: Option<Constraint>,
    /// The adapter (LoRA) to answer with, by its name; `None` is the model itself.
    pub adapter: Option<String>,
}

/// What a language model reads.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// A conversation, written out by the model's chat template.
    Chat(Chat),
    /// Plain text; special tokens are added as the tokenizer does for a text.
    Text(String),
    /// Token ids, taken as they are.
    Tokens(Vec<u32>),
}

impl Default for Prompt {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

/// A conversation and what the template may ask about it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chat {
    /// Oldest first.
    pub messages: Vec<Message>,
    /// Tool definitions, as the dialect gave them (JSON schema).
    pub tools: Vec<Value>,
    /// Whether one of them must be called.
    pub tool_choice: ToolChoice,
    /// At most one call in an answer.
    pub one_tool_call: bool,
    /// Where the model's marked thoughts go.
    pub reasoning: Reasoning,
    /// Whether the last message is to be continued instead of answered.
    pub continue_final_message: bool,
    /// Further names that the template sees (`chat_template_kwargs`).
    pub template_arguments: Map<String, Value>,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// system, developer, user, assistant or tool.
    pub role: String,
    /// What was said.
    #[serde(default)]
    pub content: Content,
    /// Everything else (`name`, `tool_calls`, `tool_call_id`, …), handed to the template as it is.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Message {
    /// A turn of plain text.
    pub fn text(role: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: Content::Text(text.into()),
            rest: Map::new(),
        }
    }
}

/// What a turn holds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Nothing, as in an assistant's turn that only calls tools.
    #[default]
    Null,
    /// Text.
    Text(String),
    /// Parts, of which a language model takes the text ones.
    Parts(Vec<Part>),
}

/// A part of a turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// `text`, `image_url`, `input_audio`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// The text of a text part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Whatever else the part carries.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// How the next token is chosen. `None` leaves it to the model's generation_config.json, then to greedy-free defaults.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sampling {
    /// 0 is greedy; the field's default is 1.
    pub temperature: Option<f64>,
    /// Keep the k most likely; 0 keeps all.
    pub top_k: Option<u32>,
    /// Keep the smallest set that has this probability.
    pub top_p: Option<f64>,
    /// Keep what is at least this fraction as likely as the most likely token.
    pub min_p: Option<f64>,
    /// Divides (or multiplies) the logits of tokens in prompt and answer (Keskar et al., CTRL, 2019).
    pub repetition_penalty: Option<f64>,
    /// Taken once from every token the answer already has.
    pub presence_penalty: Option<f64>,
    /// Taken from a token for each time the answer has it.
    pub frequency_penalty: Option<f64>,
    /// The same seed and request give the same answer; none draws a fresh one.
    pub seed: Option<u64>,
    /// Added to the logits of these tokens.
    pub logit_bias: BTreeMap<u32, f32>,
}

impl Sampling {
    /// Refuses values outside their range.
    ///
    /// # Errors
    /// Names the field, its value and what is accepted.
    pub fn validate(&self) -> Result<(), RequestError> {
        within("temperature", self.temperature, 0.0..=100.0)?;
        within("top_p", self.top_p, 0.0..=1.0)?;
        within("min_p", self.min_p, 0.0..=1.0)?;
        within("presence_penalty", self.presence_penalty, -2.0..=2.0)?;
        within("frequency_penalty", self.frequency_penalty, -2.0..=2.0)?;
        within("repetition_penalty", self.repetition_penalty, 0.01..=100.0)?;
        if self.top_p == Some(0.0) {
            return Err(RequestError::field(
                "top_p",
                "top_p is 0; it must be above 0 and at most 1",
            ));
        }
        for (token, bias) in &self.logit_bias {
            within("logit_bias", Some(f64::from(*bias)), -100.0..=100.0).map_err(|mut e| {
                e.message = format!("logit_bias of token {token}: {}", e.message);
                e
            })?;
        }
        Ok(())
    }
}

fn within(
    field: &str,
    value: Option<f64>,
    range: std::ops::RangeInclusive<f64>,
) -> Result<(), RequestError> {
    match value {
        Some(v) if !range.contains(&v) => Err(RequestError::field(
            field,
            format!(
                "{field} is {v}; it must be between {} and {}",
                range.start(),
                range.end()
            ),
        )),
        _ => Ok(()),
    }
}

/// Where an answer ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Tokens at most. More than the context window leaves is an error.
    pub max_tokens: Option<u32>,
    /// Tokens at most where `max_tokens` is not given; the context window cuts it silently. `None` leaves it to the model.
    pub default_max_tokens: Option<u32>,
    /// No end-of-text before so many tokens.
    pub min_tokens: u32,
    /// Text at which the answer ends; it is not part of the answer. Looked for in all that the model writes: thoughts,
    /// text and calls.
    pub stop: Vec<String>,
    /// Token ids that end the answer, besides the model's own.
    pub stop_token_ids: Vec<u32>,
    /// Go on past the model's end-of-text tokens.
    pub ignore_eos: bool,
    /// Characters at most (one dialect counts them); the answer is cut there.
    pub max_chars: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_range_is_named_with_the_range() {
        let sampling = Sampling {
            temperature: Some(-0.5),
            ..Sampling::default()
        };
        let error = sampling.validate().unwrap_err();
        assert_eq!(error.field.as_deref(), Some("temperature"));
        assert_eq!(
            error.message,
            "temperature is -0.5; it must be between 0 and 100"
        );
        assert!(
            Sampling {
                temperature: Some(f64::NAN),
                ..Sampling::default()
            }
            .validate()
            .is_err()
        );
    }

    #[test]
    fn a_message_keeps_what_it_does_not_know() {
        let json =
            serde_json::json!({"role": "assistant", "content": null, "tool_calls": [{"id": "a"}]});
        let message: Message = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(message.content, Content::Null);
        assert_eq!(serde_json::to_value(&message).unwrap(), json);
    }
}

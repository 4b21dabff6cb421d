//! What a speech recogniser is asked, and what it answers: audio and how it is to be heard; segments and words with their times.
//! Apart from `input` and `event`, which name these types and are about every modality. Times are seconds from the audio's beginning.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// A request to a speech recogniser. What is `None` was not given: the model's own defaults decide.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SpeechInput {
    /// What is heard.
    pub audio: Audio,
    /// What is to be made of it.
    pub task: SpeechTask,
    /// The language spoken, by code or English name; detected where it is not given.
    pub language: Option<String>,
    /// What the model is told beforehand.
    pub hints: Hints,
    /// How words are searched for.
    pub search: Search,
    /// What of a transcript is believed.
    pub belief: Belief,
    /// Which times are wanted.
    pub times: Times,
    /// How audio longer than the model's window is cut.
    pub long_form: LongForm,
    /// Leaves out what is not speech before the model hears it. [`LongForm::Chunks`] does in any case.
    pub voice_activity: Option<VoiceActivity>,
    /// Each channel transcribed for itself, instead of their mean.
    pub channels_apart: bool,
    /// More audio than this is an error, in seconds.
    pub max_seconds: Option<f64>,
    /// The language is wanted and nothing else.
    pub only_language: bool,
}

/// An audio file, as it was sent: any container and codec.
#[derive(Clone)]
pub enum Audio {
    /// In memory; shared, never copied.
    Bytes(Arc<dyn AsRef<[u8]> + Send + Sync>),
    /// On disk, read as it is needed.
    File(PathBuf),
}

impl Audio {
    /// Bytes in memory.
    pub fn bytes(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self::Bytes(Arc::new(bytes))
    }
}

impl Default for Audio {
    fn default() -> Self {
        Self::bytes(Vec::new())
    }
}

impl PartialEq for Audio {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bytes(a), Self::Bytes(b)) => (**a).as_ref() == (**b).as_ref(),
            (Self::File(a), Self::File(b)) => a == b,
            _ => false,
        }
    }
}

impl fmt::Debug for Audio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Never the bytes: somebody said them.
            Self::Bytes(bytes) => write!(f, "{} bytes of audio", (**bytes).as_ref().len()),
            Self::File(_) => f.write_str("an audio file"),
        }
    }
}

/// What is to be made of speech.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SpeechTask {
    /// Its words, in its language.
    #[default]
    Transcribe,
    /// Its meaning, in English.
    Translate,
}

/// What the model is told before it hears.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hints {
    /// A text as if it had been said before: spelling and style follow it.
    pub prompt: Option<String>,
    /// Whether every window is told that, not the first one alone.
    pub carry_prompt: bool,
    /// What the first window's transcript begins with.
    pub prefix: Option<String>,
    /// Words that are likely to be said.
    pub hotwords: Option<String>,
    /// Whether a window is told what was said in those before it.
    pub condition_on_previous: Option<bool>,
}

/// How words are searched for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Search {
    /// Temperatures that are tried one after the other, 0 to 1; the next where the transcript is not believed.
    pub temperatures: Option<Vec<f32>>,
    /// Transcripts side by side at temperature 0; 1 is greedy.
    pub beam_size: Option<u32>,
    /// Transcripts drawn at a temperature above 0, of which the likeliest is taken.
    pub best_of: Option<u32>,
    /// How much longer than needed a beam search goes on, as a multiple of its size.
    pub patience: Option<f32>,
    /// Prefers longer transcripts the more it is above 0; their mean log probability decides where it is not given.
    pub length_penalty: Option<f32>,
    /// The same seed and request give the same answer; none draws a fresh one.
    pub seed: Option<u64>,
    /// Tokens of a window at most; no more than the model's half is taken in any case.
    pub max_new_tokens: Option<u32>,
    /// Tokens that are never written; -1 stands for the model's own list, and an empty list for none.
    pub suppress_tokens: Option<Vec<i64>>,
}

/// What of a transcript is believed. An infinite bound is one that nothing passes: it turns its rule off.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Belief {
    /// A text that zlib makes smaller than by this factor's inverse repeats itself: the next temperature is tried.
    pub compression_ratio: Option<f64>,
    /// A mean log probability under this is a guess: the next temperature is tried.
    pub log_probability: Option<f64>,
    /// Silence likelier than this, with a guess for a transcript, is silence.
    pub no_speech: Option<f64>,
    /// Seconds of silence around words that make them suspect; with times of words only.
    pub hallucination_silence: Option<f64>,
}

/// Which times are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Times {
    /// None: the model writes no times, and segments are windows.
    None,
    /// Of segments.
    #[default]
    Segments,
    /// Of segments and of words.
    Words,
}

/// How audio longer than the model's window is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LongForm {
    /// One window after the other, each told what was said before; what a window leaves open is heard again.
    #[default]
    Sequential,
    /// Where nobody speaks, into chunks that are heard beside each other.
    Chunks,
}

/// What counts as speech. The names and defaults are those of faster-whisper's `VadOptions`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct VoiceActivity {
    /// Speech begins at a probability of this much.
    pub threshold: Option<f32>,
    /// And ends below this much.
    pub neg_threshold: Option<f32>,
    /// Shorter speech is none.
    pub min_speech_duration_ms: Option<u32>,
    /// Longer speech is cut, where there is least of it.
    pub max_speech_duration_s: Option<f32>,
    /// Shorter pauses are part of the speech around them.
    pub min_silence_duration_ms: Option<u32>,
    /// Kept on both sides of a segment.
    pub speech_pad_ms: Option<u32>,
}

/// What was found out of audio before its first segment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Heard {
    /// How long it is.
    pub duration: f64,
    /// How much of it was taken for speech, where that was asked; of all channels together.
    pub speech: Option<f64>,
    /// Channels that are transcribed each for itself; 1 for their mean.
    pub channels: u32,
    /// The language; none where the model has only one and does not name it.
    pub language: Option<HeardLanguage>,
}

/// A language that was given or detected.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HeardLanguage {
    /// Its code, such as `en`.
    pub code: String,
    /// What it is called in English, in lower case; the code where that is not known.
    pub name: String,
    /// How likely it is, where it was detected.
    pub probability: Option<f32>,
    /// All languages of the model, the likeliest first, where it was detected.
    pub probabilities: Vec<(String, f32)>,
}

/// A piece of a transcript.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SpokenSegment {
    /// The channel it was said in; 0 for the mean of all.
    pub channel: u32,
    /// Hundredths of a second at which the model's window begins.
    pub seek: u64,
    /// When it begins.
    pub start: f64,
    /// When it ends.
    pub end: f64,
    /// Its text, with the space before it.
    pub text: String,
    /// Its tokens, where the model writes tokens.
    pub tokens: Vec<u32>,
    /// What its window was decoded at.
    pub temperature: f32,
    /// The mean natural logarithm of its tokens' probabilities.
    pub mean_log_probability: f64,
    /// How much its window's text repeats itself: bytes over bytes that zlib makes of them.
    pub compression_ratio: f64,
    /// How likely it is that nobody speaks in its window; 0 for a model that does not say.
    pub no_speech: f32,
    /// Its words, where they were asked for.
    pub words: Option<Vec<SpokenWord>>,
}

/// A word.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SpokenWord {
    /// As it is written, with the space before it and punctuation about it.
    pub text: String,
    /// When it begins.
    pub start: f64,
    /// When it ends.
    pub end: f64,
    /// The mean of its tokens' probabilities.
    pub probability: f64,
}

/// A whole answer of a speech recogniser.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Transcript {
    /// Length, language.
    pub heard: Heard,
    /// Its segments, channel after channel, in the order of the audio.
    pub segments: Vec<SpokenSegment>,
}

impl Transcript {
    /// All of its text, channel after channel, without spaces about it.
    pub fn text(&self) -> String {
        let channels = self.segments.iter().map(|segment| segment.channel).max();
        let of = |channel: u32| {
            let own = self.segments.iter().filter(move |s| s.channel == channel);
            let text: String = own.map(|segment| segment.text.as_str()).collect();
            text.trim().to_owned()
        };
        let texts = (0..=channels.unwrap_or(0)).map(of);
        texts
            .filter(|text| !text.is_empty())
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// All of its words, where they were asked for.
    pub fn words(&self) -> impl Iterator<Item = &SpokenWord> {
        self.segments
            .iter()
            .flat_map(|segment| segment.words.iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_its_segments_channel_after_channel() {
        let segment = |channel, text: &str| SpokenSegment {
            channel,
            text: text.to_owned(),
            ..SpokenSegment::default()
        };
        let mut transcript = Transcript {
            segments: vec![segment(0, " a"), segment(0, " b.")],
            ..Transcript::default()
        };
        assert_eq!(transcript.text(), "a b.");
        transcript.segments.insert(1, segment(1, " c"));
        assert_eq!(transcript.text(), "a b.\nc");
        assert_eq!(Transcript::default().text(), "");
    }

    #[test]
    fn audio_is_never_printed() {
        let shown = format!("{:?}", Audio::bytes(b"hello".to_vec()));
        assert_eq!(shown, "5 bytes of audio");
    }
}

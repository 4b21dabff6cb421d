//! From a request to what the batch takes: its fields held against the model, its audio heard once. All of it off the engine's thread.

use std::sync::Arc;

use chandler_core::{
    Audio, Heard, HeardLanguage, Input, LongForm, ModelInfo, Prepare, RequestError, Search,
    SpeechInput, Usage,
};

use super::plan::Plan;
use super::prepared::WhisperPrepared;
use super::track::Track;
use crate::listening::{self, Ear, KEPT_BYTES, Recording, Timeline, Wanted, vad_options};
use crate::sample;
use crate::whisper::asked::LanguageChoice;
use crate::whisper::languages;
use crate::whisper::model::Description;

/// Prepares requests for one model.
pub struct WhisperPreparer {
    pub(super) description: Description,
    pub(super) ear: Ear,
    pub(super) info: ModelInfo,
    /// Sequences that the batch holds.
    pub(super) sequences: usize,
    /// Bytes of frames that a request keeps; less in tests.
    pub(super) kept_bytes: usize,
}

impl WhisperPreparer {
    pub(super) fn new(
        description: Description,
        ear: Ear,
        info: ModelInfo,
        sequences: usize,
    ) -> Self {
        Self {
            description,
            ear,
            info,
            sequences,
            kept_bytes: KEPT_BYTES,
        }
    }

    fn track(&self, sketch: listening::Sketch, (input, channel): (&SpeechInput, usize)) -> Track {
        let window = self.description.timing.window_frames;
        let longest = (input.long_form == LongForm::Chunks).then_some(window);
        let (timeline, stretches) = match &sketch.speech {
            None => {
                let timeline = Timeline::whole(sketch.frames, &self.ear);
                let all = 0..sketch.frames;
                (timeline, Vec::from([all]))
            }
            Some(speech) => Timeline::of_speech(speech, (sketch.frames, &self.ear), longest),
        };
        let place = (input.channels_apart, channel);
        let frames = listening::Frames::new(sketch, &self.ear, &input.audio, place);
        Track::new(listening::Track::new(timeline, frames), stretches)
    }
}

impl Prepare for WhisperPreparer {
    type Prepared = WhisperPrepared;

    fn prepare(&self, input: Input) -> Result<WhisperPrepared, RequestError> {
        let input = input.speech(self.info.task)?;
        listening::check_limit(input.max_seconds)?;
        let plan = Plan::new(&input, &self.description, self.sequences)?;
        let window = self.description.timing.window_seconds();
        let activity = vad_options(input.voice_activity, input.long_form, (&self.ear, window))?;
        let Recording { samples, tracks } = listening::listen(&Wanted {
            audio: &input.audio,
            ear: &self.ear,
            apart: input.channels_apart,
            max_seconds: input.max_seconds,
            activity: activity.as_ref(),
            kept_bytes: self.kept_bytes,
        })?;
        let duration = samples as f64 / f64::from(self.ear.sample_rate);
        let channels = tracks.len() as u32;
        let tracks: Vec<Track> = (0..)
            .zip(tracks)
            .map(|(channel, sketch)| self.track(sketch, (&input, channel)))
            .collect();
        let hop = self.description.timing.seconds(1);
        let frames: usize = tracks
            .iter()
            .map(|track| track.heard.timeline.length())
            .sum();
        let (language, heard) = match &plan.asked.language {
            LanguageChoice::Detect => (None, None),
            // Who asks for the language wants it found, whatever the checkpoint is for.
            LanguageChoice::Known(_) if plan.only_language => (None, None),
            LanguageChoice::Known(known) => {
                let heard = name(&known.code);
                (Some((Some(known.id), known.code.clone())), Some(heard))
            }
            LanguageChoice::Only => (Some((None, "en".to_owned())), Some(name("en"))),
        };
        Ok(WhisperPrepared {
            plan: Arc::new(plan),
            tracks,
            heard: Heard {
                duration,
                speech: activity.map(|_| frames as f64 * hop),
                channels,
                language: heard,
            },
            language,
            told: false,
            usage: Usage {
                audio_ms: (duration * 1000.0).round() as u64,
                ..Usage::default()
            },
            progress: 0,
        })
    }

    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    fn warm_up(&self) -> Input {
        let few = Search {
            temperatures: Some(vec![0.0]),
            max_new_tokens: Some(2),
            ..Search::default()
        };
        Input::Speech(SpeechInput {
            audio: Audio::bytes(sample::silence(self.ear.sample_rate)),
            search: few,
            ..SpeechInput::default()
        })
    }
}

/// A language by its code, as answers have it.
pub(super) fn name(code: &str) -> HeardLanguage {
    HeardLanguage {
        code: code.to_owned(),
        name: languages::name_of(code).unwrap_or(code).to_owned(),
        ..HeardLanguage::default()
    }
}

//! From a request to what the batch takes: its fields held against the model, its audio heard once and cut into utterances. All of it
//! off the engine's thread.

use chandler_core::{
    Audio, Heard, HeardLanguage, Input, LongForm, ModelInfo, Prepare, RequestError, SpeechInput,
    SpeechTask, Times, Usage,
};

use super::adapters::Adapters;
use super::prepared::{Channel, CtcPrepared};
use crate::listening::{
    self, Ear, Frames, KEPT_BYTES, Recording, Sketch, Timeline, Track, Wanted, vad_options,
};
use crate::sample;

/// Seconds that are heard as one utterance at most; attention's cost grows with the square of it. Longer audio is cut where nobody
/// speaks.
const LONGEST: f64 = 30.0;
/// What the detector of speech hears.
const VAD_RATE: u32 = 16_000;

/// Prepares requests for one model.
pub struct CtcPreparer {
    pub(super) adapters: Adapters,
    pub(super) ear: Ear,
    pub(super) info: ModelInfo,
}

impl CtcPreparer {
    /// Refuses what a model without a decoder has no place for. How words are searched for is no such thing: it has nothing to
    /// search, and says the same however it is asked.
    fn check(&self, input: &SpeechInput) -> Result<(), RequestError> {
        let refuse = |field: &str, what: &str| {
            let message = format!(
                "{field} is for models that {what}; {} does not",
                self.info.architecture
            );
            Err(RequestError::unsupported(field, message))
        };
        if input.task == SpeechTask::Translate {
            return refuse("translate", "translate");
        }
        if input.only_language {
            return refuse("detect_language", "detect languages");
        }
        let hints = &input.hints;
        for (field, hint) in [
            ("prompt", &hints.prompt),
            ("prefix", &hints.prefix),
            ("hotwords", &hints.hotwords),
        ] {
            if hint.as_ref().is_some_and(|hint| !hint.trim().is_empty()) {
                return refuse(field, "are told something beforehand");
            }
        }
        Ok(())
    }

    fn channel(&self, sketch: Sketch, (input, channel): (&SpeechInput, usize)) -> Channel {
        let longest = (LONGEST * f64::from(self.ear.sample_rate)) as usize;
        let cut = input.voice_activity.is_some()
            || input.long_form == LongForm::Chunks
            || sketch.frames > longest;
        let (timeline, stretches) = match sketch.speech.as_deref().filter(|_| cut) {
            Some(speech) => Timeline::of_speech(speech, (sketch.frames, &self.ear), Some(longest)),
            // Too long, and at a rate that the detector does not hear: cut where it falls.
            None => {
                let starts = (0..sketch.frames).step_by(longest);
                let cuts = starts.map(|start| start..(start + longest).min(sketch.frames));
                (Timeline::whole(sketch.frames, &self.ear), cuts.collect())
            }
        };
        let frames = Frames::new(
            sketch,
            &self.ear,
            &input.audio,
            (input.channels_apart, channel),
        );
        Channel {
            heard: Track::new(timeline, frames),
            stretches,
            next: 0,
            out: 0,
        }
    }
}

impl Prepare for CtcPreparer {
    type Prepared = CtcPrepared;

    fn prepare(&self, input: Input) -> Result<CtcPrepared, RequestError> {
        let input = input.speech(self.info.task)?;
        self.check(&input)?;
        listening::check_limit(input.max_seconds)?;
        let language = self.adapters.language(input.language.as_deref())?;
        let cut = match self.ear.sample_rate == VAD_RATE {
            true => LongForm::Chunks,
            false => input.long_form,
        };
        let activity = vad_options(input.voice_activity, cut, (&self.ear, LONGEST))?;
        let Recording { samples, tracks } = listening::listen(&Wanted {
            audio: &input.audio,
            ear: &self.ear,
            apart: input.channels_apart,
            max_seconds: input.max_seconds,
            activity: activity.as_ref(),
            kept_bytes: KEPT_BYTES,
        })?;
        let tracks: Vec<Channel> = (0..)
            .zip(tracks)
            .map(|(channel, sketch)| self.channel(sketch, (&input, channel)))
            .collect();
        let duration = samples as f64 / f64::from(self.ear.sample_rate);
        let heard: usize = tracks
            .iter()
            .map(|track| track.heard.timeline.length())
            .sum();
        Ok(CtcPrepared {
            heard: Heard {
                duration,
                speech: input
                    .voice_activity
                    .map(|_| heard as f64 / f64::from(self.ear.sample_rate)),
                channels: tracks.len() as u32,
                language: (!language.code.is_empty()).then(|| HeardLanguage {
                    code: language.code.clone(),
                    name: language.code.clone(),
                    ..HeardLanguage::default()
                }),
            },
            language,
            with_words: input.times == Times::Words,
            tracks,
            told: false,
            usage: Usage {
                audio_ms: (duration * 1000.0).round() as u64,
                ..Usage::default()
            },
        })
    }

    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    fn warm_up(&self) -> Input {
        Input::Speech(SpeechInput {
            audio: Audio::bytes(sample::silence(self.ear.sample_rate)),
            ..SpeechInput::default()
        })
    }
}

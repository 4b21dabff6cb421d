//! From a request's audio to what a model is handed of it: a first pass over the whole recording, which finds its length, how loud it
//! is and where somebody speaks ([`listen`]); and the frames of any stretch of it later, in bounded memory ([`Track`]).
//! Knows files and features, and no model.

mod ear;
mod first_pass;
mod frames;
mod timeline;
mod track;
mod voice;

pub(crate) use ear::Ear;
pub(crate) use first_pass::{KEPT_BYTES, Recording, Sketch, Wanted, listen};
pub(crate) use frames::Frames;
pub(crate) use timeline::Timeline;
pub(crate) use track::Track;
pub(crate) use voice::vad_options;

use std::fs::File;
use std::time::Duration;

use chandler_core::{Audio, RequestError};

use crate::audio::{AudioError, Layout, Options, Reader, Source};

/// Opens a recording.
fn open(
    audio: &Audio,
    ear: &Ear,
    layout: Layout,
    most: Option<Duration>,
) -> Result<Reader, AudioError> {
    let options = Options {
        sample_rate: ear.sample_rate,
        layout,
        max_duration: most.or(Options::default().max_duration),
    };
    let source = match audio {
        Audio::Bytes(bytes) => Source::from_memory(Shared(bytes.clone())),
        Audio::File(path) => Source::from_file(File::open(path)?)?,
    };
    Reader::open(source, options)
}

/// Bytes that others hold, too.
struct Shared(std::sync::Arc<dyn AsRef<[u8]> + Send + Sync>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

/// Refuses a limit that is no length.
pub(crate) fn check_limit(max_seconds: Option<f64>) -> Result<(), RequestError> {
    /// A year.
    const MOST: f64 = 366.0 * 86_400.0;
    match max_seconds {
        Some(seconds) if !(seconds > 0.0 && seconds <= MOST) => {
            let message =
                format!("max_duration is {seconds}; it must be seconds above 0 and at most {MOST}");
            Err(RequestError::field("max_duration", message))
        }
        _ => Ok(()),
    }
}

/// What is wrong with a request's audio, told to who sent it.
pub(crate) fn of_request(error: &AudioError) -> RequestError {
    let code = match error {
        AudioError::TooLong { .. } => "audio_too_long",
        AudioError::UnsupportedCodec { .. } | AudioError::NotAudio { .. } => "unsupported_audio",
        _ => "invalid_audio",
    };
    RequestError::field("audio", error.to_string()).with_code(code)
}

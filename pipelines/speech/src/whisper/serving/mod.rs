//! Whisper as a step machine of the house: requests in, segments out. Apart from decoding, which knows windows and no requests, and from
//! long-form transcription, which knows no batch: here they are brought together.

mod load;
mod pipeline;
mod plan;
mod prepare;
mod prepared;
mod running;
mod track;
mod window;

pub use pipeline::WhisperPipeline;
pub use prepare::WhisperPreparer;
pub use prepared::WhisperPrepared;

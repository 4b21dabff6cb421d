//! From windows to tokens, as a step machine: windows are encoded a stage at a time, and one decoder pass serves the prompts, beams
//! and samples of all of them. Nothing here knows of audio, of seconds or of requests.

mod batch;
mod beam;
mod device_scores;
mod encoding;
mod job;
mod pass;
mod rows;
mod samples;
mod scores;
mod search;
mod transformers_beam;

pub use batch::{BatchLimits, DecodingBatch, Progress, WindowId};
pub use job::{Alignment, AlignmentJob, DecodeJob, Decoded, Job, Outcome, Strategy};

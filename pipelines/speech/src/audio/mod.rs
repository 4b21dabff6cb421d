//! Any byte string into samples at the rate that a model hears, in bounded memory: what the file is ([`Reader::open`]),
//! and blocks of samples pulled from it one after another ([`Reader::read`]). Knows no model.
//!
//! Containers and codecs: WAV (8-bit to 64-bit float, A-law, mu-law, ADPCM, RF64, lengths that lie), FLAC, MP3, Ogg with
//! Vorbis, Opus or FLAC, WebM and Matroska, MP4/M4A/MOV with AAC-LC (and the core of HE-AAC), ALAC, Opus or FLAC, ADTS,
//! AIFF, CAF. What an encoder puts before and after the sound (MP3 and AAC delay, Opus pre-skip, edit lists) is left out,
//! so that sample 0 is the recording's first.
//!
//! A length in a header is never trusted with memory, and a decoder's panic is an error of that one file.

mod aac;
mod codec;
mod contain;
mod demux;
mod error;
mod mp4;
mod opus;
mod reader;
pub mod resample;
mod riff;
mod sniff;
mod source;

pub use error::AudioError;
pub use reader::{Block, Damage, Layout, Options, Reader};
pub use source::Source;

/// Channels of a file at most; more are an instrument's, not a recording's.
const MOST_CHANNELS: usize = 64;
const ACCEPTED_CHANNELS: &str = "1 to 64 are accepted";
/// Samples a second that are accepted of a file.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=768_000;
const ACCEPTED_RATES: &str = "1000 to 768000 Hz are accepted";

//! A container into the packets of its one audio track: what the file is, which track is heard, where its sound begins.

use std::time::Duration;

use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::common::Limit;
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::well_known::FORMAT_ID_MKV;
use symphonia::core::formats::{FormatOptions, FormatReader, Track, TrackType};
use symphonia::core::io::{MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;
use symphonia::core::units::{TimeBase, Timestamp};

use super::contain::contained;
use super::error::AudioError;
use super::mp4::{self, Edit};
use super::source::Source;
use super::{riff, sniff};

/// Packets of other tracks in a row before the audio track counts as over: two hours of video at 60 frames a second are
/// 432 000, and a hostile file can hold 2^32 empty ones in a few bytes.
const MOST_FOREIGN_PACKETS: u32 = 2_000_000;
/// Tags and pictures are not looked at; this is what is held of them.
const MOST_TAG_BYTES: usize = 16 << 10;

/// An open container.
pub(super) struct Demuxer {
    format: Box<dyn FormatReader>,
    edits: Vec<Edit>,
    track: u32,
    parameters: AudioCodecParameters,
    time_base: Option<TimeBase>,
}

/// The next thing in a container.
pub(super) enum Next {
    /// A packet of the audio track.
    Packet(Packet),
    /// The next of several streams that follow each other: a new decoder is needed.
    Restart,
    /// The regular end.
    End,
    /// The file ends in the middle of something.
    CutShort,
}

impl Demuxer {
    /// Finds out what the file is.
    ///
    /// # Errors
    /// It is no audio, nothing that is supported, or damaged in its header.
    pub(super) fn open(mut source: Source) -> Result<Self, AudioError> {
        let start = source.peek(0, sniff::SNIFFED)?;
        sniff::refuse_what_is_not_audio(&start)?;
        riff::correct_lengths(&mut source)?;
        let edits = mp4::edits(&mut source)?;
        let tags = MetadataOptions::default()
            .limit_tag_bytes(Limit::Maximum(MOST_TAG_BYTES))
            .limit_visual_bytes(Limit::Maximum(MOST_TAG_BYTES));
        let stream = MediaSourceStream::new(Box::new(source), MediaSourceStreamOptions::default());
        let probe = symphonia::default::get_probe();
        let found = contained(|| probe.probe(&Hint::new(), stream, FormatOptions::default(), tags))
            .map_err(AudioError::damaged_at_start)?;
        let format = found.map_err(|e| unopened(e, &start))?;
        let mut demuxer = Self {
            format,
            edits,
            track: 0,
            parameters: AudioCodecParameters::new(),
            time_base: None,
        };
        demuxer.choose_track()?;
        Ok(demuxer)
    }

    /// Settles on the track that is heard: the one marked as default, else the first.
    fn choose_track(&mut self) -> Result<(), AudioError> {
        let track = self.format.default_track(TrackType::Audio);
        let track = track.or_else(|| self.format.first_track(TrackType::Audio));
        let Some((track, CodecParameters::Audio(parameters))) =
            track.and_then(|t| t.codec_params.as_ref().map(|p| (t, p)))
        else {
            return Err(self.no_track());
        };
        self.track = track.id;
        self.parameters = parameters.clone();
        self.time_base = track.time_base;
        Ok(())
    }

    /// Tracks without parameters are of codecs that the demuxer does not know, which may be sound or pictures.
    fn no_track(&self) -> AudioError {
        let container = self.container().to_string();
        if self
            .format
            .tracks()
            .iter()
            .any(|t| t.codec_params.is_none())
        {
            return AudioError::UnsupportedCodec {
                codec: format!("the codec in this {container} file"),
            };
        }
        AudioError::NoAudioTrack { container }
    }

    /// What the container is called.
    pub(super) fn container(&self) -> &'static str {
        self.format.format_info().long_name
    }

    /// What the codec needs to know.
    pub(super) fn parameters(&self) -> &AudioCodecParameters {
        &self.parameters
    }

    /// The length that the container declares. Not to be trusted with memory or with an end.
    pub(super) fn declared_duration(&self) -> Option<Duration> {
        if let Some(edit) = self.edit().filter(|e| e.duration > 0) {
            return seconds(edit.duration, 1, edit.duration_timescale);
        }
        let track = self.this_track()?;
        if let (Some(frames), Some(rate)) = (track.num_frames, self.parameters.sample_rate) {
            return seconds(frames, 1, rate);
        }
        let whole = self.format.media_info();
        let (units, base) = track
            .duration
            .zip(track.time_base)
            .or(whole.duration.zip(whole.time_base))?;
        seconds(units.get(), base.numer.get(), base.denom.get())
    }

    fn this_track(&self) -> Option<&Track> {
        self.format.tracks().iter().find(|t| t.id == self.track)
    }

    fn edit(&self) -> Option<&Edit> {
        self.edits.iter().find(|e| e.track == self.track)
    }

    /// Frames at `rate` to leave out before the sound, as far as the container says; `pre_skip` is the codec's own say.
    pub(super) fn frames_before_sound(&self, first: &Packet, rate: u32, pre_skip: u64) -> u64 {
        if let Some(edit) = self.edit() {
            return scale(edit.start, rate, edit.timescale);
        }
        if pre_skip > 0 || self.parameters.codec == CODEC_ID_OPUS {
            return pre_skip;
        }
        // Matroska's codec delay comes as a time below zero (in milliseconds: as exact as the file is).
        match self.time_base {
            Some(base) if self.is_matroska() && first.pts < Timestamp::ZERO => {
                let units = first
                    .pts
                    .get()
                    .unsigned_abs()
                    .saturating_mul(u64::from(base.numer.get()));
                scale(units, rate, base.denom.get())
            }
            _ => 0,
        }
    }

    /// Frames of sound at `rate`, where an edit list says so.
    pub(super) fn frames_of_sound(&self, rate: u32) -> Option<u64> {
        let edit = self.edit().filter(|e| e.duration > 0)?;
        let exact = u128::from(edit.duration) * u128::from(rate);
        u64::try_from(exact.div_ceil(u128::from(edit.duration_timescale))).ok()
    }

    /// How long a packet says it is, in frames at `rate`.
    pub(super) fn frames_of_packet(&self, packet: &Packet, rate: u32) -> u64 {
        self.time_base.map_or(0, |base| {
            let units = packet.dur.get().saturating_mul(u64::from(base.numer.get()));
            scale(units, rate, base.denom.get())
        })
    }

    fn is_matroska(&self) -> bool {
        self.format.format_info().format == FORMAT_ID_MKV
    }

    /// The next packet of the audio track.
    ///
    /// # Errors
    /// The container breaks its own rules (the message), or cannot be read.
    pub(super) fn next(&mut self) -> Result<Next, Broken> {
        for _ in 0..MOST_FOREIGN_PACKETS {
            let format = &mut self.format;
            match contained(|| format.next_packet()).map_err(Broken::Rules)? {
                Ok(Some(packet)) if packet.track_id == self.track => {
                    return Ok(Next::Packet(packet));
                }
                Ok(Some(_)) => {}
                Ok(None) => return Ok(Next::End),
                Err(Error::ResetRequired) => {
                    self.choose_track()
                        .map_err(|e| Broken::Rules(e.to_string()))?;
                    return Ok(Next::Restart);
                }
                Err(Error::IoError(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Ok(Next::CutShort);
                }
                Err(Error::IoError(e)) => return Err(Broken::Read(e)),
                Err(e) => return Err(Broken::Rules(e.to_string())),
            }
        }
        Err(Broken::Rules(
            "no audio among millions of packets".to_string(),
        ))
    }
}

/// Why a container gives no more packets.
pub(super) enum Broken {
    /// What is wrong in it.
    Rules(String),
    /// The source failed.
    Read(std::io::Error),
}

fn unopened(error: Error, start: &[u8]) -> AudioError {
    match error {
        Error::Unsupported("core (probe): no suitable format reader found") => {
            AudioError::NotAudio {
                looks_like: sniff::describe_unknown(start),
            }
        }
        Error::Unsupported(what) => AudioError::UnsupportedCodec {
            codec: format!("what this file needs ({what})"),
        },
        Error::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            AudioError::damaged_at_start("the file ends inside its header")
        }
        Error::IoError(e) => AudioError::Read(e),
        e => AudioError::damaged_at_start(e.to_string()),
    }
}

/// `units` of 1/`timescale` s in frames at `rate`, rounded.
fn scale(units: u64, rate: u32, timescale: u32) -> u64 {
    let timescale = u128::from(timescale.max(1));
    let frames = (u128::from(units) * u128::from(rate) + timescale / 2) / timescale;
    u64::try_from(frames).unwrap_or(u64::MAX)
}

fn seconds(units: u64, numerator: u32, denominator: u32) -> Option<Duration> {
    let nanoseconds = u128::from(units)
        .checked_mul(u128::from(numerator))?
        .checked_mul(1_000_000_000)?
        .checked_div(u128::from(denominator))?;
    u64::try_from(nanoseconds).ok().map(Duration::from_nanos)
}

//! Opus, which symphonia demuxes (Ogg, WebM, MP4) and has no decoder for. RFC 6716 is the codec, RFC 7845 section 5.1
//! the identification header that every container carries in its own wrapping.

use opus_pure::{MAX_PACKET_SAMPLES, OpusDecoder, OpusMSDecoder};

use super::error::AudioError;

/// Opus always decodes at this rate here; the file's "input sample rate" is only a note (RFC 7845, section 5.1).
pub(super) const RATE: u32 = 48_000;

/// A decoder for one Opus track.
pub(super) struct OpusTrack {
    streams: Streams,
    channels: usize,
    pre_skip: u16,
    gain: f32,
    interleaved: Vec<f32>,
}

enum Streams {
    One(Box<OpusDecoder>),
    Several(Box<OpusMSDecoder>),
}

impl OpusTrack {
    /// From the identification header (`OpusHead…`).
    ///
    /// # Errors
    /// The header is cut or asks for a channel layout that does not exist.
    pub(super) fn new(head: &[u8]) -> Result<Self, AudioError> {
        let damaged = |reason: &str| AudioError::damaged_at_start(format!("opus: {reason}"));
        let cut = || damaged("the identification header is cut short");
        if !head.starts_with(b"OpusHead") {
            return Err(damaged("the track has no identification header"));
        }
        let byte = |at: usize| head.get(at).copied().ok_or_else(cut);
        let half = |at: usize| Ok::<_, AudioError>(u16::from_le_bytes([byte(at)?, byte(at + 1)?]));
        let channels = usize::from(byte(9)?);
        let family = byte(18)?;
        let refused =
            |e: opus_pure::Error| damaged(&format!("{channels} channels in family {family}: {e}"));
        let rate = RATE.cast_signed();
        let streams = if family == 0 {
            Streams::One(Box::new(OpusDecoder::new(rate, channels).map_err(refused)?))
        } else {
            Streams::Several(Box::new(
                OpusMSDecoder::new(rate, channels, family).map_err(refused)?,
            ))
        };
        let decibels = f32::from(half(16)?.cast_signed()) / 256.0;
        Ok(Self {
            streams,
            channels,
            pre_skip: half(10)?,
            gain: 10f32.powf(decibels / 20.0),
            interleaved: vec![0.0; MAX_PACKET_SAMPLES * channels],
        })
    }

    /// Frames at the beginning that only warm the decoder up.
    pub(super) fn pre_skip(&self) -> u64 {
        u64::from(self.pre_skip)
    }

    /// One packet into one vector per channel.
    ///
    /// # Errors
    /// What the decoder says of the packet.
    pub(super) fn decode(
        &mut self,
        packet: &[u8],
        planes: &mut Vec<Vec<f32>>,
    ) -> Result<(), String> {
        // An empty packet asks the decoder to conceal a loss, and some muxers write one: it holds no sound.
        if packet.is_empty() {
            return Err("opus: an empty packet".to_string());
        }
        let out = &mut self.interleaved;
        let frames = match &mut self.streams {
            Streams::One(d) => d.decode(packet, MAX_PACKET_SAMPLES, out),
            Streams::Several(d) => d.decode(packet, MAX_PACKET_SAMPLES, out),
        }
        .map_err(|e| format!("opus: {e}"))?;
        planes.resize_with(self.channels, Vec::new);
        for (channel, plane) in planes.iter_mut().enumerate() {
            let samples = out.iter().skip(channel).step_by(self.channels);
            plane.clear();
            plane.extend(samples.take(frames).map(|s| s * self.gain));
        }
        Ok(())
    }
}

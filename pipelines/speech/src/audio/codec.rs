//! One track's packets into samples: symphonia's decoders and ours behind one face, with the encoder's own padding
//! taken off. Nothing here knows containers or the rate that is wanted in the end.

use symphonia::core::codecs::audio::well_known::*;
use symphonia::core::codecs::audio::{
    AudioCodecId, AudioCodecParameters, AudioDecoder, AudioDecoderOptions,
};
use symphonia::core::errors::Error;
use symphonia::core::packet::Packet;

use super::aac;
use super::contain::contained;
use super::error::AudioError;
use super::opus::{self, OpusTrack};

/// A decoder for one track.
pub(super) struct Codec {
    decoder: Decoder,
    rate: u32,
    /// Whether the container's trims are left for us to apply.
    untrimmed: bool,
}

enum Decoder {
    Symphonia(Box<dyn AudioDecoder>),
    Opus(Box<OpusTrack>),
}

/// Why a packet gave no samples.
pub(super) enum Lost {
    /// This packet only.
    Packet(String),
    /// The decoder cannot go on.
    Decoder(String),
}

impl Codec {
    /// A decoder for these parameters.
    ///
    /// # Errors
    /// There is none, or the codec's own header is wrong.
    pub(super) fn new(parameters: &AudioCodecParameters) -> Result<Self, AudioError> {
        if parameters.codec == CODEC_ID_OPUS {
            let head = parameters.extra_data.as_deref().unwrap_or_default();
            let track =
                contained(|| OpusTrack::new(head)).map_err(AudioError::damaged_at_start)??;
            return Ok(Self {
                decoder: Decoder::Opus(Box::new(track)),
                rate: opus::RATE,
                untrimmed: true,
            });
        }
        let mut parameters = parameters.clone();
        if parameters.codec == CODEC_ID_AAC
            && let Some(core) = parameters.extra_data.as_deref().and_then(aac::core_config)
        {
            parameters.extra_data = Some(core.into());
        }
        let options = AudioDecoderOptions::default().gapless(true);
        let made = contained(|| {
            symphonia::default::get_codecs().make_audio_decoder(&parameters, &options)
        })
        .map_err(AudioError::damaged_at_start)?;
        let decoder = made.map_err(|e| refused(e, parameters.codec))?;
        Ok(Self {
            rate: decoder.codec_params().sample_rate.unwrap_or(0),
            decoder: Decoder::Symphonia(decoder),
            // Only these two of symphonia's decoders look at a packet's trims.
            untrimmed: !matches!(parameters.codec, CODEC_ID_MP3 | CODEC_ID_VORBIS),
        })
    }

    /// Samples a second, 0 where only the first packet tells.
    pub(super) fn rate(&self) -> u32 {
        self.rate
    }

    /// Frames that the codec itself wants left out at the beginning.
    pub(super) fn pre_skip(&self) -> u64 {
        match &self.decoder {
            Decoder::Opus(track) => track.pre_skip(),
            Decoder::Symphonia(_) => 0,
        }
    }

    /// One packet into one vector per channel.
    ///
    /// # Errors
    /// [`Lost`]; after [`Lost::Decoder`] this must not be called again.
    pub(super) fn decode(
        &mut self,
        packet: &Packet,
        planes: &mut Vec<Vec<f32>>,
    ) -> Result<(), Lost> {
        let rate = &mut self.rate;
        match &mut self.decoder {
            Decoder::Opus(track) => contained(|| track.decode(&packet.data, planes))
                .map_err(Lost::Decoder)?
                .map_err(Lost::Packet)?,
            Decoder::Symphonia(decoder) => contained(|| match decoder.decode(packet) {
                Ok(buffer) => {
                    *rate = buffer.spec().rate();
                    buffer.copy_to_vecs_planar(planes);
                    Ok(())
                }
                Err(e @ (Error::DecodeError(_) | Error::IoError(_))) => {
                    Err(Lost::Packet(e.to_string()))
                }
                Err(e) => Err(Lost::Decoder(e.to_string())),
            })
            .map_err(Lost::Decoder)??,
        }
        if self.untrimmed {
            trim(packet, planes);
        }
        Ok(())
    }
}

/// Takes off what the container says is padding. Its units are frames wherever it says so at all (Ogg, CAF).
fn trim(packet: &Packet, planes: &mut [Vec<f32>]) {
    let start = usize::try_from(packet.trim_start.get()).unwrap_or(usize::MAX);
    let end = usize::try_from(packet.trim_end.get()).unwrap_or(usize::MAX);
    for plane in planes {
        plane.truncate(plane.len().saturating_sub(end));
        plane.drain(..start.min(plane.len()));
    }
}

fn refused(error: Error, codec: AudioCodecId) -> AudioError {
    let name = name(codec);
    match error {
        Error::Unsupported(_) if codec == CODEC_ID_AAC => AudioError::UnsupportedCodec {
            codec: "AAC of another profile than LC, or with more than two channels,".to_string(),
        },
        Error::Unsupported(_) => AudioError::UnsupportedCodec { codec: name },
        e => AudioError::damaged_at_start(format!("{name}: {e}")),
    }
}

/// The codec as people call it.
pub(super) fn name(codec: AudioCodecId) -> String {
    let known = match codec {
        CODEC_ID_OPUS => "Opus",
        CODEC_ID_VORBIS => "Vorbis",
        CODEC_ID_FLAC => "FLAC",
        CODEC_ID_ALAC => "ALAC",
        CODEC_ID_AAC => "AAC",
        CODEC_ID_MP1 => "MP1",
        CODEC_ID_MP2 => "MP2",
        CODEC_ID_MP3 => "MP3",
        CODEC_ID_PCM_ALAW => "A-law",
        CODEC_ID_PCM_MULAW => "mu-law",
        CODEC_ID_ADPCM_MS | CODEC_ID_ADPCM_IMA_WAV | CODEC_ID_ADPCM_IMA_QT => "ADPCM",
        CODEC_ID_ADPCM_G722 => "G.722",
        CODEC_ID_ADPCM_G726 | CODEC_ID_ADPCM_G726LE => "G.726",
        CODEC_ID_SPEEX => "Speex",
        CODEC_ID_AC3 => "AC-3",
        CODEC_ID_EAC3 => "E-AC-3",
        CODEC_ID_AC4 => "AC-4",
        CODEC_ID_DCA => "DTS",
        CODEC_ID_WMA => "WMA",
        CODEC_ID_WAVPACK => "WavPack",
        CODEC_ID_TRUEHD => "TrueHD",
        CODEC_ID_MUSEPACK => "Musepack",
        CODEC_ID_MONKEYS_AUDIO => "Monkey's Audio",
        CODEC_ID_TTA => "True Audio",
        id if is_pcm(id) => "PCM",
        _ => return format!("a codec that is not known here ({codec})"),
    };
    known.to_string()
}

fn is_pcm(id: AudioCodecId) -> bool {
    (CODEC_ID_PCM_S32LE..=CODEC_ID_PCM_MULAW).contains(&id)
}

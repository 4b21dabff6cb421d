//! What can be wrong with the audio of a request, said so that the person who sent it knows what to send instead.

use std::time::Duration;

/// Why bytes do not become samples. All but [`AudioError::Read`] are the sender's to mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AudioError {
    /// No bytes, or a whole file that holds no sample.
    #[error("the audio is empty: {0}")]
    Empty(&'static str),
    /// Something else altogether.
    #[error(
        "this is not audio: it looks like {looks_like}; send wav, flac, mp3, ogg, opus, webm, m4a, mp4, mov, aac, aiff or caf"
    )]
    NotAudio {
        /// Such as `an HTML page`.
        looks_like: &'static str,
    },
    /// A container with pictures, or text, and no sound.
    #[error("the {container} file has no audio track")]
    NoAudioTrack {
        /// Such as `Matroska/WebM`.
        container: String,
    },
    /// Audio, in a form for which this build has no decoder.
    #[error(
        "{codec} is not supported; send PCM, FLAC, MP3, Vorbis, Opus, AAC-LC (also inside HE-AAC) or ALAC"
    )]
    UnsupportedCodec {
        /// Such as `WMA (in an ASF file)`.
        codec: String,
    },
    /// A decodable form with a value that is out of the accepted range.
    #[error("{field} is {value}; {accepted}")]
    OutOfRange {
        /// Such as `the sample rate`.
        field: &'static str,
        /// As the file has it.
        value: u64,
        /// What would do.
        accepted: &'static str,
    },
    /// The file breaks the rules of its own format.
    #[error("the audio is damaged at {}: {reason}", position(.at))]
    Damaged {
        /// How much had been decoded.
        at: Duration,
        /// As the decoder said it.
        reason: String,
    },
    /// More audio than the limit.
    #[error("the audio is longer than the limit of {}", position(.limit))]
    TooLong {
        /// The limit.
        limit: Duration,
    },
    /// The bytes could not be read: not the file's fault.
    #[error("the audio could not be read: {0}")]
    Read(#[from] std::io::Error),
}

impl AudioError {
    /// Damage before anything was decoded.
    pub(crate) fn damaged_at_start(reason: impl Into<String>) -> Self {
        Self::Damaged {
            at: Duration::ZERO,
            reason: reason.into(),
        }
    }
}

/// `1:02:03.5`, `2:03.5` or `3.5 s`.
fn position(at: &Duration) -> String {
    let seconds = at.as_secs();
    let tenths = at.subsec_millis() / 100;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}.{tenths} s"),
        (0, m, s) => format!("{m}:{s:02}.{tenths}"),
        (h, m, s) => format!("{h}:{m:02}:{s:02}.{tenths}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_as_a_clock_does() {
        assert_eq!(position(&Duration::from_millis(3_560)), "3.5 s");
        assert_eq!(position(&Duration::from_millis(123_000)), "2:03.0");
        assert_eq!(position(&Duration::from_secs(36_000)), "10:00:00.0");
        assert_eq!(
            AudioError::TooLong {
                limit: Duration::from_secs(7200)
            }
            .to_string(),
            "the audio is longer than the limit of 2:00:00.0"
        );
    }
}

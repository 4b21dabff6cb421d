//! A window's transcript cut into segments at its times, and where the next window begins by them.
//! Mirrors openai-whisper transcribe.py (the middle of its loop).

use crate::whisper::config::INPUT_STRIDE;
use crate::whisper::fallback::Attempt;
use crate::whisper::model::Description;
use crate::whisper::segment::Segment;

/// A window's segments.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Slices {
    pub(super) segments: Vec<Segment>,
    /// Where the next window begins.
    pub(super) next_seek: usize,
    /// Whether the transcript ends with a time after words: nobody speaks after it.
    pub(super) ends_in_silence: bool,
}

impl Slices {
    /// The segments of a window that begins at frame `seek` and holds `frames`.
    pub(super) fn of(
        description: &Description,
        attempt: &Attempt,
        seek: usize,
        frames: usize,
    ) -> Self {
        let Some(begin) = description.generation.tokens.timestamp_begin() else {
            return Self::whole(description, attempt, seek, frames);
        };
        let tokens = &attempt.decoded.tokens;
        let is_time = |at: usize| tokens.get(at).is_some_and(|id| *id >= begin);
        let last = tokens.len().wrapping_sub(1);
        let ends_in_silence = tokens.len() >= 2 && !is_time(last - 1) && is_time(last);
        let mut cuts: Vec<usize> = (1..tokens.len())
            .filter(|at| is_time(at - 1) && is_time(*at))
            .collect();
        if cuts.is_empty() {
            return Self {
                ends_in_silence,
                ..Self::whole(description, attempt, seek, frames)
            };
        }
        if ends_in_silence {
            cuts.push(tokens.len());
        }
        let timing = &description.timing;
        let offset = timing.seconds(seek);
        let time = |id: Option<&u32>| f64::from(id.map_or(0, |id| id.saturating_sub(begin)));
        let mut segments = Vec::with_capacity(cuts.len());
        let mut from = 0;
        for to in cuts {
            let slice = tokens.get(from..to).unwrap_or_default();
            segments.push(Segment {
                start: offset + time(slice.first()) * timing.precision(),
                end: offset + time(slice.last()) * timing.precision(),
                ..segment(description, attempt, seek, slice)
            });
            from = to;
        }
        // Without silence at its end the last segment is heard again, from where it begins.
        let heard = time(tokens.get(from.wrapping_sub(1))) as usize * INPUT_STRIDE;
        Self {
            segments,
            next_seek: seek + if ends_in_silence { frames } else { heard },
            ends_in_silence,
        }
    }

    /// All of the transcript as one segment, which ends at its last time or with the window.
    fn whole(description: &Description, attempt: &Attempt, seek: usize, frames: usize) -> Self {
        let timing = &description.timing;
        let begin = description.generation.tokens.timestamp_begin();
        let tokens = &attempt.decoded.tokens;
        let last_time = begin.and_then(|begin| {
            let last = tokens.iter().rev().find(|id| **id >= begin)?;
            Some(last - begin).filter(|time| *time > 0)
        });
        let length = match last_time {
            Some(time) => f64::from(time) * timing.precision(),
            None => timing.seconds(frames),
        };
        let offset = timing.seconds(seek);
        Self {
            segments: vec![Segment {
                start: offset,
                end: offset + length,
                ..segment(description, attempt, seek, tokens)
            }],
            next_seek: seek + frames,
            ends_in_silence: false,
        }
    }
}

fn segment(description: &Description, attempt: &Attempt, seek: usize, tokens: &[u32]) -> Segment {
    let eot = description.generation.tokens.eot;
    let text: Vec<u32> = tokens.iter().copied().filter(|id| *id < eot).collect();
    Segment {
        seek,
        start: 0.0,
        end: 0.0,
        text: description.tokenizer.decode(&text),
        tokens: tokens.to_vec(),
        temperature: attempt.temperature,
        mean_log_probability: attempt.decoded.mean_log_probability(),
        compression_ratio: attempt.compression_ratio,
        no_speech: attempt.decoded.no_speech,
        words: None,
    }
}

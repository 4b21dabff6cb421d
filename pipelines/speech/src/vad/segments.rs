//! Probabilities into segments: what must be there for speech to begin, how long a pause ends it, where too long a
//! stretch is cut. The rules and names are faster-whisper's (`get_speech_timestamps` in vad.py, after Silero's), but that a
//! cut falls where there is least speech, and that it all works as the recording comes.

use std::collections::VecDeque;

use super::spectrum::HOP;

/// What counts as speech. The names and defaults are those of faster-whisper's `VadOptions`.
#[derive(Debug, Clone, PartialEq)]
pub struct VadOptions {
    /// Speech begins at a probability of this much.
    pub threshold: f32,
    /// And ends below this much; `None` is 0.15 under the threshold.
    pub neg_threshold: Option<f32>,
    /// Shorter speech is none.
    pub min_speech_duration_ms: u32,
    /// Longer speech is cut, where there is least of it.
    pub max_speech_duration_s: Option<f32>,
    /// Shorter pauses are part of the speech around them.
    pub min_silence_duration_ms: u32,
    /// Kept on both sides of a segment.
    pub speech_pad_ms: u32,
}

impl Default for VadOptions {
    fn default() -> Self {
        Self {
            threshold: 0.5,
            neg_threshold: None,
            min_speech_duration_ms: 0,
            max_speech_duration_s: None,
            min_silence_duration_ms: 2_000,
            speech_pad_ms: 400,
        }
    }
}

/// A value of [`VadOptions`] that will not do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field} is {value}; {accepted}")]
pub struct VadOptionError {
    /// The field's name.
    pub field: &'static str,
    /// Its value.
    pub value: f32,
    /// What would do.
    pub accepted: &'static str,
}

impl VadOptions {
    /// Refuses values outside their range.
    ///
    /// # Errors
    /// Names the field, its value and what is accepted.
    pub fn validate(&self) -> Result<(), VadOptionError> {
        let refused = |field, value, accepted| {
            Err(VadOptionError {
                field,
                value,
                accepted,
            })
        };
        let probability = 0.0..=1.0;
        if !probability.contains(&self.threshold) {
            return refused("threshold", self.threshold, "it must be between 0 and 1");
        }
        if let Some(low) = self.neg_threshold
            && !(0.0..=self.threshold).contains(&low)
        {
            return refused("neg_threshold", low, "it must be between 0 and threshold");
        }
        if let Some(longest) = self.max_speech_duration_s {
            let padded = self.speech_pad_ms as f32 / 500.0 + 1.0;
            if longest.is_nan() || longest < padded {
                return refused(
                    "max_speech_duration_s",
                    longest,
                    "it must be at least a second more than the padding on both sides",
                );
            }
        }
        Ok(())
    }
}

/// A stretch of speech, in samples at 16 kHz from the beginning of the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The first sample.
    pub start: u64,
    /// The sample after the last.
    pub end: u64,
}

/// Probabilities of 10 ms each in, segments out.
#[derive(Debug)]
pub(super) struct Segmenter {
    threshold: f32,
    low: f32,
    /// In frames.
    least_speech: u64,
    most_speech: Option<u64>,
    least_silence: u64,
    pad: u64,
    now: u64,
    /// Since when there is speech, and since when it may have ended.
    speaking: Option<u64>,
    quiet_since: Option<u64>,
    /// Probabilities since the speech began, where it may have to be cut.
    history: VecDeque<f32>,
    /// Closed, but for what the next segment's beginning means for its end.
    pending: Option<(u64, u64)>,
    /// Where the last segment that was handed over ends.
    done: u64,
}

impl Segmenter {
    pub(super) fn new(options: &VadOptions) -> Self {
        let frames = |ms: u32| u64::from(ms).div_ceil(10);
        let pad = frames(options.speech_pad_ms);
        Self {
            threshold: options.threshold,
            low: options
                .neg_threshold
                .unwrap_or((options.threshold - 0.15).max(0.01)),
            least_speech: frames(options.min_speech_duration_ms),
            // As u64: validated to be a second at least, and saturating at the other end.
            most_speech: options
                .max_speech_duration_s
                .filter(|s| s.is_finite())
                .map(|s| ((s * 100.0) as u64).saturating_sub(2 * pad).max(2)),
            least_silence: frames(options.min_silence_duration_ms).max(1),
            pad,
            now: 0,
            speaking: None,
            quiet_since: None,
            history: VecDeque::new(),
            pending: None,
            done: 0,
        }
    }

    /// Takes one probability and appends the segments that are final.
    pub(super) fn push(&mut self, probability: f32, out: &mut Vec<Segment>) {
        let at = self.now;
        self.now += 1;
        if probability >= self.threshold {
            self.quiet_since = None;
            if self.speaking.is_none() {
                self.speaking = Some(at);
                self.history.clear();
            }
        }
        if let Some(start) = self.speaking {
            if self.most_speech.is_some() {
                self.history.push_back(probability);
            }
            if probability < self.low {
                let quiet = *self.quiet_since.get_or_insert(at);
                if self.now - quiet >= self.least_silence {
                    self.close(start, quiet, out);
                    self.speaking = None;
                    self.quiet_since = None;
                }
            }
        }
        self.cut_if_too_long(out);
        self.settle(out);
    }

    /// Appends what is left, of a recording of so many samples.
    pub(super) fn finish(&mut self, samples: u64, out: &mut Vec<Segment>) {
        if let Some(start) = self.speaking.take() {
            let end = self.quiet_since.take().unwrap_or(self.now);
            self.close(start, end, out);
        }
        if let Some((start, end)) = self.pending.take() {
            self.hand_over(start, end + self.pad, out);
        }
        if let Some(last) = out.last_mut() {
            last.end = last.end.min(samples);
        }
    }

    fn close(&mut self, start: u64, end: u64, out: &mut Vec<Segment>) {
        // What is left after a cut belongs to what was cut off, however short it is.
        let after_cut = self.pending.is_some_and(|(_, end)| end == start);
        if end - start < self.least_speech.max(1) && !(after_cut && end > start) {
            return;
        }
        let padded = self.begin_after_pending(start, out);
        self.pending = Some((padded, end));
    }

    /// The padded beginning of a segment; a gap to the one before that is too short for both pads is shared.
    fn begin_after_pending(&mut self, start: u64, out: &mut Vec<Segment>) -> u64 {
        let Some((previous, end)) = self.pending.take() else {
            return start.saturating_sub(self.pad).max(self.done);
        };
        let gap = start - end;
        let pad = self.pad.min(gap / 2);
        self.hand_over(previous, end + pad, out);
        start - pad
    }

    /// Hands over a closed segment as soon as nothing that comes can change its end.
    fn settle(&mut self, out: &mut Vec<Segment>) {
        let Some((start, end)) = self.pending else {
            return;
        };
        let far = self.speaking.unwrap_or(self.now) >= end + 2 * self.pad;
        if far {
            self.pending = None;
            self.hand_over(start, end + self.pad, out);
        }
    }

    fn cut_if_too_long(&mut self, out: &mut Vec<Segment>) {
        let (Some(start), Some(most)) = (self.speaking, self.most_speech) else {
            return;
        };
        if self.now - start < most {
            return;
        }
        let cut = start + self.least_speech_like(most);
        self.close(start, cut, out);
        self.speaking = Some(cut);
        self.history.drain(
            ..usize::try_from(cut - start)
                .unwrap_or(0)
                .min(self.history.len()),
        );
        self.quiet_since = self.quiet_since.map(|q| q.max(cut));
    }

    /// Where in the second half of so many frames the mean probability over 90 ms is least; the later of equals, because
    /// longer pieces are better understood.
    fn least_speech_like(&self, most: u64) -> u64 {
        let count = usize::try_from(most)
            .unwrap_or(usize::MAX)
            .min(self.history.len());
        let mean = |at: usize| {
            let around = self
                .history
                .range(at.saturating_sub(4)..(at + 5).min(self.history.len()));
            let size = around.len().max(1) as f32;
            around.sum::<f32>() / size
        };
        let best = (count / 2..count)
            .map(|at| (at, mean(at)))
            .min_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
        best.map_or(most, |(at, _)| at as u64).max(1)
    }

    fn hand_over(&mut self, start: u64, end: u64, out: &mut Vec<Segment>) {
        self.done = end;
        out.push(Segment {
            start: start * HOP as u64,
            end: end * HOP as u64,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each number: tenths of a second, speech and silence in turn, beginning with silence.
    fn segments(options: &VadOptions, pattern: &[usize]) -> Vec<(u64, u64)> {
        let mut segmenter = Segmenter::new(options);
        let mut out = Vec::new();
        let mut frames = 0;
        for (turn, tenths) in pattern.iter().enumerate() {
            for _ in 0..tenths * 10 {
                segmenter.push((turn % 2) as f32, &mut out);
                frames += 1;
            }
        }
        segmenter.finish(frames * HOP as u64, &mut out);
        out.iter().map(|s| (s.start / 1600, s.end / 1600)).collect()
    }

    fn options() -> VadOptions {
        VadOptions {
            min_silence_duration_ms: 300,
            speech_pad_ms: 200,
            ..VadOptions::default()
        }
    }

    #[test]
    fn pauses_end_speech_only_when_they_are_long_enough() {
        assert_eq!(segments(&options(), &[10, 10, 2, 10, 10]), [(8, 34)]);
        assert_eq!(
            segments(&options(), &[10, 10, 10, 10, 10]),
            [(8, 22), (28, 42)]
        );
    }

    #[test]
    fn padding_stays_within_the_recording_and_is_shared_in_short_gaps() {
        assert_eq!(segments(&options(), &[1, 10, 1]), [(0, 12)]);
        // 0.3 s between: 0.15 s for each.
        assert_eq!(segments(&options(), &[10, 10, 3, 10]), [(8, 21), (21, 33)]);
    }

    #[test]
    fn speech_shorter_than_the_least_is_none() {
        let strict = VadOptions {
            min_speech_duration_ms: 250,
            ..options()
        };
        assert_eq!(segments(&strict, &[10, 2, 10, 3, 10]), [(20, 27)]);
        assert_eq!(segments(&strict, &[10]), []);
    }

    #[test]
    fn too_long_speech_is_cut_where_there_is_least_of_it() {
        let mut segmenter = Segmenter::new(&VadOptions {
            max_speech_duration_s: Some(10.0),
            speech_pad_ms: 0,
            ..options()
        });
        let mut out = Vec::new();
        for frame in 0..2500 {
            let dip = (700..720).contains(&frame);
            segmenter.push(if dip { 0.45 } else { 0.9 }, &mut out);
        }
        segmenter.finish(2500 * HOP as u64, &mut out);
        let ends: Vec<u64> = out.iter().map(|s| s.end / HOP as u64).collect();
        assert!((704..=715).contains(&ends[0]), "{ends:?}");
        assert_eq!(*ends.last().unwrap(), 2500);
        assert!(
            out.windows(2).all(|s| s[0].end == s[1].start),
            "nothing is lost at a cut: {out:?}"
        );
        assert!(out.iter().all(|s| s.end - s.start <= 160_000));
    }

    #[test]
    fn options_that_contradict_are_named() {
        let wrong = VadOptions {
            threshold: 1.5,
            ..VadOptions::default()
        };
        assert_eq!(
            wrong.validate().unwrap_err().to_string(),
            "threshold is 1.5; it must be between 0 and 1"
        );
        let wrong = VadOptions {
            max_speech_duration_s: Some(1.5),
            ..VadOptions::default()
        };
        assert_eq!(wrong.validate().unwrap_err().field, "max_speech_duration_s");
    }
}

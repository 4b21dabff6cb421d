//! Subtitles: SRT and WebVTT from texts with times. Apart from the front doors because all of them write these, and none may
//! know another.

use std::borrow::Cow;
use std::fmt::Write;

/// A text and when it is said, in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Cue<'a> {
    /// When it begins.
    pub start: f64,
    /// When it ends.
    pub end: f64,
    /// The text; spaces about it are left out.
    pub text: Cow<'a, str>,
}

/// SubRip, as openai-whisper's `WriteSRT` has it: numbered from 1, hours always, a comma before the milliseconds.
pub fn srt<'a>(cues: impl IntoIterator<Item = Cue<'a>>) -> String {
    let mut out = String::new();
    for (number, cue) in (1..).zip(cues) {
        let (start, end) = (time(cue.start, ','), time(cue.end, ','));
        // Why ignored, here and below: writing to a string does not fail.
        let _ = write!(out, "{number}\n{start} --> {end}\n{}\n\n", text(&cue.text));
    }
    out
}

/// WebVTT: a header, hours always, a point before the milliseconds.
pub fn vtt<'a>(cues: impl IntoIterator<Item = Cue<'a>>) -> String {
    let mut out = String::from("WEBVTT\n\n");
    for cue in cues {
        let (start, end) = (time(cue.start, '.'), time(cue.end, '.'));
        let _ = write!(out, "{start} --> {end}\n{}\n\n", text(&cue.text));
    }
    out
}

/// `01:02:03.004`, with `mark` before the milliseconds. Hours are always written and may have more than two digits.
pub fn time(seconds: f64, mark: char) -> String {
    // A negative time is none: `as` makes 0 of it.
    let ms = (seconds * 1000.0).round() as u64;
    let (hours, minutes) = (ms / 3_600_000, ms / 60_000 % 60);
    let (seconds, ms) = (ms / 1000 % 60, ms % 1000);
    format!("{hours:02}:{minutes:02}:{seconds:02}{mark}{ms:03}")
}

/// An arrow within a text would be read as one of times, and an empty line as the end of its cue.
fn text(text: &str) -> String {
    let lines = text.trim().lines().filter(|line| !line.trim().is_empty());
    lines.collect::<Vec<_>>().join("\n").replace("-->", "->")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cues() -> Vec<Cue<'static>> {
        let cue = |start, end, text: &'static str| Cue {
            start,
            end,
            text: text.into(),
        };
        vec![
            cue(0.0, 1.9996, " one\n\n two"),
            cue(3599.5, 363_723.004, "a --> b"),
        ]
    }

    #[test]
    fn srt_is_numbered_and_has_commas() {
        let expected = "1\n00:00:00,000 --> 00:00:02,000\none\n two\n\n2\n00:59:59,500 --> 101:02:03,004\na -> b\n\n";
        assert_eq!(srt(cues()), expected);
    }

    #[test]
    fn vtt_has_a_header_and_points() {
        let first = cues().into_iter().take(1);
        assert_eq!(
            vtt(first),
            "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\none\n two\n\n"
        );
        assert_eq!(vtt([]), "WEBVTT\n\n");
    }
}

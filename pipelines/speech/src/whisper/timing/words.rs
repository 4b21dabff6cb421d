//! Words with times: tokens' positions gathered into words, overlong ones at the ends of sentences and segments cut, punctuation put
//! to the word it belongs to. Mirrors openai-whisper timing.py (`find_alignment`, `merge_punctuations`, `add_word_timestamps`).

use chandler_core::SpokenWord;

use crate::whisper::config::INPUT_STRIDE;
use crate::whisper::decoding::Alignment;
use crate::whisper::preprocessing::Timing;
use crate::whisper::segment::Segment;
use crate::whisper::tokenizer::words::Word;

/// Marks after which a pause may have been put to a word.
const SENTENCE_END: &str = ".。!！?？";
/// Words are not taken to be longer than this on the whole, in seconds.
const LONGEST_MEDIAN: f64 = 0.7;

/// Marks that belong to the word after them, or before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Punctuation {
    /// To the word after.
    pub prepended: String,
    /// To the word before.
    pub appended: String,
}

impl Default for Punctuation {
    /// openai-whisper's.
    fn default() -> Self {
        Self {
            prepended: "\"'“¿([{-".to_owned(),
            appended: "\"'.。,，!！?？:：”)]}、".to_owned(),
        }
    }
}

/// A word of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct WordTiming {
    /// As it is written, with the space before it; empty when it was put to another.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Seconds from the window's beginning.
    pub start: f64,
    /// Seconds from the window's beginning.
    pub end: f64,
    /// The mean of its tokens' probabilities.
    pub probability: f64,
}

/// The words of a window's text with their times. `words` are those of the text tokens with the one that ends them; `positions`
/// are [`token_positions`](super::token_positions).
pub fn time_words(
    words: Vec<Word>,
    positions: &[usize],
    alignment: &Alignment,
    timing: &Timing,
) -> Vec<WordTiming> {
    let per_second = timing.frames_per_second() / INPUT_STRIDE as f64;
    let time = |token: usize| {
        positions
            .get(token)
            .map_or(0.0, |at| *at as f64 / per_second)
    };
    let mut timed = Vec::with_capacity(words.len());
    let (mut begin, last) = (0, words.len().saturating_sub(1));
    for word in words.into_iter().take(last) {
        let end = begin + word.tokens.len();
        let probabilities = alignment.probabilities.get(begin..end).unwrap_or_default();
        let sum: f64 = probabilities.iter().map(|p| f64::from(*p)).sum();
        timed.push(WordTiming {
            text: word.text,
            tokens: word.tokens,
            start: time(begin),
            end: time(end),
            probability: sum / probabilities.len().max(1) as f64,
        });
        begin = end;
    }
    timed
}

/// The usual length of a word, in seconds, and the longest that is believed.
struct Lengths {
    median: f64,
    most: f64,
}

impl Lengths {
    fn of(words: &[WordTiming]) -> Self {
        let lengths = words.iter().map(|word| word.end - word.start);
        let mut lengths: Vec<f64> = lengths.filter(|length| *length != 0.0).collect();
        lengths.sort_by(f64::total_cmp);
        let middle = lengths.len() / 2;
        let median = match (lengths.get(middle.wrapping_sub(1)), lengths.get(middle)) {
            (Some(below), Some(above)) if lengths.len().is_multiple_of(2) => (below + above) / 2.0,
            (_, Some(middle)) => *middle,
            (_, None) => 0.0,
        };
        let median = median.min(LONGEST_MEDIAN);
        Self {
            median,
            most: 2.0 * median,
        }
    }
}

/// Puts a window's words into its segments, whose times follow them where they are believable. `last_speech` is when the last word
/// before the window ended; the last word's end is given back.
pub fn place_words(
    mut words: Vec<WordTiming>,
    segments: &mut [Segment],
    timing: &Timing,
    punctuation: &Punctuation,
    (eot, mut last_speech): (u32, f64),
) -> f64 {
    let lengths = Lengths::of(&words);
    cut_at_sentences(&mut words, &lengths);
    merge_punctuation(&mut words, punctuation);
    let offset = segments
        .first()
        .map_or(0.0, |first| timing.seconds(first.seek));
    let mut left = words.into_iter().peekable();
    for segment in segments {
        let text_tokens = segment.tokens.iter().filter(|token| **token < eot).count();
        let mut placed = Vec::new();
        let mut saved = 0;
        while saved < text_tokens
            && let Some(word) = left.next()
        {
            saved += word.tokens.len();
            if !word.text.is_empty() {
                placed.push(SpokenWord {
                    text: word.text,
                    start: to_hundredths(offset + word.start),
                    end: to_hundredths(offset + word.end),
                    probability: word.probability,
                });
            }
        }
        if !placed.is_empty() {
            fit(&mut placed, segment, &lengths, last_speech);
            last_speech = segment.end;
        }
        segment.words = Some(placed);
    }
    last_speech
}

/// A word at the end of a sentence may have got the pause after it.
fn cut_at_sentences(words: &mut [WordTiming], lengths: &Lengths) {
    if lengths.median == 0.0 {
        return;
    }
    let ends = |word: &WordTiming| SENTENCE_END.contains(word.text.as_str());
    for index in 1..words.len() {
        let Some([before, word]) = words.get_mut(index - 1..=index) else {
            continue;
        };
        if word.end - word.start > lengths.most {
            if ends(word) {
                word.end = word.start + lengths.most;
            } else if ends(before) {
                word.start = word.end - lengths.most;
            }
        }
    }
}

/// Puts marks to the words that they belong to; what is left of them is empty. As Python's `in` has it, nothing is a part of any
/// marks.
fn merge_punctuation(words: &mut [WordTiming], punctuation: &Punctuation) {
    let mut following = words.len().saturating_sub(1);
    for index in (0..following).rev() {
        let Some((before, after)) = words.split_at_mut_checked(following) else {
            continue;
        };
        let (Some(previous), Some(next)) = (before.get_mut(index), after.first_mut()) else {
            continue;
        };
        let belongs =
            previous.text.starts_with(' ') && punctuation.prepended.contains(previous.text.trim());
        if belongs {
            next.text.insert_str(0, &previous.text);
            next.tokens.splice(0..0, previous.tokens.drain(..));
            previous.text.clear();
        } else {
            following = index;
        }
    }
    let mut previous = 0;
    for index in 1..words.len() {
        let Some((before, after)) = words.split_at_mut_checked(index) else {
            continue;
        };
        let (Some(word), Some(next)) = (before.get_mut(previous), after.first_mut()) else {
            continue;
        };
        if !word.text.ends_with(' ') && punctuation.appended.contains(next.text.as_str()) {
            word.text.push_str(&next.text);
            word.tokens.append(&mut next.tokens);
            next.text.clear();
        } else {
            previous = index;
        }
    }
}

/// Cuts words at a segment's ends that have got a pause, and makes segment and words agree.
fn fit(words: &mut [SpokenWord], segment: &mut Segment, lengths: &Lengths, last_speech: f64) {
    let Lengths { median, most } = *lengths;
    if let [first, rest @ ..] = words {
        let second = rest.first_mut();
        let long_pair = second
            .as_ref()
            .is_some_and(|second| second.end - first.start > most * 2.0);
        let after_pause = first.end - last_speech > median * 4.0;
        if after_pause && (first.end - first.start > most || long_pair) {
            if let Some(second) = second.filter(|second| second.end - second.start > most) {
                let boundary = (second.end / 2.0).max(second.end - most);
                first.end = boundary;
                second.start = boundary;
            }
            first.start = (first.end - most).max(0.0);
        }
        if segment.start < first.end && segment.start - 0.5 > first.start {
            first.start = (first.end - median).min(segment.start).max(0.0);
        } else {
            segment.start = first.start;
        }
    }
    if let Some(last) = words.last_mut() {
        if segment.end > last.start && segment.end + 0.5 < last.end {
            last.end = (last.start + median).max(segment.end);
        } else {
            segment.end = last.end;
        }
    }
}

/// As Python's `round(x, 2)`: by the decimals of the number itself, ties to even.
pub fn to_hundredths(seconds: f64) -> f64 {
    format!("{seconds:.2}").parse().unwrap_or(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str, start: f64, end: f64) -> WordTiming {
        WordTiming {
            text: text.to_owned(),
            tokens: vec![1],
            start,
            end,
            probability: 0.5,
        }
    }

    #[test]
    fn hundredths_are_pythons() {
        for (x, expected) in [
            (0.125, 0.12),
            (0.375, 0.38),
            (2.675, 2.67),
            (1.005, 1.0),
            (30.0, 30.0),
        ] {
            assert_eq!(to_hundredths(x), expected);
        }
    }

    #[test]
    fn marks_go_to_the_words_they_belong_to() {
        let mut words = [" \"", "Yes", ",", " sir", ".", "\""].map(|text| word(text, 0.0, 1.0));
        merge_punctuation(&mut words, &Punctuation::default());
        let texts = words
            .each_ref()
            .map(|word| (word.text.as_str(), word.tokens.len()));
        assert_eq!(
            texts,
            [
                ("", 0),
                (" \"Yes,", 3),
                ("", 0),
                (" sir.\"", 3),
                ("", 0),
                ("", 0)
            ]
        );
    }

    #[test]
    fn the_median_of_an_even_number_is_between_and_words_without_length_do_not_count() {
        let words = [
            word("a", 0.0, 0.2),
            word("b", 0.2, 0.2),
            word("c", 0.2, 0.6),
        ];
        assert!((Lengths::of(&words).median - 0.3).abs() < 1e-12);
        assert_eq!(Lengths::of(&words[1..2]).median, 0.0);
    }
}

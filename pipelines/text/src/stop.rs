//! Ends an answer at a stop string or a character limit, and holds back text that may yet turn out to be one:
//! what has been sent is never taken back.

/// The rules, and the text that is still held.
#[derive(Debug, Clone, Default)]
pub(crate) struct StopText {
    stops: Vec<String>,
    held: String,
    /// Characters that may still be sent.
    chars_left: Option<usize>,
    /// The stop string that was reached.
    matched: Option<Box<str>>,
}

/// What may be sent, and whether the answer ends with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// Go on.
    Open(String),
    /// A stop string was reached; it is not in the text.
    Stopped(String),
    /// The character limit was reached.
    Full(String),
}

impl StopText {
    pub(crate) fn new(stops: Vec<String>, max_chars: Option<u32>) -> Self {
        Self {
            stops,
            held: String::new(),
            chars_left: max_chars.map(|n| n as usize),
            matched: None,
        }
    }

    /// The stop string that ended the answer.
    pub(crate) fn matched(&self) -> Option<Box<str>> {
        self.matched.clone()
    }

    /// Takes new text. While `armed` is false stop strings are passed through as text.
    pub(crate) fn push(&mut self, text: &str, armed: bool) -> Passed {
        self.held.push_str(text);
        if armed && let Some((at, stop)) = self.earliest_stop() {
            let stop = stop.into();
            self.held.truncate(at);
            return match self.release(self.held.len()) {
                Passed::Open(text) => {
                    self.matched = Some(stop);
                    Passed::Stopped(text)
                }
                full => full,
            };
        }
        let keep = if armed { self.longest_beginning() } else { 0 };
        self.release(self.held.len() - keep)
    }

    /// The answer has ended otherwise: what is held is text after all.
    pub(crate) fn finish(&mut self) -> String {
        match self.release(self.held.len()) {
            Passed::Open(text) | Passed::Stopped(text) | Passed::Full(text) => text,
        }
    }

    /// Sends the first `bytes` of what is held, as far as the character limit goes.
    fn release(&mut self, bytes: usize) -> Passed {
        let rest = self.held.split_off(bytes);
        let mut text = std::mem::replace(&mut self.held, rest);
        let Some(left) = &mut self.chars_left else {
            return Passed::Open(text);
        };
        let count = text.chars().count();
        if count < *left {
            *left -= count;
            return Passed::Open(text);
        }
        if let Some((at, _)) = text.char_indices().nth(*left) {
            text.truncate(at);
        }
        *left = 0;
        Passed::Full(text)
    }

    /// Where the first stop string begins, and which it is; of two that begin together the one given first.
    fn earliest_stop(&self) -> Option<(usize, &str)> {
        let all = self
            .stops
            .iter()
            .filter_map(|stop| Some((self.held.find(stop.as_str())?, stop.as_str())));
        all.min_by_key(|(at, _)| *at)
    }

    /// Bytes at the end of what is held that begin a stop string.
    fn longest_beginning(&self) -> usize {
        let longest = |stop: &String| {
            let most = stop.len().saturating_sub(1).min(self.held.len());
            (1..=most)
                .rev()
                .find(|n| {
                    stop.is_char_boundary(*n)
                        && self.held.as_bytes().ends_with(&stop.as_bytes()[..*n])
                })
                .unwrap_or(0)
        };
        self.stops.iter().map(longest).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stops(list: &[&str]) -> StopText {
        StopText::new(list.iter().map(|s| (*s).to_owned()).collect(), None)
    }

    #[test]
    fn a_stop_string_that_comes_in_pieces_is_never_sent() {
        let mut stop = stops(&["END", "\n\n"]);
        assert_eq!(stop.push("to the E", true), Passed::Open("to the ".into()));
        assert_eq!(stop.push("N", true), Passed::Open(String::new()));
        assert_eq!(stop.matched(), None);
        assert_eq!(stop.push("D of", true), Passed::Stopped(String::new()));
        assert_eq!(stop.matched().as_deref(), Some("END"));
    }

    #[test]
    fn held_text_that_is_no_stop_string_is_sent() {
        let mut stop = stops(&["END"]);
        assert_eq!(stop.push("EN", true), Passed::Open(String::new()));
        assert_eq!(stop.push("TER", true), Passed::Open("ENTER".into()));
        assert_eq!(stop.push(" E", true), Passed::Open(" ".into()));
        assert_eq!(stop.finish(), "E");
    }

    #[test]
    fn the_earliest_of_several_wins_and_characters_stay_whole() {
        let mut stop = stops(&["蝋燭", "wax"]);
        assert_eq!(stop.push("a 蝋", true), Passed::Open("a ".into()));
        assert_eq!(
            stop.push("人 wax 蝋燭", true),
            Passed::Stopped("蝋人 ".into())
        );
    }

    #[test]
    fn the_character_limit_counts_characters() {
        let mut stop = StopText::new(Vec::new(), Some(3));
        assert_eq!(stop.push("é", true), Passed::Open("é".into()));
        assert_eq!(stop.push("éàü", true), Passed::Full("éà".into()));
    }

    #[test]
    fn however_text_is_cut_the_outcome_is_the_same() {
        let text = "abcabxabcabcd--abca";
        for stop in ["abcabcd", "x", "zz", "ca"] {
            let whole = text.split(stop).next().unwrap().to_owned();
            for step in 1..6 {
                let (mut out, mut matcher) = (String::new(), stops(&[stop]));
                let mut stopped = false;
                for piece in text.as_bytes().chunks(step) {
                    match matcher.push(std::str::from_utf8(piece).unwrap(), true) {
                        Passed::Open(t) => out.push_str(&t),
                        Passed::Stopped(t) | Passed::Full(t) => {
                            out.push_str(&t);
                            stopped = true;
                            break;
                        }
                    }
                }
                if !stopped {
                    out.push_str(&matcher.finish());
                }
                assert_eq!(out, whole, "stop {stop} in steps of {step}");
            }
        }
    }
}

//! Whether a row is in its thoughts, token by token. Apart from the reader, which sees text later, when stop strings
//! have been ruled out: a constraint begins at the very token after the thoughts.

use super::marks::{Marks, Phase};

/// Where thoughts begin and end in a row's tokens.
#[derive(Debug, Clone)]
pub(crate) struct Thinking {
    marks: &'static Marks,
    pub(crate) phase: Phase,
    /// The end of the text so far: as much as may hold a mark.
    tail: String,
    /// Tokens of the thoughts, their marks included.
    pub(crate) tokens: u32,
}

impl Thinking {
    pub(crate) fn new(marks: &'static Marks, phase: Phase) -> Self {
        Self {
            marks,
            phase,
            tail: String::new(),
            tokens: 0,
        }
    }

    /// Takes what a token added to the text. Returns what of it lies behind the closing mark, when the thoughts end
    /// with it.
    pub(crate) fn see(&mut self, text: &str) -> Option<String> {
        if self.phase == Phase::Over {
            return None;
        }
        self.tail.push_str(text);
        if self.phase == Phase::Possible {
            let begun = self.tail.trim_start();
            if let Some(thoughts) = begun.strip_prefix(self.marks.open) {
                self.tail = thoughts.to_owned();
                self.phase = Phase::Inside;
            } else if !self.marks.open.starts_with(begun) {
                self.phase = Phase::Over;
                return None;
            }
        }
        if self.phase == Phase::Possible {
            return None;
        }
        self.tokens += 1;
        if let Some(at) = self.tail.find(self.marks.close) {
            self.phase = Phase::Over;
            let rest = self.tail.get(at + self.marks.close.len()..);
            return rest.map(str::to_owned);
        }
        let keep = self.tail.len().saturating_sub(self.marks.close.len());
        let keep = (keep..self.tail.len()).find(|at| self.tail.is_char_boundary(*at));
        self.tail.drain(..keep.unwrap_or(0));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thoughts_end_at_the_token_with_the_closing_mark() {
        let marks = Marks::of_template("</think>").unwrap();
        let mut thinking = Thinking::new(marks, Phase::Possible);
        let pieces = [
            "\n",
            "<think>",
            "蜡烛蜡烛蜡烛",
            "</th",
            "ink>\nA",
            "<think>",
        ];
        let ends: Vec<_> = pieces.iter().map(|piece| thinking.see(piece)).collect();
        assert_eq!(ends.iter().flatten().collect::<Vec<_>>(), ["\nA"]);
        assert!(ends[4].is_some());
        assert_eq!(thinking.tokens, 4);
        assert_eq!(thinking.phase, Phase::Over);
        let mut none = Thinking::new(marks, Phase::Possible);
        assert_eq!(none.see("Well"), None);
        assert_eq!((none.phase, none.tokens), (Phase::Over, 0));
    }
}

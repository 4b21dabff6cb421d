//! Thoughts told from the answer in the text of one row, as it comes. Whatever the pieces, the outcome is the same, and
//! no part of a mark is ever given out.

use chandler_core::form::Reasoning;

use super::marks::{Marks, Phase};

/// The reader of one row.
#[derive(Debug, Clone)]
pub(super) struct ReasoningReader {
    marks: &'static Marks,
    place: Reasoning,
    state: State,
    /// Text that may be space at an end, or the beginning of a mark.
    held: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Possible,
    /// `fresh` until something was thought.
    Inside {
        fresh: bool,
    },
    /// Space in front of the answer goes.
    Before,
    Answer,
}

/// What a piece of text brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sorted {
    /// Thoughts, where they are separated.
    pub(super) thoughts: String,
    /// Thoughts that go into the text as they are.
    pub(super) inline: String,
    /// The answer.
    pub(super) answer: String,
}

impl ReasoningReader {
    pub(super) fn new(marks: &'static Marks, phase: Phase, place: Reasoning) -> Self {
        Self {
            marks,
            place,
            state: match phase {
                Phase::Possible => State::Possible,
                Phase::Inside => State::Inside { fresh: true },
                Phase::Over => State::Answer,
            },
            held: String::new(),
        }
    }

    pub(super) fn push(&mut self, text: &str) -> Sorted {
        let mut out = Sorted::default();
        let mut rest = text.chars();
        while let Some(character) = rest.next() {
            if self.state == State::Answer {
                out.answer.push(character);
                out.answer.push_str(rest.as_str());
                break;
            }
            self.held.push(character);
            self.step(&mut out);
        }
        if matches!(self.state, State::Inside { .. }) {
            let keep = self.kept();
            let mut ready = std::mem::take(&mut self.held);
            self.held = ready.split_off(ready.len() - keep);
            self.think(&ready, &mut out);
        }
        out
    }

    /// The row has ended: what is held belongs where it stands.
    pub(super) fn finish(&mut self) -> Sorted {
        let mut out = Sorted::default();
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::Possible | State::Answer => out.answer = held,
            State::Inside { .. } if self.place == Reasoning::Inline => out.inline = held,
            State::Inside { .. } => self.think(held.trim_end(), &mut out),
            State::Before => {}
        }
        out
    }

    /// Decides about the character that was held last.
    fn step(&mut self, out: &mut Sorted) {
        let inline = self.place == Reasoning::Inline;
        match self.state {
            State::Possible => {
                let begun = self.held.trim_start();
                if begun == self.marks.open {
                    if inline {
                        out.inline.push_str(&self.held);
                    }
                    self.held.clear();
                    self.state = State::Inside { fresh: true };
                } else if !self.marks.open.starts_with(begun) {
                    out.answer.push_str(&std::mem::take(&mut self.held));
                    self.state = State::Answer;
                }
            }
            State::Inside { fresh } => {
                if fresh && !inline && self.held.trim_start() == self.marks.open {
                    // The prompt had opened the thoughts, and the model does so again.
                    self.held.clear();
                } else if self.held.ends_with(self.marks.close) {
                    let mut last = std::mem::take(&mut self.held);
                    if inline {
                        out.inline.push_str(&last);
                        self.state = State::Answer;
                        return;
                    }
                    last.truncate(last.len() - self.marks.close.len());
                    self.think(last.trim_end(), out);
                    self.state = State::Before;
                }
            }
            State::Before => {
                if !self.held.trim_start().is_empty() {
                    out.answer.push_str(self.held.trim_start());
                    self.held.clear();
                    self.state = State::Answer;
                }
            }
            State::Answer => {}
        }
    }

    /// Gives thoughts out; space in front of the first goes.
    fn think(&mut self, text: &str, out: &mut Sorted) {
        let State::Inside { fresh } = self.state else {
            return;
        };
        match self.place {
            Reasoning::Inline => out.inline.push_str(text),
            Reasoning::Separated if fresh => out.thoughts.push_str(text.trim_start()),
            Reasoning::Separated => out.thoughts.push_str(text),
            Reasoning::Stripped => {}
        }
        if !text.trim_start().is_empty() {
            self.state = State::Inside { fresh: false };
        }
    }

    /// Bytes at the end of what is held that may be part of a mark, with the space before them: at an end it goes.
    fn kept(&self) -> usize {
        let held = self.held.as_str();
        if self.place == Reasoning::Inline {
            return beginning_of(held, self.marks.close);
        }
        let State::Inside { fresh } = self.state else {
            return 0;
        };
        if fresh && self.marks.open.starts_with(held.trim_start()) {
            return held.len();
        }
        let mark = beginning_of(held, self.marks.close);
        let before = held.get(..held.len() - mark).unwrap_or(held);
        held.len() - before.trim_end().len()
    }
}

/// Bytes at the end of a text that begin a mark.
pub(super) fn beginning_of(text: &str, mark: &str) -> usize {
    let most = mark.len().saturating_sub(1).min(text.len());
    (1..=most)
        .rev()
        .find(|n| mark.get(..*n).is_some_and(|start| text.ends_with(start)))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks() -> &'static Marks {
        Marks::of_template("</think>").unwrap()
    }

    /// The outcome, which must not depend on how the text is cut.
    fn read(text: &str, phase: Phase, place: Reasoning) -> (String, String) {
        let run = |pieces: &[&str]| {
            let mut reader = ReasoningReader::new(marks(), phase, place);
            let (mut thoughts, mut answer) = (String::new(), String::new());
            let mut take = |sorted: Sorted| {
                thoughts.push_str(&sorted.thoughts);
                answer.push_str(&sorted.inline);
                answer.push_str(&sorted.answer);
            };
            for piece in pieces {
                take(reader.push(piece));
            }
            take(reader.finish());
            (thoughts, answer)
        };
        let whole = run(&[text]);
        for cut in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
            assert_eq!(run(&[&text[..cut], &text[cut..]]), whole, "cut at {cut}");
        }
        let characters: Vec<String> = text.chars().map(String::from).collect();
        let characters: Vec<&str> = characters.iter().map(String::as_str).collect();
        assert_eq!(run(&characters), whole, "character by character");
        whole
    }

    #[test]
    fn thoughts_are_told_from_the_answer_wherever_the_text_is_cut() {
        let text = "\n<think>\n\nHmm, a < b </thin and\n done.\n\n</think>\n\nFour <think>.\n";
        let thoughts = "Hmm, a < b </thin and\n done.";
        let answer = "Four <think>.\n";
        let got = read(text, Phase::Possible, Reasoning::Separated);
        assert_eq!(got, (thoughts.into(), answer.into()));
        let got = read(text, Phase::Possible, Reasoning::Stripped);
        assert_eq!(got, (String::new(), answer.into()));
        let got = read(text, Phase::Possible, Reasoning::Inline);
        assert_eq!(got, (String::new(), text.into()));
    }

    #[test]
    fn thoughts_that_the_prompt_opened_end_at_the_closing_mark() {
        let got = read("Hmm.\n</think>\nFour", Phase::Inside, Reasoning::Separated);
        assert_eq!(got, ("Hmm.".into(), "Four".into()));
        let again = "<think>\nHmm</think>4";
        let got = read(again, Phase::Inside, Reasoning::Separated);
        assert_eq!(got, ("Hmm".into(), "4".into()));
        let got = read("Hmm, so </th", Phase::Inside, Reasoning::Separated);
        assert_eq!(got, ("Hmm, so </th".into(), String::new()));
    }

    #[test]
    fn text_without_thoughts_is_untouched() {
        for text in [
            "  plain ",
            "<thin",
            "<",
            "a <think> b </think> c",
            "",
            " \n",
        ] {
            let got = read(text, Phase::Possible, Reasoning::Separated);
            assert_eq!(got, (String::new(), text.into()));
        }
        let got = read("</think> x", Phase::Over, Reasoning::Separated);
        assert_eq!(got, (String::new(), "</think> x".into()));
        let got = read(
            "<think>\n\n</think>\n\nx",
            Phase::Possible,
            Reasoning::Separated,
        );
        assert_eq!(got, (String::new(), "x".into()));
    }
}

//! How much each part of a prompt counts, in the syntax that AUTOMATIC1111's web UI made common. Apart from `chunks`, which counts
//! tokens, and from `encode`, which multiplies by the weights.

use chandler_core::RequestError;

/// A round bracket multiplies by this, a square one divides by it.
const STEP: f64 = 1.1;
/// Weights outside ±this are a slip of the keyboard; 2 is much.
const MOST_WEIGHT: f64 = 100.0;
/// 1.1 to this power is past the largest weight.
const MOST_DEPTH: usize = 64;
/// Bytes of a prompt: some ten times what fits in the most chunks there may be.
const MOST_BYTES: usize = 1 << 16;
const BREAK: &str = "BREAK";

/// Whether brackets mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Syntax {
    /// Brackets weigh and BREAK begins a chunk.
    #[default]
    Weighted,
    /// The text is taken as it is written, as diffusers does: brackets and BREAK are text.
    Plain,
}

/// A part of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// A text whose tokens all weigh the same.
    Text {
        /// What is to be encoded.
        text: String,
        /// 1 for a text without brackets.
        weight: f64,
    },
    /// What follows begins a chunk.
    Break,
}

impl Piece {
    /// In small letters, without space around it: what PixArt's pipelines make of a text.
    pub fn lower(&mut self) {
        if let Self::Text { text, .. } = self {
            *text = text.trim().to_lowercase();
        }
    }
}

/// Cuts a prompt where its weights change.
///
/// `(word)` weighs 1.1 times as much, `((word))` 1.21 times, `(word:1.3)` 1.3 times; `[word]` weighs 1/1.1. A bracket that is not
/// closed reaches to the end; one that was not opened is text. `\(`, `\)`, `\[`, `\]` and `\\` are the characters themselves; any
/// other backslash is text. BREAK, in capitals and as a word, begins a chunk, inside brackets too.
///
/// A text without brackets, such backslashes and BREAK is one piece of weight 1, as it was written; [`Syntax::Plain`] makes that
/// of any text. `field` is what errors name: `prompt`, `negative_prompt`.
///
/// # Errors
/// A text of more than 64 KiB, brackets more than 64 deep, a weight outside ±100.
pub fn parse(text: &str, syntax: Syntax, field: &str) -> Result<Vec<Piece>, RequestError> {
    if text.len() > MOST_BYTES {
        let message = format!("{} bytes; at most {MOST_BYTES} are read", text.len());
        return Err(RequestError::field(field, message));
    }
    if syntax == Syntax::Plain {
        return Ok(vec![Piece::Text {
            text: text.to_owned(),
            weight: 1.0,
        }]);
    }
    let mut parser = Parser::default();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let (taken, after) = parser.take(character, rest);
        if parser.open.len() > MOST_DEPTH {
            let message = format!(
                "brackets are more than {MOST_DEPTH} deep; write a weight, such as (word:1.5)"
            );
            return Err(RequestError::field(field, message));
        }
        debug_assert!(taken > 0);
        rest = after;
    }
    let pieces = parser.finish();
    for piece in &pieces {
        if let Piece::Text { weight, .. } = piece
            && (weight.is_nan() || weight.abs() > MOST_WEIGHT)
        {
            let message = format!(
                "a part weighs {weight}; weights from -{MOST_WEIGHT} to {MOST_WEIGHT} are taken"
            );
            return Err(RequestError::field(field, message));
        }
    }
    Ok(pieces)
}

/// The text of a prompt without its syntax, for an encoder that knows no weights; a break is a blank.
pub fn text_of(pieces: &[Piece]) -> String {
    let each = pieces.iter().map(|piece| match piece {
        Piece::Text { text, .. } => text.as_str(),
        Piece::Break => " ",
    });
    each.collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Round,
    Square,
}

#[derive(Default)]
struct Parser {
    pieces: Vec<Piece>,
    /// What has been read since the last bracket.
    text: String,
    /// Brackets that are open, and how many pieces there were before each.
    open: Vec<(Bracket, usize)>,
}

impl Parser {
    /// Takes what `rest` begins with: how many bytes, and what is left.
    fn take<'a>(&mut self, character: char, rest: &'a str) -> (usize, &'a str) {
        let literal = |parser: &mut Self| {
            parser.text.push(character);
            character.len_utf8()
        };
        let taken = match character {
            '\\' => match rest.get(1..).and_then(|after| after.chars().next()) {
                Some(escaped @ ('(' | ')' | '[' | ']' | '\\')) => {
                    self.text.push(escaped);
                    2
                }
                _ => literal(self),
            },
            '(' => self.open(Bracket::Round),
            '[' => self.open(Bracket::Square),
            ')' if self.close(Bracket::Round, STEP) => 1,
            ']' if self.close(Bracket::Square, 1.0 / STEP) => 1,
            ':' => match written_weight(rest) {
                Some((weight, taken)) if self.close(Bracket::Round, weight) => taken,
                _ => literal(self),
            },
            _ => literal(self),
        };
        (taken, rest.get(taken..).unwrap_or_default())
    }

    fn open(&mut self, bracket: Bracket) -> usize {
        self.flush();
        self.open.push((bracket, self.pieces.len()));
        1
    }

    /// Closes the innermost bracket of this kind; false when none is open. The two kinds do not have to nest, as in the web UI.
    fn close(&mut self, bracket: Bracket, factor: f64) -> bool {
        let Some(at) = self.open.iter().rposition(|(open, _)| *open == bracket) else {
            return false;
        };
        self.flush();
        let (_, from) = self.open.remove(at);
        self.multiply(from, factor);
        true
    }

    fn multiply(&mut self, from: usize, factor: f64) {
        for piece in self.pieces.iter_mut().skip(from) {
            if let Piece::Text { weight, .. } = piece {
                *weight *= factor;
            }
        }
    }

    /// Makes pieces of the text that was read.
    fn flush(&mut self) {
        let text = std::mem::take(&mut self.text);
        let mut rest = text.as_str();
        while let Some((before, after)) = split_at_break(rest) {
            self.push(before);
            self.pieces.push(Piece::Break);
            rest = after;
        }
        self.push(rest);
    }

    fn push(&mut self, text: &str) {
        if !text.is_empty() {
            self.pieces.push(Piece::Text {
                text: text.to_owned(),
                weight: 1.0,
            });
        }
    }

    fn finish(mut self) -> Vec<Piece> {
        self.flush();
        for (bracket, from) in std::mem::take(&mut self.open) {
            let factor = match bracket {
                Bracket::Round => STEP,
                Bracket::Square => 1.0 / STEP,
            };
            self.multiply(from, factor);
        }
        let mut joined: Vec<Piece> = Vec::with_capacity(self.pieces.len());
        for piece in self.pieces {
            match (joined.last_mut(), piece) {
                // Pieces of one weight are one text, so that a bracket that weighs nothing cuts no word.
                (
                    Some(Piece::Text { text, weight }),
                    Piece::Text {
                        text: next,
                        weight: same,
                    },
                ) if *weight == same => text.push_str(&next),
                (_, piece) => joined.push(piece),
            }
        }
        joined
    }
}

/// The weight of `:1.3)`, blanks allowed around the number, and how many bytes that is.
fn written_weight(rest: &str) -> Option<(f64, usize)> {
    let (number, _) = rest.strip_prefix(':')?.split_once(')')?;
    let digits = number.trim();
    let plain = digits.trim_start_matches(['+', '-']);
    let numeric = !plain.is_empty() && plain.chars().all(|c| c.is_ascii_digit() || c == '.');
    let weight = digits.parse().ok().filter(|_| numeric)?;
    Some((weight, number.len() + 2))
}

/// What is before the first BREAK and after it, without the blanks around it.
fn split_at_break(text: &str) -> Option<(&str, &str)> {
    let of_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(BREAK).find_map(|(at, _)| {
        let (before, from) = text.split_at_checked(at)?;
        let after = from.get(BREAK.len()..)?;
        let alone = !before.ends_with(of_word) && !after.starts_with(of_word);
        alone.then(|| (before.trim_end(), after.trim_start()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Vec<(String, f64)> {
        let pieces = parse(text, Syntax::Weighted, "prompt").unwrap();
        let each = pieces.into_iter().map(|piece| match piece {
            Piece::Text { text, weight } => (text, (weight * 1e6).round() / 1e6),
            Piece::Break => ("BREAK".to_owned(), -1.0),
        });
        each.collect()
    }

    fn pieces(expected: &[(&str, f64)]) -> Vec<(String, f64)> {
        let each = expected.iter();
        each.map(|(text, weight)| ((*text).to_owned(), *weight))
            .collect()
    }

    /// The first six are what the web UI's `parse_prompt_attention` is documented with.
    #[test]
    fn weights_are_the_web_uis() {
        let cases: [(&str, &[(&str, f64)]); 9] = [
            ("normal text", &[("normal text", 1.0)]),
            (
                "an (important) word",
                &[("an ", 1.0), ("important", 1.1), (" word", 1.0)],
            ),
            ("(unbalanced", &[("unbalanced", 1.1)]),
            (r"\(literal\]", &[("(literal]", 1.0)]),
            ("(unnecessary)(parens)", &[("unnecessaryparens", 1.1)]),
            (
                "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
                &[
                    ("a ", 1.0),
                    ("house", 1.573),
                    (" ", 1.1),
                    ("on", 1.0),
                    (" a ", 1.1),
                    ("hill", 0.55),
                    (", sun, ", 1.1),
                    ("sky", 1.4641),
                    (".", 1.1),
                ],
            ),
            ("a) b] c:1.2)", &[("a) b] c:1.2)", 1.0)]),
            ("[a:-1 ) b", &[("a:-1 ) b", 0.909_091)]),
            (
                "one BREAK two BREAKING (threeBREAK: 2 )BREAK",
                &[
                    ("one", 1.0),
                    ("BREAK", -1.0),
                    ("two BREAKING ", 1.0),
                    ("threeBREAK", 2.0),
                    ("BREAK", -1.0),
                ],
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(said(text), pieces(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_syntax_stays_as_it_was_written() {
        for text in [
            "a: b, c:1.2",
            r"a \ b \n \",
            "3:30) and :)",
            "é  日本 <|endoftext|>",
            " x ",
        ] {
            assert_eq!(said(text), pieces(&[(text, 1.0)]));
        }
        assert_eq!(said(""), vec![]);
        assert_eq!(said("(wow:...)"), pieces(&[("wow:...", 1.1)]));
        let pieces = parse("a (b:1.2) BREAK [c]d", Syntax::Weighted, "prompt").unwrap();
        assert_eq!(text_of(&pieces), "a b cd");
        let plain = parse("(a) BREAK [b:2]", Syntax::Plain, "prompt").unwrap();
        let whole = Piece::Text {
            text: "(a) BREAK [b:2]".to_owned(),
            weight: 1.0,
        };
        assert_eq!(plain, [whole]);
    }

    #[test]
    fn what_is_too_much_names_the_field() {
        let error = |text: &str| parse(text, Syntax::Weighted, "negative_prompt").unwrap_err();
        for text in [
            "(a:100.5)".to_owned(),
            "((a:90):2)".to_owned(),
            "(a:99999999999999999999999999)".to_owned(),
            "(".repeat(65),
            "a".repeat(65_537),
        ] {
            assert_eq!(error(&text).field.as_deref(), Some("negative_prompt"));
        }
        assert_eq!(said("(a:-2.5)"), pieces(&[("a", -2.5)]));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in r"[a-cBREAK ()\[\]:.\\0-9é-]{0,40}") {
            if let Ok(pieces) = parse(&text, Syntax::Weighted, "prompt") {
                for piece in pieces {
                    if let Piece::Text { text, weight } = piece {
                        proptest::prop_assert!(!text.is_empty() && weight.is_finite());
                    }
                }
            }
        }
    }
}

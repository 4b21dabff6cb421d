//! A sentencepiece model file, `spiece.model`, as a tokenizer: what T5's checkpoints had before tokenizer.json, and PixArt's still have.
//! The format is sentencepiece's `sentencepiece_model.proto`; what is made of it is what `transformers` makes (models/t5/tokenization_t5.py).
//! Apart from `t5_tokenizer`, which has a tokenizer then. The few fields that are wanted are read here, since a crate for protocol buffers
//! brings a compiler with it.

use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::Precompiled;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::{AddedToken, Tokenizer};

/// Pieces past these are a damaged or hostile file; the largest in use has some 256,000.
const MOST_PIECES: usize = 1 << 21;
/// Sentinels of T5's pre-training, which every vocabulary of its ends with: `extra_ids`.
const SENTINELS: usize = 100;
/// `ModelType.UNIGRAM`, which is also what is not written.
const UNIGRAM: u64 = 1;
/// `SentencePiece.Type`: control pieces and the one for what is unknown.
const SPECIAL: [u64; 2] = [3, 2];
const SPACE: char = '▁';

/// What of the file is wanted.
#[derive(Debug, PartialEq)]
struct Model<'a> {
    pieces: Vec<Piece<'a>>,
    kind: u64,
    unknown: usize,
    /// How characters are replaced before anything is looked up.
    characters: &'a [u8],
}

#[derive(Debug, PartialEq)]
struct Piece<'a> {
    text: &'a str,
    score: f32,
    kind: u64,
}

/// The tokenizer of a file's bytes, with nothing around a text; or what is wrong with them.
pub(super) fn tokenizer(bytes: &[u8]) -> Result<Tokenizer, String> {
    let model = Model::read(bytes)?;
    if model.kind != UNIGRAM {
        return Err(format!(
            "its model_type is {}; 1 (unigram) is supported",
            model.kind
        ));
    }
    let special = model.pieces.iter().filter(|p| SPECIAL.contains(&p.kind));
    let mut added: Vec<String> = special.map(|piece| piece.text.to_owned()).collect();
    let mut vocabulary: Vec<(String, f64)> = Vec::with_capacity(model.pieces.len() + SENTINELS);
    for piece in &model.pieces {
        vocabulary.push((piece.text.to_owned(), f64::from(piece.score)));
    }
    for number in (0..SENTINELS).rev() {
        let sentinel = format!("<extra_id_{number}>");
        vocabulary.push((sentinel.clone(), 0.0));
        added.push(sentinel);
    }
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let unigram = Unigram::from(vocabulary, Some(model.unknown), false);
    let mut tokenizer = Tokenizer::new(unigram.map_err(|error| said(&error))?);
    if !model.characters.is_empty() {
        // The crate makes room for the table before it looks whether it is there, and looks at its first unit whether there is one.
        let table = model.characters.split_first_chunk();
        let fits = |(size, rest): (&[u8; 4], &[u8])| {
            let size = u32::from_le_bytes(*size) as usize;
            (4..=rest.len()).contains(&size) && size.is_multiple_of(4)
        };
        if !table.is_some_and(fits) {
            return Err("its precompiled_charsmap has no whole table".to_owned());
        }
        let replaced = Precompiled::from(model.characters).map_err(|error| said(&error))?;
        let set = tokenizer.with_normalizer(Some(replaced));
        set.map_err(|error| said(&error))?;
    }
    let spaces = Metaspace::new(SPACE, PrependScheme::Always, true);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
        PreTokenizerWrapper::WhitespaceSplit(WhitespaceSplit),
        PreTokenizerWrapper::Metaspace(spaces),
    ])));
    let added = added.into_iter().map(|text| AddedToken::from(text, true));
    let added = tokenizer.add_special_tokens(added);
    added.map_err(|error| said(&error))?;
    Ok(tokenizer)
}

impl<'a> Model<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let mut model = Self {
            pieces: Vec::new(),
            kind: UNIGRAM,
            unknown: 0,
            characters: &[],
        };
        for field in Fields(bytes) {
            match field? {
                (1, Value::Bytes(piece)) => model.pieces.push(Piece::read(piece)?),
                (2, Value::Bytes(trainer)) => model.trained(trainer)?,
                (3, Value::Bytes(normalizer)) => model.normalized(normalizer)?,
                _ => {}
            }
            if model.pieces.len() > MOST_PIECES {
                return Err(format!("it has more than {MOST_PIECES} pieces"));
            }
        }
        if model.unknown >= model.pieces.len() {
            return Err(format!(
                "unk_id is {}, of {} pieces",
                model.unknown,
                model.pieces.len()
            ));
        }
        Ok(model)
    }

    /// `TrainerSpec`.
    fn trained(&mut self, bytes: &[u8]) -> Result<(), String> {
        for field in Fields(bytes) {
            match field? {
                (3, Value::Number(kind)) => self.kind = kind,
                (40, Value::Number(id)) => {
                    self.unknown = usize::try_from(id).map_err(|error| error.to_string())?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// `NormalizerSpec`.
    fn normalized(&mut self, bytes: &'a [u8]) -> Result<(), String> {
        for field in Fields(bytes) {
            if let (2, Value::Bytes(characters)) = field? {
                self.characters = characters;
            }
        }
        Ok(())
    }
}

impl<'a> Piece<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let (mut text, mut score, mut kind) = (None, 0.0, 1);
        for field in Fields(bytes) {
            match field? {
                (1, Value::Bytes(bytes)) => {
                    text = Some(std::str::from_utf8(bytes).map_err(|error| error.to_string())?);
                }
                (2, Value::Four(bytes)) => score = f32::from_le_bytes(bytes),
                (3, Value::Number(number)) => kind = number,
                _ => {}
            }
        }
        match text {
            Some(text) if score.is_finite() => Ok(Self { text, score, kind }),
            Some(text) => Err(format!("the score of {text:?} is {score}")),
            None => Err("a piece has no text".to_owned()),
        }
    }
}

/// A message's fields, in the wire format of protocol buffers.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Four([u8; 4]),
    /// Eight bytes, which nothing that is wanted has.
    Eight,
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Value::Number(self.number()?),
            1 => {
                self.take(8)?;
                Value::Eight
            }
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Four(self.take(4)?.try_into().ok()?),
            _ => return None,
        };
        Some((tag >> 3, value))
    }

    /// Seven bits a byte, the least first.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take(1)? else { return None };
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            // Nothing after it can be found.
            self.0 = &[];
        }
        Some(field.ok_or_else(|| "it is no sentencepiece model, or is cut off".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A field of bytes.
    fn nested(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, bytes.len() as u8][..], bytes].concat()
    }

    fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
        let score = [&[2 << 3 | 5][..], &score.to_le_bytes()].concat();
        let piece = [nested(1, text.as_bytes()), score, vec![3 << 3, kind]].concat();
        nested(1, &piece)
    }

    fn error(bytes: &[u8]) -> String {
        tokenizer(bytes).unwrap_err()
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let whole = [piece("<unk>", 0.0, 2), piece("a", -1.0, 1)].concat();
        let read = tokenizer(&whole).unwrap();
        assert_eq!(read.token_to_id("a"), Some(1));
        assert_eq!(read.token_to_id("<extra_id_99>"), Some(2));
        assert!(error(&whole[..whole.len() - 1]).contains("cut off"));
        assert!(error(b"").contains("unk_id is 0, of 0 pieces"));
        assert!(error(b"{\"version\"").contains("no sentencepiece model"));
        let bpe = [whole.clone(), nested(2, &[3 << 3, 2])].concat();
        assert!(error(&bpe).contains("its model_type is 2"));
        let nobody = [whole.clone(), nested(2, &[0b1100_0000, 0b10, 9])].concat();
        assert!(error(&nobody).contains("unk_id is 9, of 2 pieces"));
        let odd = [whole.clone(), piece("b", f32::NAN, 1)].concat();
        assert!(error(&odd).contains("score of \"b\""));
        for characters in [&[9, 0, 0, 0, 1][..], &[0, 0, 0, 0, 65, 0], &[4], &[255; 9]] {
            let bytes = [whole.clone(), nested(3, &nested(2, characters))].concat();
            assert!(tokenizer(&bytes).is_err(), "{characters:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_tokenizer_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = tokenizer(&bytes);
        }
    }
}

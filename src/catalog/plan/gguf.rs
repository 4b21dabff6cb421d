//! The head of a GGUF file: the few of its numbers that a plan needs, and its tensors. chandler-nn reads the same head to compute
//! with the file; here there may be only its first megabytes, and too few of them is an answer of its own.

use std::collections::BTreeMap;

use super::PlanError;
use super::tensor::{Stored, Tensor};

/// GGML's types by their numbers in a file: name, numbers in a block, its bytes. After ggml.h and ggml-common.h.
const TYPES: [(u32, Stored, u64, u64); 19] = [
    (0, Stored::F32, 1, 4),
    (1, Stored::F16, 1, 2),
    (2, Stored::Blocks("Q4_0"), 32, 18),
    (3, Stored::Blocks("Q4_1"), 32, 20),
    (6, Stored::Blocks("Q5_0"), 32, 22),
    (7, Stored::Blocks("Q5_1"), 32, 24),
    (8, Stored::Blocks("Q8_0"), 32, 34),
    (9, Stored::Blocks("Q8_1"), 32, 36),
    (10, Stored::Blocks("Q2_K"), 256, 84),
    (11, Stored::Blocks("Q3_K"), 256, 110),
    (12, Stored::Blocks("Q4_K"), 256, 144),
    (13, Stored::Blocks("Q5_K"), 256, 176),
    (14, Stored::Blocks("Q6_K"), 256, 210),
    (15, Stored::Blocks("Q8_K"), 256, 292),
    (24, Stored::Other, 1, 1),
    (26, Stored::Other, 1, 4),
    (27, Stored::Other, 1, 8),
    (28, Stored::Other, 1, 8),
    (30, Stored::Bf16, 1, 2),
];
/// Arrays may hold arrays; nobody writes more than one.
const DEEPEST: u32 = 4;

/// What a head says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Head {
    /// Its tensors.
    pub tensors: Vec<Tensor>,
    /// Whole numbers, and the lengths of lists.
    pub numbers: BTreeMap<String, u64>,
    /// Texts.
    pub texts: BTreeMap<String, String>,
}

/// Why there is no head.
#[derive(Debug)]
pub enum Trouble {
    /// It goes on behind what was read.
    TooShort,
    /// It is no such file.
    Wrong(PlanError),
}

/// Reads the head of a file from its first bytes.
///
/// # Errors
/// [`Trouble`].
pub fn head(file: &str, start: &[u8]) -> Result<Head, Trouble> {
    let mut reader = Reader { file, rest: start };
    if reader.take(4)? != b"GGUF" {
        return Err(reader.wrong("it does not begin as a GGUF file does"));
    }
    let version = reader.u32()?;
    if !matches!(version, 2 | 3) {
        return Err(reader.wrong(format!(
            "version {version} of GGUF is not known; 2 and 3 are"
        )));
    }
    let (tensors, fields) = (reader.u64()?, reader.u64()?);
    let mut head = Head::default();
    for _ in 0..fields {
        let key = reader.text()?;
        let kind = reader.u32()?;
        match reader.value(kind, DEEPEST)? {
            Value::Number(number) => {
                head.numbers.insert(key, number);
            }
            Value::Text(text) => {
                head.texts.insert(key, text);
            }
            Value::Other => {}
        }
    }
    for _ in 0..tensors {
        let tensor = reader.tensor()?;
        head.tensors.push(tensor);
    }
    Ok(head)
}

enum Value {
    /// A whole number, or how long a list is.
    Number(u64),
    Text(String),
    Other,
}

struct Reader<'a> {
    file: &'a str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn wrong(&self, reason: impl Into<String>) -> Trouble {
        Trouble::Wrong(PlanError::malformed(self.file, reason))
    }

    fn take(&mut self, bytes: u64) -> Result<&'a [u8], Trouble> {
        let bytes = usize::try_from(bytes).map_err(|_| Trouble::TooShort)?;
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(Trouble::TooShort)?;
        self.rest = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, Trouble> {
        let bytes = self.take(4)?.first_chunk::<4>();
        bytes
            .map(|bytes| u32::from_le_bytes(*bytes))
            .ok_or(Trouble::TooShort)
    }

    fn u64(&mut self) -> Result<u64, Trouble> {
        let bytes = self.take(8)?.first_chunk::<8>();
        bytes
            .map(|bytes| u64::from_le_bytes(*bytes))
            .ok_or(Trouble::TooShort)
    }

    fn text(&mut self) -> Result<String, Trouble> {
        let length = self.u64()?;
        let bytes = self.take(length)?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// A value of GGUF's kinds: 0 to 7 and 10 to 12 are numbers, 8 is a text, 9 a list.
    fn value(&mut self, kind: u32, deep: u32) -> Result<Value, Trouble> {
        let width = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            8 => return self.text().map(Value::Text),
            9 => return self.list(deep),
            other => return Err(self.wrong(format!("a value of the unknown kind {other}"))),
        };
        let bytes = self.take(width)?;
        let whole = bytes
            .iter()
            .rev()
            .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        // Not 6 and 12, which are floats, and 7, which is true or false.
        Ok(match kind {
            0..=5 | 10 | 11 => Value::Number(whole),
            _ => Value::Other,
        })
    }

    fn list(&mut self, deep: u32) -> Result<Value, Trouble> {
        let (kind, length) = (self.u32()?, self.u64()?);
        let Some(deep) = deep.checked_sub(1) else {
            return Err(self.wrong("lists within lists without an end"));
        };
        for _ in 0..length {
            self.value(kind, deep)?;
        }
        Ok(Value::Number(length))
    }

    fn tensor(&mut self) -> Result<Tensor, Trouble> {
        let name = self.text()?;
        let dimensions = self.u32()?;
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(self.u64()?);
        }
        // GGML counts the columns first.
        shape.reverse();
        let (number, _offset) = (self.u32()?, self.u64()?);
        let Some((_, stored, block, size)) = TYPES.iter().find(|(known, ..)| *known == number)
        else {
            return Err(self.wrong(format!(
                "tensor {name:?} is of GGML's type {number}, which is not known"
            )));
        };
        let elements = shape
            .iter()
            .try_fold(1_u64, |all, side| all.checked_mul(*side));
        let bytes = elements.and_then(|elements| (elements / block).checked_mul(*size));
        let Some(bytes) = bytes else {
            return Err(self.wrong(format!(
                "tensor {name:?} has the impossible shape {shape:?}"
            )));
        };
        Ok(Tensor {
            name,
            shape,
            stored: *stored,
            bytes,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A small file: numbers and texts, a list of tokens, one tensor of Q4_K.
    pub fn small() -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        let text = |out: &mut Vec<u8>, text: &str| {
            out.extend((text.len() as u64).to_le_bytes());
            out.extend(text.as_bytes());
        };
        out.extend(3_u32.to_le_bytes());
        out.extend(1_u64.to_le_bytes());
        out.extend(3_u64.to_le_bytes());
        text(&mut out, "general.architecture");
        out.extend(8_u32.to_le_bytes());
        text(&mut out, "llama");
        text(&mut out, "llama.block_count");
        out.extend(4_u32.to_le_bytes());
        out.extend(2_u32.to_le_bytes());
        text(&mut out, "tokenizer.ggml.tokens");
        out.extend(9_u32.to_le_bytes());
        out.extend(8_u32.to_le_bytes());
        out.extend(3_u64.to_le_bytes());
        for token in ["a", "bb", "ccc"] {
            text(&mut out, token);
        }
        text(&mut out, "blk.0.attn_q.weight");
        out.extend(2_u32.to_le_bytes());
        out.extend(512_u64.to_le_bytes());
        out.extend(4_u64.to_le_bytes());
        out.extend(12_u32.to_le_bytes());
        out.extend(0_u64.to_le_bytes());
        out
    }

    #[test]
    fn numbers_texts_and_tensors_are_read() {
        let head = head("x", &small()).unwrap();
        assert_eq!(head.numbers["llama.block_count"], 2);
        assert_eq!(head.numbers["tokenizer.ggml.tokens"], 3);
        assert_eq!(head.texts["general.architecture"], "llama");
        let tensor = &head.tensors[0];
        assert_eq!(
            (tensor.shape.as_slice(), tensor.bytes),
            (&[4, 512][..], 8 * 144)
        );
    }

    #[test]
    fn too_little_is_told_from_wrong() {
        let whole = small();
        for length in 0..whole.len() {
            assert!(
                matches!(head("x", &whole[..length]), Err(Trouble::TooShort)),
                "{length}"
            );
        }
        assert!(matches!(head("x", b"GGML\0\0\0\0"), Err(Trouble::Wrong(_))));
        let mut other = small();
        let at = other.len() - 12;
        other[at] = 99;
        let Err(Trouble::Wrong(error)) = head("x", &other) else {
            panic!("it was read");
        };
        assert!(error.to_string().contains("GGML's type 99"), "{error}");
    }
}

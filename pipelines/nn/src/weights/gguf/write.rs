//! Writing a GGUF file, tensor by tensor, so that a model larger than memory can be written. Apart from reading, because only
//! the cache of quantised models and tests write: what is written here, [`Header`](super::Header) reads as any other file.

use std::collections::VecDeque;
use std::io::{self, Write};

use super::super::StoredType;
use super::header::{ALIGNMENT, MAGIC};
use super::types::GgmlType;
use super::value::Value;

/// What is written of a tensor before its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// Its name.
    pub name: String,
    /// How its numbers lie.
    pub stored: StoredType,
    /// Its row-major shape.
    pub shape: Vec<usize>,
}

/// A GGUF file that is being written: the header first, then every tensor's bytes in the order in which they were announced.
pub struct Writer<W: Write> {
    out: W,
    /// Bytes of the tensors that are still to come.
    waiting: VecDeque<usize>,
}

impl<W: Write> Writer<W> {
    /// Writes the header of version 3.
    ///
    /// # Errors
    /// What the system says, and [`io::ErrorKind::InvalidInput`] for a tensor that the format has no type or size for.
    pub fn new(mut out: W, metadata: &[(&str, Value)], tensors: &[Announced]) -> io::Result<Self> {
        let mut header = MAGIC.to_vec();
        header.extend(3u32.to_le_bytes());
        header.extend((tensors.len() as u64).to_le_bytes());
        header.extend((metadata.len() as u64).to_le_bytes());
        for (key, value) in metadata {
            text(&mut header, key);
            put(&mut header, value);
        }
        let mut waiting = VecDeque::new();
        let mut offset = 0;
        for tensor in tensors {
            let kind = GgmlType::of(tensor.stored);
            let bytes = tensor.stored.byte_len(&tensor.shape);
            let (Some(kind), Some(bytes)) = (kind, bytes) else {
                return Err(invalid(format!(
                    "{} of {} {:?} cannot be written",
                    tensor.name,
                    tensor.stored.name(),
                    tensor.shape
                )));
            };
            text(&mut header, &tensor.name);
            // A scalar is a row of one.
            let dimensions: Vec<usize> = match tensor.shape.as_slice() {
                [] => vec![1],
                shape => shape.iter().rev().copied().collect(),
            };
            header.extend((dimensions.len() as u32).to_le_bytes());
            for dimension in dimensions {
                header.extend((dimension as u64).to_le_bytes());
            }
            header.extend(kind.number.to_le_bytes());
            header.extend((offset as u64).to_le_bytes());
            waiting.push_back(bytes);
            offset += bytes.next_multiple_of(ALIGNMENT);
        }
        header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
        out.write_all(&header)?;
        Ok(Self { out, waiting })
    }

    /// Writes the next tensor's bytes.
    ///
    /// # Errors
    /// What the system says, and [`io::ErrorKind::InvalidInput`] when they are not as many as were announced.
    pub fn tensor(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.waiting.pop_front() {
            Some(announced) if announced == bytes.len() => {}
            announced => {
                return Err(invalid(format!(
                    "{} bytes of a tensor where {announced:?} were announced",
                    bytes.len()
                )));
            }
        }
        self.out.write_all(bytes)?;
        let padding = bytes.len().next_multiple_of(ALIGNMENT) - bytes.len();
        self.out.write_all(&[0; ALIGNMENT][..padding])
    }

    /// Gives the output back once every tensor is written.
    ///
    /// # Errors
    /// What the system says, and [`io::ErrorKind::InvalidInput`] when tensors are missing.
    pub fn finish(mut self) -> io::Result<W> {
        if !self.waiting.is_empty() {
            return Err(invalid(format!(
                "{} tensors were not written",
                self.waiting.len()
            )));
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// A value behind its type. Whole numbers are written as u64 or i64, numbers as f32.
fn put(out: &mut Vec<u8>, value: &Value) {
    let mut kind = |number: u32| out.extend(number.to_le_bytes());
    match value {
        Value::Integer(number) => match u64::try_from(*number) {
            Ok(number) => {
                kind(10);
                out.extend(number.to_le_bytes());
            }
            Err(_) => {
                kind(11);
                out.extend((*number as i64).to_le_bytes());
            }
        },
        Value::Float(number) => {
            kind(6);
            out.extend((*number as f32).to_le_bytes());
        }
        Value::Bool(flag) => {
            kind(7);
            out.push(u8::from(*flag));
        }
        Value::Text(value) => {
            kind(8);
            text(out, value);
        }
        Value::Integers(numbers) => list(out, 11, numbers.len(), |out| {
            for number in numbers {
                out.extend(number.to_le_bytes());
            }
        }),
        Value::Floats(numbers) => list(out, 6, numbers.len(), |out| {
            for number in numbers {
                out.extend(number.to_le_bytes());
            }
        }),
        Value::Bools(flags) => list(out, 7, flags.len(), |out| {
            out.extend(flags.iter().map(|flag| u8::from(*flag)));
        }),
        Value::Texts(texts) => list(out, 8, texts.len(), |out| {
            for value in texts {
                text(out, value);
            }
        }),
    }
}

fn list(out: &mut Vec<u8>, kind: u32, len: usize, elements: impl FnOnce(&mut Vec<u8>)) {
    out.extend(9u32.to_le_bytes());
    out.extend(kind.to_le_bytes());
    out.extend((len as u64).to_le_bytes());
    elements(out);
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

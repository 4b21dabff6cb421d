//! A line of a listing: a tensor's name and what it is made of.

use std::io;

use crate::numbers::{DType, numbers, stream};
use crate::safetensors::Stored;

/// The names of front-coded lines, each with the fields behind it.
pub fn names<'a>(
    lines: impl IntoIterator<Item = &'a str>,
) -> io::Result<Vec<(String, Vec<&'a str>)>> {
    let mut found: Vec<(String, Vec<&str>)> = Vec::new();
    for line in lines {
        let mut fields = line.split('|');
        let (same, rest) = (number(fields.next(), line)?, field(fields.next(), line)?);
        let before = found.last().map_or("", |(name, _)| name.as_str());
        let same = before.get(..same).ok_or_else(|| wrong(line))?;
        found.push((format!("{same}{rest}"), fields.collect()));
    }
    Ok(found)
}

/// The tensor that the fields behind a name describe.
pub(crate) fn tensor(seed: u64, name: &str, fields: &[&str]) -> io::Result<Stored> {
    let bad = || wrong(&format!("{name}: {}", fields.join("|")));
    match *fields {
        ["bytes", bytes] => Ok(raw(unhex(bytes).ok_or_else(bad)?)),
        ["blocks", shape, puts] => {
            let &[count, size] = &extents(shape).ok_or_else(bad)?[..] else {
                return Err(bad());
            };
            let bits = stream(seed, name).flat_map(u64::to_le_bytes);
            let mut bytes: Vec<u8> = bits.take(count * size).collect();
            for put in puts.split(',') {
                let (place, put) = put.split_once(':').ok_or_else(bad)?;
                let place: usize = place.parse().map_err(|_| bad())?;
                let put = unhex(put).ok_or_else(bad)?;
                for block in bytes.chunks_exact_mut(size) {
                    let at = block.get_mut(place..place + put.len()).ok_or_else(bad)?;
                    at.copy_from_slice(&put);
                }
            }
            Ok(raw(bytes))
        }
        [kind, shape, offset, amplitude] => {
            let dtype = match kind {
                "f32" => DType::F32,
                "f16" => DType::F16,
                "bf16" => DType::Bf16,
                _ => return Err(bad()),
            };
            let part = |text: &str| text.parse::<i64>().map_err(|_| bad());
            let spread = (part(offset)? as f64 / UNIT, part(amplitude)? as f64 / UNIT);
            let shape = extents(shape).ok_or_else(bad)?;
            let made = numbers(seed, name, shape.iter().product(), spread);
            Ok(Stored {
                dtype: dtype.name().to_owned(),
                bytes: dtype.bytes(&made),
                shape,
            })
        }
        _ => Err(bad()),
    }
}

/// Offsets and amplitudes are whole numbers of its parts.
const UNIT: f64 = 65536.0;

fn raw(bytes: Vec<u8>) -> Stored {
    Stored {
        dtype: "U8".to_owned(),
        shape: vec![bytes.len()],
        bytes,
    }
}

fn extents(shape: &str) -> Option<Vec<usize>> {
    shape.split('x').map(|n| n.parse().ok()).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

fn field<'a>(field: Option<&'a str>, line: &str) -> io::Result<&'a str> {
    field.ok_or_else(|| wrong(line))
}

fn number(text: Option<&str>, line: &str) -> io::Result<usize> {
    field(text, line)?.parse().map_err(|_| wrong(line))
}

fn wrong(line: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("no line of a listing: {line}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_none_is_named() {
        for line in ["x|name|f32|2|0|1", "1|name|f32|2|0|1", "0"] {
            let error = names([line]).err().unwrap().to_string();
            assert!(error.contains(line), "{error}");
        }
        for fields in [
            &["f64", "2", "0", "1"][..],
            &["f32", "2x", "0", "1"],
            &["f32", "2", "0.5", "1"],
            &["blocks", "2x4", "3:0102"],
            &["bytes", "012"],
            &["bytes"],
        ] {
            let error = tensor(1, "some.weight", fields).err().unwrap().to_string();
            assert!(error.contains("some.weight"), "{error}");
        }
    }

    #[test]
    fn blocks_have_what_is_put_in_each() {
        let made = tensor(7, "a", &["blocks", "3x5", "0:ff,3:0102"]).unwrap();
        let free = tensor(7, "a", &["blocks", "3x5", "0:ff"]).unwrap();
        for (made, free) in made.bytes.chunks(5).zip(free.bytes.chunks(5)) {
            assert_eq!((made[0], &made[3..]), (255, &[1, 2][..]));
            assert_eq!(made[1..3], free[1..3]);
        }
    }
}

//! The header of a safetensors file: names, kinds and sizes of its tensors. chandler-nn reads the same header to map a file and
//! compute with it, which takes candle and the file; here there may be neither, only the first bytes of a file on the hub.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::PlanError;
use super::tensor::{Stored, Tensor};

/// Bytes before the header, which say how long it is.
pub const LENGTH_BYTES: u64 = 8;
/// The longest header that is read: the `safetensors` crate has the same limit.
const MOST_BYTES: u64 = 100_000_000;

/// The format's dtypes: bits for a number, and what that is to us.
const DTYPES: [(&str, u64, Stored); 22] = [
    ("F32", 32, Stored::F32),
    ("F16", 16, Stored::F16),
    ("BF16", 16, Stored::Bf16),
    ("F64", 64, Stored::Other),
    ("I64", 64, Stored::Other),
    ("I32", 32, Stored::Other),
    ("I16", 16, Stored::Other),
    ("I8", 8, Stored::Other),
    ("U64", 64, Stored::Other),
    ("U32", 32, Stored::Other),
    ("U16", 16, Stored::Other),
    ("U8", 8, Stored::Other),
    ("BOOL", 8, Stored::Other),
    ("C64", 64, Stored::Other),
    ("F8_E4M3", 8, Stored::Other),
    ("F8_E5M2", 8, Stored::Other),
    ("F8_E8M0", 8, Stored::Other),
    ("F8_E4M3FNUZ", 8, Stored::Other),
    ("F8_E5M2FNUZ", 8, Stored::Other),
    ("F6_E2M3", 6, Stored::Other),
    ("F6_E3M2", 6, Stored::Other),
    ("F4", 4, Stored::Other),
];

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// How long the header is that begins behind these first bytes.
///
/// # Errors
/// [`PlanError::Malformed`] for a length that no such file of `file_bytes` bytes has.
pub fn header_bytes(file: &str, start: &[u8], file_bytes: u64) -> Result<u64, PlanError> {
    let Some(length) = start.first_chunk::<8>() else {
        let reason = format!("it has {file_bytes} bytes, too few for safetensors");
        return Err(PlanError::malformed(file, reason));
    };
    let length = u64::from_le_bytes(*length);
    if length > MOST_BYTES || length > file_bytes.saturating_sub(LENGTH_BYTES) {
        let reason = format!(
            "its header announces {length} bytes and the file has {file_bytes}: this is no safetensors file, or it is damaged"
        );
        return Err(PlanError::malformed(file, reason));
    }
    Ok(length)
}

/// The tensors that a header lists.
///
/// # Errors
/// [`PlanError::Malformed`] for anything that does not fill a file of `file_bytes` bytes exactly.
pub fn tensors(file: &str, header: &[u8], file_bytes: u64) -> Result<Vec<Tensor>, PlanError> {
    let wrong = |reason: String| PlanError::malformed(file, reason);
    let mut raw: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(header).map_err(|error| {
            wrong(format!(
                "its header is not what safetensors writes ({error})"
            ))
        })?;
    raw.remove("__metadata__");
    let mut tensors = Vec::with_capacity(raw.len());
    let mut covered = 0_u64;
    for (name, entry) in raw {
        let entry: Entry = serde_json::from_value(entry)
            .map_err(|error| wrong(format!("tensor {name:?}: {error}")))?;
        let tensor = tensor(name, entry).map_err(wrong)?;
        covered = covered.saturating_add(tensor.bytes);
        tensors.push(tensor);
    }
    let data = file_bytes.saturating_sub(LENGTH_BYTES + header.len() as u64);
    if covered != data {
        return Err(wrong(format!(
            "its tensors have {covered} bytes and the file has {data} for them: it is damaged, or has changed"
        )));
    }
    Ok(tensors)
}

fn tensor(name: String, entry: Entry) -> Result<Tensor, String> {
    let (begin, end) = entry.data_offsets;
    let found = DTYPES.iter().find(|(dtype, ..)| *dtype == entry.dtype);
    let Some((_, bits, stored)) = found else {
        return Err(format!(
            "tensor {name:?} has the unknown dtype {:?}",
            entry.dtype
        ));
    };
    let all_bits = entry
        .shape
        .iter()
        .try_fold(*bits, |bits, side| bits.checked_mul(*side));
    let bytes = all_bits.filter(|bits| bits % 8 == 0).map(|bits| bits / 8);
    match bytes {
        Some(bytes) if end.checked_sub(begin) == Some(bytes) => Ok(Tensor {
            name,
            shape: entry.shape,
            stored: *stored,
            bytes,
        }),
        _ => Err(format!(
            "tensor {name:?} of {} and shape {:?} lies at {begin} to {end}, which is not its size",
            entry.dtype, entry.shape
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[3,4],"data_offsets":[0,24]},"b":{"dtype":"I64","shape":[],"data_offsets":[24,32]}}"#;

    fn refused(header: &str, data: u64) -> String {
        let file_bytes = 8 + header.len() as u64 + data;
        let error = tensors("x", header.as_bytes(), file_bytes).unwrap_err();
        error.to_string()
    }

    #[test]
    fn a_header_lists_kinds_and_sizes() {
        let file_bytes = 8 + HEADER.len() as u64 + 32;
        let start = (HEADER.len() as u64).to_le_bytes();
        assert_eq!(
            header_bytes("x", &start, file_bytes).unwrap(),
            HEADER.len() as u64
        );
        let found = tensors("x", HEADER.as_bytes(), file_bytes).unwrap();
        let kinds: Vec<_> = found
            .iter()
            .map(|one| (one.elements(), one.stored, one.bytes))
            .collect();
        assert_eq!(kinds, [(12, Stored::Bf16, 24), (1, Stored::Other, 8)]);
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        assert!(refused(HEADER, 33).contains("32 bytes and the file has 33"));
        assert!(refused(&HEADER.replace("[3,4]", "[3,5]"), 32).contains("is not its size"));
        assert!(refused(&HEADER.replace("BF16", "B16"), 32).contains("unknown dtype"));
        assert!(refused("<!doctype html>", 0).contains("not what safetensors writes"));
        let huge = u64::MAX.to_le_bytes();
        assert!(
            header_bytes("x", &huge, 100)
                .unwrap_err()
                .to_string()
                .contains("announces")
        );
        assert!(header_bytes("x", b"GGUF", 4).is_err());
    }
}

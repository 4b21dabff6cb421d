//! The header of a safetensors file, read without believing it: every length, shape and offset is checked before use.
//! Apart from the files themselves, and given only a file's first bytes and its length, so that a download can use it too.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use candle_core::DType;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::text::{clip, quoted};
use crate::error::{NnError, Result};

/// The longest header that is read, in bytes: the `safetensors` crate has the same limit.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Bytes before the header, which say how long it is.
const LENGTH_BYTES: usize = 8;

/// The dtypes of the format: its name, bits per number, and candle's name for those that are read.
/// Eight bits and fewer mean nothing without scales that lie in other tensors, so they are known by size and not read.
const DTYPES: &[(&str, u64, Option<DType>)] = &[
    ("BF16", 16, Some(DType::BF16)),
    ("F16", 16, Some(DType::F16)),
    ("F32", 32, Some(DType::F32)),
    ("F64", 64, Some(DType::F64)),
    ("I64", 64, Some(DType::I64)),
    ("I32", 32, Some(DType::I32)),
    ("I16", 16, Some(DType::I16)),
    ("U8", 8, Some(DType::U8)),
    ("U32", 32, Some(DType::U32)),
    ("I8", 8, None),
    ("U16", 16, None),
    ("U64", 64, None),
    ("BOOL", 8, None),
    ("C64", 64, None),
    ("F8_E4M3", 8, None),
    ("F8_E5M2", 8, None),
    ("F8_E8M0", 8, None),
    ("F8_E4M3FNUZ", 8, None),
    ("F8_E5M2FNUZ", 8, None),
    ("F6_E2M3", 6, None),
    ("F6_E3M2", 6, None),
    ("F4", 4, None),
];

/// What a file says of one tensor, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The format's name of the dtype, as in `BF16`.
    pub stored: &'static str,
    /// The same for candle, where it is one that is read.
    pub dtype: Option<DType>,
    /// The shape, row-major.
    pub shape: Arc<[usize]>,
    /// Where its bytes are, counted from the beginning of the file; inside the file.
    pub range: Range<usize>,
}

/// A checked header: the tensors lie one after the other, without holes, up to the last byte of the file.
#[derive(Debug)]
pub struct Header {
    tensors: HashMap<Arc<str>, Entry>,
    metadata: HashMap<String, String>,
    data: Range<usize>,
}

impl Header {
    /// How many bytes of a file, from its beginning, [`Header::parse`] needs to see.
    ///
    /// # Errors
    /// [`NnError::WeightFile`] when `start`, the first bytes of the file (8, or all there are), announces a header longer than
    /// [`MAX_HEADER_BYTES`] or than the file.
    pub fn bytes_needed(file: &Path, start: &[u8], file_bytes: u64) -> Result<usize> {
        header_end(start, file_bytes).map_err(|reason| refuse(file, reason))
    }

    /// Reads the header at the beginning of `start`, which is the whole file or at least [`Header::bytes_needed`] of it.
    ///
    /// # Errors
    /// [`NnError::WeightFile`] for anything that is not exactly a safetensors file of `file_bytes` bytes.
    pub fn parse(file: &Path, start: &[u8], file_bytes: u64) -> Result<Self> {
        Self::check(start, file_bytes).map_err(|reason| refuse(file, reason))
    }

    /// What is said of the tensor of that name.
    pub fn get(&self, name: &str) -> Option<(&Arc<str>, &Entry)> {
        self.tensors.get_key_value(name)
    }

    /// All names, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(AsRef::as_ref)
    }

    /// A text about the file, of those that it begins with.
    pub fn metadata(&self, name: &str) -> Option<&str> {
        self.metadata.get(name).map(String::as_str)
    }

    /// Where the tensors' bytes are, counted from the beginning of the file.
    pub fn data(&self) -> Range<usize> {
        self.data.clone()
    }

    fn check(start: &[u8], file_bytes: u64) -> Result<Self, String> {
        let data_start = header_end(start, file_bytes)?;
        let Some(header) = start.get(LENGTH_BYTES..data_start) else {
            return Err(format!(
                "only {} of the header's {data_start} bytes were read",
                start.len()
            ));
        };
        let header = std::str::from_utf8(header)
            .map_err(|error| format!("the header is not UTF-8 ({error}): download it again"))?;
        let raw: RawHeader<'_> = serde_json::from_str(header).map_err(|error| {
            // The parser quotes what it did not expect, which may be all of the file.
            let error = clip(&error.to_string());
            format!("the header is not what safetensors writes ({error}): download it again")
        })?;
        let data_bytes = usize::try_from(file_bytes)
            .ok()
            .and_then(|bytes| bytes.checked_sub(data_start))
            .ok_or_else(|| format!("{file_bytes} bytes are more than can be addressed"))?;
        let mut tensors = HashMap::with_capacity(raw.tensors.len());
        for (name, tensor) in raw.tensors {
            let entry = check_entry(&name, tensor, data_start)?;
            match tensors.entry(name) {
                hash_map::Entry::Vacant(place) => place.insert(entry),
                hash_map::Entry::Occupied(place) => {
                    // A map would forget one of them.
                    let name = quoted(place.key());
                    return Err(format!("tensor {name} is there twice: download it again"));
                }
            };
        }
        check_layout(&tensors, data_start, data_bytes)?;
        Ok(Self {
            tensors,
            metadata: raw.metadata,
            data: data_start..data_start + data_bytes,
        })
    }
}

/// Where the header ends, counted from the beginning of the file.
fn header_end(start: &[u8], file_bytes: u64) -> Result<usize, String> {
    let Some(length) = start.first_chunk::<LENGTH_BYTES>() else {
        return Err(format!(
            "it has {file_bytes} bytes, too few for a safetensors file: download it again"
        ));
    };
    let header_bytes = u64::from_le_bytes(*length);
    let room = file_bytes.saturating_sub(LENGTH_BYTES as u64);
    if header_bytes > room.min(MAX_HEADER_BYTES) {
        if let Some(other) = other_kind(start) {
            return Err(other.to_owned());
        }
        if header_bytes > MAX_HEADER_BYTES {
            return Err(format!(
                "the header announces {header_bytes} bytes and {MAX_HEADER_BYTES} are the most: this is no safetensors file, or \
                 it is damaged; download it again"
            ));
        }
        return Err(format!(
            "download it again: the header announces {header_bytes} bytes and the file has {file_bytes}"
        ));
    }
    // At most MAX_HEADER_BYTES + 8, which fits any usize that candle runs on.
    usize::try_from(header_bytes)
        .map(|bytes| bytes + LENGTH_BYTES)
        .map_err(|_| format!("the header announces {header_bytes} bytes"))
}

/// What people have under this name instead of weights; asked only when the length makes no sense.
fn other_kind(start: &[u8]) -> Option<&'static str> {
    let start = start.get(..LENGTH_BYTES)?.to_ascii_lowercase();
    let starts = |with: &[u8]| start.starts_with(with);
    if starts(b"version ") {
        Some(
            "this is a Git LFS pointer and not the weights: run `git lfs pull`, or download it again",
        )
    } else if starts(b"<!doctyp") || starts(b"<html") {
        Some(
            "this is a web page and not the weights: download it again from the file's own address",
        )
    } else if starts(b"pk\x03\x04") || starts(b"\x80\x02") {
        Some("this is a pickle file, and those are never opened: convert it to safetensors")
    } else if starts(b"gguf") {
        Some("this is a GGUF file under the name of a safetensors file")
    } else {
        None
    }
}

/// One tensor by itself: a known dtype, and as many bytes as its shape needs.
fn check_entry(name: &str, raw: RawEntry<'_>, data_start: usize) -> Result<Entry, String> {
    // Text for messages is made only when there is one: this runs for every tensor of a large model.
    let name = || quoted(name);
    let RawEntry {
        dtype,
        shape,
        data_offsets: (begin, end),
    } = raw;
    let Some((stored, bits, dtype)) = DTYPES.iter().find(|(known, ..)| *known == dtype) else {
        return Err(format!(
            "tensor {} has the unknown dtype {}: save the checkpoint in f32, f16 or bf16",
            name(),
            quoted(&dtype)
        ));
    };
    if begin > end {
        return Err(format!(
            "tensor {} begins at {begin} and ends before, at {end}: download it again",
            name()
        ));
    }
    let all_bits = shape.iter().try_fold(*bits, |bits, dimension| {
        bits.checked_mul(u64::try_from(*dimension).ok()?)
    });
    let needed = all_bits.filter(|bits| bits % 8 == 0).map(|bits| bits / 8);
    let shown = || clip(&format!("{shape:?}"));
    match needed {
        None => Err(format!(
            "tensor {} has the shape {} of {stored}, which is no whole number of bytes that could be addressed: \
             download it again",
            name(),
            shown()
        )),
        Some(needed) if needed != end - begin => Err(format!(
            "tensor {} of {stored} {} needs {needed} bytes, and its offsets hold {}: download it again",
            name(),
            shown(),
            end - begin
        )),
        Some(_) => {
            let place = |offset: u64| usize::try_from(offset).ok()?.checked_add(data_start);
            let (Some(begin), Some(end)) = (place(begin), place(end)) else {
                return Err(format!(
                    "tensor {} ends at {end}, which is beyond any file: download it again",
                    name()
                ));
            };
            Ok(Entry {
                stored,
                dtype: *dtype,
                shape: shape.into(),
                range: begin..end,
            })
        }
    }
}

/// All tensors together: one after the other from the first data byte to the last, as the format demands.
fn check_layout(
    tensors: &HashMap<Arc<str>, Entry>,
    data_start: usize,
    data_bytes: usize,
) -> Result<(), String> {
    let mut in_order: Vec<(usize, usize, &str)> = tensors
        .iter()
        .map(|(name, entry)| (entry.range.start, entry.range.end, name.as_ref()))
        .collect();
    in_order.sort_unstable();
    let (mut reached, mut before) = (data_start, "");
    for (begin, end, name) in in_order {
        if begin < reached {
            return Err(format!(
                "the bytes of the tensors {} and {} overlap: download it again",
                quoted(before),
                quoted(name)
            ));
        }
        if begin > reached {
            return Err(format!(
                "{} bytes before tensor {} belong to no tensor: download it again",
                begin - reached,
                quoted(name)
            ));
        }
        (reached, before) = (end, name);
    }
    let needed = reached - data_start;
    if needed > data_bytes {
        return Err(format!(
            "it is cut short: its tensors need {needed} bytes and {data_bytes} are there; download it again"
        ));
    }
    if needed < data_bytes {
        return Err(format!(
            "{} bytes follow the last tensor: download it again",
            data_bytes - needed
        ));
    }
    Ok(())
}

fn refuse(file: &Path, reason: String) -> NnError {
    NnError::WeightFile {
        file: file.to_owned(),
        reason,
    }
}

/// The header as JSON has it, in its order.
struct RawHeader<'a> {
    tensors: Vec<(Arc<str>, RawEntry<'a>)>,
    metadata: HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// Free text about the file: strings only.
struct Metadata(HashMap<String, String>);

impl<'de> Deserialize<'de> for RawHeader<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = RawHeader<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader<'de>, A::Error> {
                let mut tensors = Vec::new();
                let mut metadata = None;
                while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                    if name != "__metadata__" {
                        tensors.push((Arc::from(name), map.next_value()?));
                    } else if metadata.replace(map.next_value::<Metadata>()?).is_some() {
                        return Err(de::Error::custom("`__metadata__` is there twice"));
                    }
                }
                let metadata = metadata.map(|Metadata(texts)| texts).unwrap_or_default();
                Ok(RawHeader { tensors, metadata })
            }
        }
        deserializer.deserialize_map(Names)
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strings;
        impl<'de> Visitor<'de> for Strings {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut texts = HashMap::new();
                while let Some((name, text)) = map.next_entry()? {
                    texts.insert(name, text);
                }
                Ok(Metadata(texts))
            }
        }
        deserializer.deserialize_map(Strings)
    }
}

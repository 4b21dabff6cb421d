//! The header of a GGUF file, read without believing it: every count, length, shape and offset is checked before use.
//! Apart from the files, and given only bytes, so that tests can lie. Source: docs/gguf.md of the ggml repository.

use std::collections::HashMap;
use std::collections::hash_map;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::super::text::{clip, quoted};
use super::cursor::Cursor;
use super::types::GgmlType;
use super::value::Metadata;
use crate::error::{NnError, Result};

/// The four bytes that every GGUF file begins with.
pub(super) const MAGIC: [u8; 4] = *b"GGUF";
/// Where tensors begin when `general.alignment` says nothing.
pub(super) const ALIGNMENT: usize = 32;
/// The key of another alignment.
const ALIGNMENT_KEY: &str = "general.alignment";
/// The most dimensions: ggml's `GGML_MAX_DIMS`.
const MAX_DIMENSIONS: u32 = 4;
/// The longest name of a tensor. llama.cpp stops at 64; Hugging Face names of experts are longer, and we write those.
const MAX_NAME_BYTES: u64 = 512;
/// The most tensors; the largest models in use have some thousand.
const MAX_TENSORS: u64 = 1 << 20;
/// Length of the name, dimensions, one dimension, type and offset.
const LEAST_TENSOR_BYTES: u64 = 8 + 4 + 8 + 4 + 8;

/// What a file says of one tensor, checked.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its type.
    pub kind: &'static GgmlType,
    /// The shape, row-major: the reverse of what the file has.
    pub shape: Arc<[usize]>,
    /// Where its bytes are, counted from the beginning of the file; inside the file.
    pub range: Range<usize>,
}

/// A checked header: the tensors lie one after the other, with no more than padding between them.
#[derive(Debug)]
pub struct Header {
    metadata: Metadata,
    tensors: HashMap<Arc<str>, Entry>,
    data: Range<usize>,
}

impl Header {
    /// Reads the header of a whole file; `file` stands for it in errors.
    ///
    /// # Errors
    /// [`NnError::WeightFile`] for anything that is not exactly a little-endian GGUF file of version 2 or 3.
    pub fn parse(file: &Path, bytes: &[u8]) -> Result<Self> {
        Self::check(file, bytes).map_err(|reason| NnError::WeightFile {
            file: file.to_owned(),
            reason,
        })
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// What is said of the tensor of that name.
    pub fn get(&self, name: &str) -> Option<(&Arc<str>, &Entry)> {
        self.tensors.get_key_value(name)
    }

    /// All names, in no order.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.tensors.keys()
    }

    /// From the first tensor's first byte to the last one's last, counted from the beginning of the file.
    pub fn data(&self) -> Range<usize> {
        self.data.clone()
    }

    fn check(file: &Path, bytes: &[u8]) -> Result<Self, String> {
        let mut cursor = Cursor::new(bytes);
        check_magic(&mut cursor, bytes)?;
        let tensors = cursor.count("the number of tensors", LEAST_TENSOR_BYTES, MAX_TENSORS)?;
        let keys = Metadata::count(&mut cursor)?;
        let metadata = Metadata::read(file.to_owned(), &mut cursor, keys)?;
        let alignment = alignment(&metadata)?;
        let raw = (0..tensors)
            .map(|place| RawEntry::read(place, &mut cursor))
            .collect::<Result<Vec<_>, String>>()?;
        let data_start = cursor
            .position()
            .checked_next_multiple_of(alignment)
            .ok_or_else(|| format!("{ALIGNMENT_KEY} is {alignment}, beyond the file"))?;
        let (tensors, data_end) = place(raw, data_start, alignment, bytes.len())?;
        Ok(Self {
            metadata,
            tensors,
            data: data_start.min(data_end)..data_end,
        })
    }
}

fn check_magic(cursor: &mut Cursor<'_>, bytes: &[u8]) -> Result<(), String> {
    let magic: [u8; 4] = cursor.array("the magic number")?;
    if magic != MAGIC {
        let start = bytes.get(..16).unwrap_or(bytes).to_ascii_lowercase();
        return Err(if start.starts_with(b"version ") {
            "this is a Git LFS pointer and not the weights: run `git lfs pull`, or download it again".to_owned()
        } else if start.starts_with(b"<!doctyp") || start.starts_with(b"<html") {
            "this is a web page and not the weights: download it again from the file's own address"
                .to_owned()
        } else {
            format!(
                "it begins with {:?} and not with {:?}: it is no GGUF file",
                clip(&String::from_utf8_lossy(&magic)),
                "GGUF"
            )
        });
    }
    match cursor.u32("the version")? {
        2 | 3 => Ok(()),
        1 => Err("it is GGUF version 1, and 2 and 3 are read: convert the model again".to_owned()),
        swapped if matches!(swapped.swap_bytes(), 1..=3) => Err(
            "it is big-endian, and little-endian files are read: convert the model for this machine"
                .to_owned(),
        ),
        other => Err(format!(
            "it says GGUF version {other}, and 2 and 3 are read: it is damaged, or newer than this program"
        )),
    }
}

fn alignment(metadata: &Metadata) -> Result<usize, String> {
    let said = metadata
        .unsigned(ALIGNMENT_KEY)
        .map_err(|_| format!("{ALIGNMENT_KEY} is not a whole number"))?;
    match said {
        None => Ok(ALIGNMENT),
        // ggml wants a power of two; more than a page's worth of gigabytes would be a way to reach outside.
        Some(said) if said.is_power_of_two() && said <= 1 << 20 => Ok(said as usize),
        Some(said) => Err(format!(
            "{ALIGNMENT_KEY} is {said}; a power of two up to {} is wanted",
            1 << 20
        )),
    }
}

/// One tensor by itself.
struct RawEntry {
    name: Arc<str>,
    kind: &'static GgmlType,
    shape: Arc<[usize]>,
    /// Counted from the first byte after the header.
    offset: u64,
    bytes: usize,
}

impl RawEntry {
    fn read(place: u64, cursor: &mut Cursor<'_>) -> Result<Self, String> {
        let name = cursor.text(&format!("the name of tensor {place}"), MAX_NAME_BYTES)?;
        if name.is_empty() {
            return Err(format!(
                "the name of tensor {place} is empty; download it again"
            ));
        }
        let shown = || quoted(&name);
        let dimensions = cursor.u32(&format!("the dimensions of tensor {}", shown()))?;
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return Err(format!(
                "tensor {} has {dimensions} dimensions, and 1 to {MAX_DIMENSIONS} are known; download it again",
                shown()
            ));
        }
        let mut shape = (0..dimensions)
            .map(|_| {
                let dimension = cursor.u64(&format!("the shape of tensor {}", shown()))?;
                usize::try_from(dimension).map_err(|_| {
                    format!(
                        "tensor {} has a dimension of {dimension}, beyond any memory",
                        shown()
                    )
                })
            })
            .collect::<Result<Vec<usize>, String>>()?;
        shape.reverse();
        let number = cursor.u32(&format!("the type of tensor {}", shown()))?;
        let kind = GgmlType::numbered(number).ok_or_else(|| {
            format!(
                "tensor {} has the unknown type {number}: convert the model to Q4_K, Q5_K, Q6_K, Q8_0 or F16",
                shown()
            )
        })?;
        let offset = cursor.u64(&format!("the offset of tensor {}", shown()))?;
        let bytes = kind.byte_len(&shape).ok_or_else(|| {
            format!(
                "tensor {} has the shape {shape:?} of {}, which is no whole number of blocks of {} that could be addressed: \
                 download it again",
                shown(),
                kind.name,
                kind.block
            )
        })?;
        Ok(Self {
            name: Arc::from(name),
            kind,
            shape: shape.into(),
            offset,
            bytes,
        })
    }
}

/// All tensors together: aligned, one after the other with no more than padding between, up to the end of the file.
fn place(
    mut raw: Vec<RawEntry>,
    data_start: usize,
    alignment: usize,
    file_bytes: usize,
) -> Result<(HashMap<Arc<str>, Entry>, usize), String> {
    raw.sort_by_key(|entry| (entry.offset, entry.bytes));
    let mut tensors = HashMap::new();
    let (mut reached, mut before) = (data_start, Arc::from(""));
    for entry in raw {
        let name = || quoted(&entry.name);
        if !entry.offset.is_multiple_of(alignment as u64) {
            return Err(format!(
                "tensor {} begins at {}, which is no multiple of the alignment, {alignment}: download it again",
                name(),
                entry.offset
            ));
        }
        let start = usize::try_from(entry.offset)
            .ok()
            .and_then(|offset| data_start.checked_add(offset));
        let end = start.and_then(|start| start.checked_add(entry.bytes));
        let (Some(start), Some(end)) = (start, end) else {
            return Err(format!(
                "tensor {} begins at {} and has {} bytes, beyond any file: download it again",
                name(),
                entry.offset,
                entry.bytes
            ));
        };
        if end > file_bytes {
            return Err(format!(
                "it is cut short: tensor {} ends at {end} and the file has {file_bytes} bytes; download it again",
                name()
            ));
        }
        if start < reached {
            return Err(format!(
                "the bytes of the tensors {} and {} overlap: download it again",
                quoted(&before),
                name()
            ));
        }
        if start - reached >= alignment {
            return Err(format!(
                "{} bytes before tensor {} belong to no tensor: download it again",
                start - reached,
                name()
            ));
        }
        (reached, before) = (end, entry.name.clone());
        let checked = Entry {
            kind: entry.kind,
            shape: entry.shape,
            range: start..end,
        };
        match tensors.entry(entry.name) {
            hash_map::Entry::Vacant(place) => place.insert(checked),
            hash_map::Entry::Occupied(place) => {
                return Err(format!(
                    "tensor {} is there twice: download it again",
                    quoted(place.key())
                ));
            }
        };
    }
    if file_bytes.saturating_sub(reached) >= alignment.max(ALIGNMENT) && !tensors.is_empty() {
        return Err(format!(
            "{} bytes follow the last tensor: download it again",
            file_bytes - reached
        ));
    }
    Ok((tensors, reached.min(file_bytes)))
}

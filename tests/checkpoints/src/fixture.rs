//! A fixture's folder with the files that its weights.json lists.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::line::{names, tensor};
use crate::numbers::fnv;
use crate::safetensors::{Stored, safetensors};

const LISTING: &str = "weights.json";
/// Of a GGUF file's tensors.
const ALIGNMENT: usize = 32;

/// The fixture as a checkpoint: a folder below `scratch` with its files and those that are made of its weights.json. Made once: the
/// folder's name has a digest of the fixture's bytes. A fixture that lists no weights is the folder itself.
///
/// # Errors
/// A listing that cannot be read, or a disk that takes no more.
pub fn checkpoint(fixture: &Path, scratch: &Path) -> io::Result<PathBuf> {
    if !fixture.join(LISTING).exists() {
        return Ok(fixture.to_owned());
    }
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(fixture)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.insert(entry.file_name(), fs::read(entry.path())?);
        }
    }
    let digest = files.iter().fold(VERSION, |state, (name, bytes)| {
        fnv(fnv(state, name.as_encoded_bytes()), bytes)
    });
    let name = fixture.file_name().unwrap_or_default().to_string_lossy();
    let made = scratch.join(format!("{name}-{digest:016x}"));
    if made.exists() {
        return Ok(made);
    }
    fs::create_dir_all(scratch)?;
    let unfinished = tempfile::tempdir_in(scratch)?;
    let listing: Value = serde_json::from_slice(&files[OsStr::new(LISTING)])?;
    for (name, bytes) in &files {
        fs::write(unfinished.path().join(name), bytes)?;
    }
    fill(unfinished.path(), &listing)?;
    // Whoever comes second finds it made.
    match fs::rename(unfinished.path(), &made) {
        Err(_) if made.exists() => Ok(made),
        renamed => renamed.map(|()| made),
    }
}

/// Where digests begin: another number for another way of making files.
const VERSION: u64 = 1;

/// Writes the files that a listing names.
fn fill(folder: &Path, listing: &Value) -> io::Result<()> {
    let missing = |what: &str| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{LISTING} has no {what}"),
        )
    };
    let seed = listing["seed"].as_u64().ok_or_else(|| missing("seed"))?;
    let files = listing["files"].as_object();
    for (file, lines) in files.ok_or_else(|| missing("files"))? {
        let lines = lines.as_array().into_iter().flatten();
        let made = names(lines.filter_map(Value::as_str))?
            .into_iter()
            .map(|(name, fields)| Ok((tensor(seed, &name, &fields)?, name)))
            .collect::<io::Result<Vec<(Stored, String)>>>()?;
        let head = folder.join(format!("{file}.head"));
        let bytes = if head.exists() {
            let bytes = gguf(fs::read(&head)?, made.into_iter().map(|(one, _)| one));
            fs::remove_file(head)?;
            bytes
        } else {
            safetensors(
                &made.into_iter().map(|(one, name)| (name, one)).collect(),
                json!({"format": "pt"}),
            )
        };
        fs::write(folder.join(file), bytes)?;
    }
    fs::remove_file(folder.join(LISTING))
}

/// Tensors behind the beginning of a GGUF file, in its order.
fn gguf(mut bytes: Vec<u8>, tensors: impl Iterator<Item = Stored>) -> Vec<u8> {
    for tensor in tensors {
        bytes.extend(tensor.bytes);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
    bytes
}

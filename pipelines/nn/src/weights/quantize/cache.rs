//! Quantised weights on disk: a GGUF file of our own under names as in the checkpoint, found by what it was made from.
//! Written under another name and renamed when it is whole, so that two workers on one volume never see half of it.

use std::fmt::Write as _;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::super::TensorSource;
use super::super::gguf::{Announced, GgufFile, Value, Writer};
use super::convert;
use super::scheme::{Chosen, Scheme};
use crate::error::{NnError, Result};

/// Changes when the same checkpoint would be quantised to other bytes.
const FORMAT: &str = "chandler-quantized-1";
/// Where the key stands in the file.
const KEY: &str = "chandler.key";
/// Bytes of a tensor that are looked at, at its beginning, its middle and its end.
const PROBE: usize = 64;

/// What tells this result from any other: the checkpoint's files with sizes and times, every tensor's name, type and shape, a
/// few of its bytes, and what is made of it.
pub(super) fn key(source: &dyn TensorSource, scheme: Scheme, chosen: &[Chosen]) -> Result<String> {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    add(FORMAT);
    add(scheme.name());
    add(&source.stamp());
    for one in chosen {
        add(&format!(
            "{} {:?} {}",
            one.name,
            one.shape,
            one.stored.name()
        ));
    }
    for one in chosen {
        let tensor = source.tensor(&one.name)?;
        hash.update(tensor.stored().name().as_bytes());
        let bytes = tensor.bytes();
        let middle = bytes.len() / 2;
        for start in [0, middle, bytes.len().saturating_sub(PROBE)] {
            let end = (start + PROBE).min(bytes.len());
            hash.update(bytes.get(start..end).unwrap_or(&[]));
        }
    }
    // Half of the digest: 128 bits are enough for names that nobody tries to forge.
    let mut key = String::new();
    for byte in hash.finalize().iter().take(16) {
        let _ = write!(key, "{byte:02x}");
    }
    Ok(key)
}

/// The file of a key.
pub(super) fn path(directory: &Path, scheme: Scheme, key: &str) -> PathBuf {
    directory
        .join("quantized")
        .join(format!("{}-{key}.gguf", scheme.name()))
}

/// The file, when it is there and what it should be. Anything else counts as not there, and is replaced.
pub(super) fn open(path: &Path, key: &str, chosen: &[Chosen]) -> Option<GgufFile> {
    if path.symlink_metadata().is_err() {
        return None;
    }
    let refuse = |reason: String| {
        tracing::warn!(
            file = %path.display(),
            reason,
            "kept weights are not what they should be, and are made anew"
        );
    };
    let file = match GgufFile::open(path) {
        Ok(file) => file,
        Err(error) => {
            refuse(error.to_string());
            return None;
        }
    };
    if !matches!(file.metadata().text(KEY), Ok(Some(found)) if found == key) {
        refuse(format!("{KEY} is not {key}"));
        return None;
    }
    let differs = |one: &&Chosen| {
        let tensor = file.tensor(&one.name);
        !matches!(tensor, Ok(tensor) if tensor.stored() == one.stored && tensor.shape() == shape(one))
    };
    if let Some(wrong) = chosen.iter().find(differs) {
        refuse(format!("{} is missing or another", wrong.name));
        return None;
    }
    Some(file)
}

/// As the format has it, in which a scalar is a row of one.
fn shape(one: &Chosen) -> &[usize] {
    match one.shape.as_slice() {
        [] => &[1],
        shape => shape,
    }
}

/// Quantises into the file.
///
/// # Errors
/// [`NnError::Io`] when the system does not let it be written; what the checkpoint says otherwise.
pub(super) fn write(
    path: &Path,
    key: &str,
    source: &dyn TensorSource,
    chosen: &[Chosen],
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<()> {
    let io = |source| NnError::Io {
        file: path.to_owned(),
        source,
    };
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).map_err(io)?;
    let mut whole = tempfile::Builder::new()
        .prefix(".partial-")
        .tempfile_in(directory)
        .map_err(io)?;
    let announced: Vec<Announced> = chosen
        .iter()
        .map(|one| Announced {
            name: one.name.clone(),
            stored: one.stored,
            shape: shape(one).to_vec(),
        })
        .collect();
    let metadata = [
        ("general.architecture", Value::Text("chandler".to_owned())),
        (KEY, Value::Text(key.to_owned())),
    ];
    let out = BufWriter::with_capacity(1 << 20, whole.as_file_mut());
    let mut writer = Writer::new(out, &metadata, &announced).map_err(io)?;
    let total = source.total_bytes();
    let mut done = 0;
    progress(done, total);
    for one in chosen {
        writer.tensor(convert(source, one)?.bytes()).map_err(io)?;
        done += source.tensor(&one.name)?.bytes().len() as u64;
        progress(done.min(total), total);
    }
    writer.finish().map_err(io)?.flush().map_err(io)?;
    // On the disk before it gets its name, so that a machine that loses power has no half of it either.
    whole.as_file().sync_all().map_err(io)?;
    whole.persist(path).map_err(|error| io(error.error))?;
    progress(total, total);
    Ok(())
}

//! A GGUF file, or all files of a split one, mapped and giving out tensors by their names in the file.
//! Apart from the header because files are several, and from a model's own names, which are the modality's business.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::super::mapping::{self, Mapping};
use super::super::text::{near_hint, quoted};
use super::super::{HostTensor, TensorSource};
use super::header::Header;
use super::value::Metadata;
use crate::error::{NnError, Result};

/// The most files of one model.
const MAX_PARTS: usize = 999;

/// The tensors and the metadata of a GGUF model, mapped and not yet read: opening touches headers only.
pub struct GgufFile {
    parts: Vec<Part>,
    /// Tensor name to place in `parts`.
    part_of: HashMap<Arc<str>, usize>,
}

struct Part {
    mapping: Mapping,
    header: Header,
}

impl Part {
    fn open(path: &Path) -> Result<Self> {
        let mapping = Mapping::map(path)?;
        let header = Header::parse(path, mapping.bytes())?;
        Ok(Self { mapping, header })
    }
}

impl GgufFile {
    /// Opens a GGUF file and checks its header. Of a split model (`…-00001-of-00003.gguf`) the first file is named, and the
    /// others are taken from beside it.
    ///
    /// # Errors
    /// [`NnError::WeightFile`] when a file is not what it says, and when files of a split model are missing or of different
    /// models; [`NnError::Io`] when the system fails.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let parts = match split_name(path) {
            Some(split) if split.number != 1 => {
                return Err(refuse(
                    path,
                    format!(
                        "it is file {} of {}; name the first, {}",
                        split.number,
                        split.count,
                        split.path(1).display()
                    ),
                ));
            }
            Some(split) => open_parts(path, &split)?,
            None => vec![Part::open(path)?],
        };
        check_parts(&parts)?;
        let mut part_of = HashMap::new();
        for (place, part) in parts.iter().enumerate() {
            for name in part.header.names() {
                if part_of.insert(name.clone(), place).is_some() {
                    return Err(refuse(
                        part.mapping.label(),
                        format!("tensor {} is also in an earlier file", quoted(name)),
                    ));
                }
            }
        }
        Ok(Self { parts, part_of })
    }

    /// A GGUF file that is compiled in; `name` stands for it in errors.
    ///
    /// # Errors
    /// [`NnError::WeightFile`] when it is not a whole GGUF file.
    pub fn embedded(name: impl Into<String>, bytes: &'static [u8]) -> Result<Self> {
        let mapping = Mapping::embedded(PathBuf::from(name.into()), bytes);
        let header = Header::parse(mapping.label(), bytes)?;
        let part_of = header.names().map(|name| (name.clone(), 0)).collect();
        let parts = vec![Part { mapping, header }];
        Ok(Self { parts, part_of })
    }

    /// The metadata: of a split model, the first file's.
    pub fn metadata(&self) -> &Metadata {
        static EMPTY: std::sync::LazyLock<Metadata> = std::sync::LazyLock::new(Metadata::default);
        self.parts
            .first()
            .map_or(&*EMPTY, |part| part.header.metadata())
    }

    /// The first file.
    pub fn path(&self) -> &Path {
        self.parts
            .first()
            .map_or(Path::new(""), |part| part.mapping.label())
    }

    /// A tensor's row-major shape, without looking at its numbers.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        let part = self.parts.get(*self.part_of.get(name)?)?;
        Some(&part.header.get(name)?.1.shape)
    }

    /// The type of a tensor as ggml calls it, as in `Q4_K`.
    pub fn type_name(&self, name: &str) -> Option<&'static str> {
        let part = self.parts.get(*self.part_of.get(name)?)?;
        Some(part.header.get(name)?.1.kind.name)
    }

    fn found(&self, name: &str) -> Option<Result<HostTensor>> {
        let part = self.parts.get(*self.part_of.get(name)?)?;
        let (name, entry) = part.header.get(name)?;
        if entry.range.is_empty() {
            // Allowed by the format and of use to no model, so that it is an error only for who asks for it.
            return Some(Err(refuse(
                part.mapping.label(),
                format!(
                    "tensor {} of shape {:?} holds no numbers",
                    quoted(name),
                    entry.shape
                ),
            )));
        }
        let backing = part.mapping.backing().clone();
        Some(match entry.kind.stored() {
            Some(stored) => HostTensor::over(
                name.clone(),
                stored,
                entry.shape.clone(),
                backing,
                entry.range.clone(),
            ),
            None => Err(NnError::DType {
                name: name.to_string(),
                found: entry.kind.name.to_owned(),
            }),
        })
    }
}

impl TensorSource for GgufFile {
    fn tensor(&self, name: &str) -> Result<HostTensor> {
        self.found(name).unwrap_or_else(|| {
            Err(NnError::MissingTensor {
                name: name.to_owned(),
                hint: near_hint(name, self.part_of.keys().map(AsRef::as_ref)),
            })
        })
    }

    fn contains(&self, name: &str) -> bool {
        self.part_of.contains_key(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.part_of.keys().map(|name| name.to_string()).collect();
        names.sort_unstable();
        names
    }

    fn total_bytes(&self) -> u64 {
        let bytes = |part: &Part| part.header.data().len() as u64;
        self.parts.iter().map(bytes).sum()
    }

    fn stamp(&self) -> String {
        self.parts.iter().map(|part| part.mapping.stamp()).collect()
    }

    fn prefetch(&self, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<()> {
        let parts: Vec<_> = self
            .parts
            .iter()
            .map(|part| (&part.mapping, part.header.data()))
            .collect();
        mapping::prefetch(&parts, progress)
    }
}

/// The name of one file of a split model: `BASE-00001-of-00003.gguf`.
struct Split {
    directory: PathBuf,
    base: String,
    number: usize,
    count: usize,
}

impl Split {
    fn path(&self, number: usize) -> PathBuf {
        self.directory.join(format!(
            "{}-{number:05}-of-{:05}.gguf",
            self.base, self.count
        ))
    }
}

/// The parts of a name as `llama_split_path` writes it.
fn split_name(path: &Path) -> Option<Split> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (base, number) = rest.rsplit_once('-')?;
    let five = |digits: &str| -> Option<usize> {
        let whole = digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
        whole.then(|| digits.parse().ok()).flatten()
    };
    Some(Split {
        directory: path.parent().map(Path::to_path_buf).unwrap_or_default(),
        base: base.to_owned(),
        number: five(number)?,
        count: five(count)?,
    })
}

fn open_parts(path: &Path, split: &Split) -> Result<Vec<Part>> {
    if split.count > MAX_PARTS {
        return Err(refuse(
            path,
            format!(
                "its name says {} files, and {MAX_PARTS} are the most",
                split.count
            ),
        ));
    }
    let paths: Vec<PathBuf> = (1..=split.count).map(|number| split.path(number)).collect();
    let missing: Vec<String> = paths
        .iter()
        .filter(|path| path.symlink_metadata().is_err())
        .map(|path| path.display().to_string())
        .collect();
    if let Some(first) = missing.first() {
        return Err(refuse(
            path,
            format!(
                "{} of its {} files are not beside it, the first of them {first}: download it, too",
                missing.len(),
                split.count
            ),
        ));
    }
    paths.par_iter().map(|path| Part::open(path)).collect()
}

/// That the files belong together, as far as they say.
fn check_parts(parts: &[Part]) -> Result<()> {
    let tensors: usize = parts.iter().map(|part| part.header.names().count()).sum();
    for (place, part) in parts.iter().enumerate() {
        let metadata = part.header.metadata();
        let expect = |key: &str, value: usize| {
            match metadata.unsigned(key)? {
            Some(said) if said != value as u64 => Err(metadata.refuse(
                key,
                &format!("is {said}, and by the files' names it is {value}: name the first file of the split model by its own \
                          name, with all others beside it"),
            )),
            _ => Ok(()),
        }
        };
        let count = metadata.unsigned("split.count")?;
        // A model of one file may say 0 or 1.
        if parts.len() > 1 || count.is_some_and(|count| count > 1) {
            expect("split.count", parts.len())?;
            expect("split.no", place)?;
        }
        if let Some(said) = metadata.unsigned("split.tensors.count")?
            && said != tensors as u64
        {
            return Err(metadata.refuse(
                "split.tensors.count",
                &format!("is {said}, and the files have {tensors}: they are of different models; download them again"),
            ));
        }
    }
    Ok(())
}

fn refuse(path: &Path, reason: String) -> NnError {
    NnError::WeightFile {
        file: path.to_owned(),
        reason,
    }
}

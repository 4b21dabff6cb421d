//! From a model's files to what is known of them: which tensors each part has, and the sizes that its work follows from. Reads
//! headers and small files through [`Files`], wherever these are; knows neither the hub nor a disk.

use std::ops::Range;

use super::facts::{self, Facts, Fields};
use super::gguf::{self, Head, Trouble};
use super::tensor::Tensor;
use super::{PlanError, safetensors, single};

/// A GGUF's head has the vocabulary in it: some megabytes. Read in growing pieces, and no further than this.
const FIRST_PIECE: u64 = 1 << 20;
const LARGEST_HEAD: u64 = 256 << 20;
/// config.json and the like.
const LARGEST_TEXT: u64 = 16 << 20;

/// The files of a model that would be loaded, wherever they are.
pub trait Files {
    /// Paths and sizes.
    fn list(&self) -> Vec<(String, u64)>;

    /// Some of a file's bytes; exactly those, which are inside it.
    ///
    /// # Errors
    /// Why they cannot be had, in the place's own words.
    fn read(
        &self,
        path: &str,
        range: Range<u64>,
    ) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>>;
}

/// What is known of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Its parts: one without a name, or each by its folder.
    pub parts: Vec<Part>,
    /// What its work takes.
    pub facts: Facts,
    /// Bytes of all files that are fetched.
    pub files: u64,
    /// Where the numbers come from, for people.
    pub basis: String,
    /// Whether they are of the files themselves, and not of a card.
    pub exact: bool,
}

/// A part of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Its folder; empty where there is one part.
    pub name: String,
    /// Its tensors.
    pub tensors: Vec<Tensor>,
}

/// Reads the headers of a model's files.
///
/// # Errors
/// [`PlanError`], which names what is missing or wrong.
pub fn measure(files: &dyn Files, basis: String) -> Result<Measured, PlanError> {
    let listed = files.list();
    let total = listed.iter().map(|(_, size)| size).sum();
    let reader = Reader { files, listed };
    let (parts, facts) = match reader.has("model_index.json") {
        true => reader.diffusers()?,
        false => reader.model()?,
    };
    Ok(Measured {
        parts,
        facts,
        files: total,
        basis,
        exact: true,
    })
}

struct Reader<'a> {
    files: &'a dyn Files,
    listed: Vec<(String, u64)>,
}

impl Reader<'_> {
    fn has(&self, path: &str) -> bool {
        self.listed.iter().any(|(listed, _)| listed == path)
    }

    fn bytes(&self, path: &str, range: Range<u64>) -> Result<Vec<u8>, PlanError> {
        self.files.read(path, range).map_err(PlanError::Unreadable)
    }

    /// A small file of JSON.
    fn fields(&self, path: &str, needs: &'static str) -> Result<Fields, PlanError> {
        let Some((_, size)) = self.listed.iter().find(|(listed, _)| listed == path) else {
            return Err(PlanError::Missing {
                file: "the model".to_owned(),
                field: format!("what stands in {path}"),
                needs,
            });
        };
        if *size > LARGEST_TEXT {
            return Err(PlanError::malformed(
                path,
                format!("it has {size} bytes, too many for settings"),
            ));
        }
        Fields::read(path, &self.bytes(path, 0..*size)?, needs)
    }

    fn safetensors(&self, path: &str, size: u64) -> Result<Vec<Tensor>, PlanError> {
        let start = self.bytes(path, 0..safetensors::LENGTH_BYTES.min(size))?;
        let length = safetensors::header_bytes(path, &start, size)?;
        let begin = safetensors::LENGTH_BYTES;
        let header = self.bytes(path, begin..begin + length)?;
        safetensors::tensors(path, &header, size)
    }

    fn gguf(&self, path: &str, size: u64) -> Result<Head, PlanError> {
        let (mut start, mut wanted) = (Vec::new(), FIRST_PIECE);
        loop {
            let read = start.len() as u64;
            let end = wanted.min(size);
            if read < end {
                start.extend(self.bytes(path, read..end)?);
            }
            match gguf::head(path, &start) {
                Ok(head) => return Ok(head),
                Err(Trouble::Wrong(error)) => return Err(error),
                Err(Trouble::TooShort) if end == size || wanted >= LARGEST_HEAD => {
                    return Err(PlanError::malformed(
                        path,
                        format!("its head does not end within {end} bytes"),
                    ));
                }
                Err(Trouble::TooShort) => wanted *= 2,
            }
        }
    }

    /// The files under a folder with this ending, in their order.
    fn under<'a>(
        &'a self,
        folder: &str,
        ending: &'static str,
    ) -> impl Iterator<Item = &'a (String, u64)> {
        let prefix = match folder.is_empty() {
            true => String::new(),
            false => format!("{folder}/"),
        };
        self.listed.iter().filter(move |(path, _)| {
            let rest = path.strip_prefix(&prefix);
            rest.is_some_and(|rest| !rest.contains('/') && rest.ends_with(ending))
        })
    }

    fn part(&self, folder: &str) -> Result<Part, PlanError> {
        let mut tensors = Vec::new();
        for (path, size) in self.under(folder, ".safetensors") {
            tensors.extend(self.safetensors(path, *size)?);
        }
        Ok(Part {
            name: folder.to_owned(),
            tensors,
        })
    }

    /// A diffusers repository: each folder with weights is a part.
    fn diffusers(&self) -> Result<(Vec<Part>, Facts), PlanError> {
        let mut folders: Vec<&str> = self
            .listed
            .iter()
            .filter(|(path, _)| path.ends_with(".safetensors"))
            .filter_map(|(path, _)| Some(path.split_once('/')?.0))
            .collect();
        folders.sort_unstable();
        folders.dedup();
        let parts: Result<Vec<Part>, PlanError> =
            folders.iter().map(|folder| self.part(folder)).collect();
        let denoiser = match folders.contains(&"transformer") {
            true => "transformer/config.json",
            false => "unet/config.json",
        };
        let denoiser = self.fields(denoiser, "the work on a picture")?;
        let vae = self.fields("vae/config.json", "the work on a picture")?;
        let picture = facts::of_diffusers(&denoiser, &vae)?;
        Ok((parts?, Facts::Picture(picture)))
    }

    /// A model in one folder, or in one file.
    fn model(&self) -> Result<(Vec<Part>, Facts), PlanError> {
        if let Some((first, _)) = self.under("", ".gguf").next() {
            let mut heads = Vec::new();
            for (path, size) in self.under("", ".gguf") {
                heads.push(self.gguf(path, *size)?);
            }
            let all: Vec<Tensor> = heads.iter().flat_map(|head| head.tensors.clone()).collect();
            let head = heads.into_iter().next().unwrap_or_default();
            let whole = Head {
                tensors: all,
                ..head
            };
            let facts = facts::of_gguf(first, &whole)?;
            return Ok((one(whole.tensors), facts));
        }
        let part = self.part("")?;
        if part.tensors.is_empty() {
            return Err(PlanError::UnknownKind {
                what: "a model without safetensors or GGUF files".to_owned(),
                known: "weights in these two formats are, and no others",
            });
        }
        if !self.has("config.json") {
            return single::checkpoint(part.tensors);
        }
        let facts = facts::of_config(self.fields("config.json", "the cache and the work")?)?;
        Ok((vec![part], facts))
    }
}

fn one(tensors: Vec<Tensor>) -> Vec<Part> {
    vec![Part {
        name: String::new(),
        tensors,
    }]
}

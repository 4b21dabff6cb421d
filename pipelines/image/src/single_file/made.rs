//! What is made of a checkpoint: small files, each part's tensors, and what lies beside the file, which counts. Apart from `open`,
//! which says what parts there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chandler_nn::weights::{Snapshot, TensorSource, WeightFiles};
use serde_json::{Value, json};

use super::autoencoder;
use super::checkpoint::{self, Checkpoint};
use super::kind::{self, Kind};
use super::texts::Texts;
use super::view::{Pieces, View, Whole};
use super::{refuse, schedule, tokenizer};
use crate::error::Result;
use crate::model_index;

const SCHEDULER: &str = "scheduler/scheduler_config.json";

/// Small files, and each part's tensors.
pub(super) struct Made<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) kind: Kind,
    /// The directory that the file is in.
    beside: Snapshot,
    files: BTreeMap<String, Vec<u8>>,
    pieces: BTreeMap<&'static str, Pieces>,
    /// Parts that the file lacks and the directory has.
    parts_beside: BTreeMap<&'static str, Arc<dyn TensorSource>>,
}

impl<'a> Made<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint, kind: Kind) -> Result<Self> {
        Ok(Self {
            beside: checkpoint::folder(checkpoint.path())?,
            checkpoint,
            kind,
            files: BTreeMap::new(),
            pieces: BTreeMap::new(),
            parts_beside: BTreeMap::new(),
        })
    }

    /// A part's configuration: the one that lies beside the file, else what is told from the tensors.
    pub(super) fn config(
        &self,
        folder: &str,
        told: impl FnOnce() -> Result<Value>,
    ) -> Result<Value> {
        let file = format!("{folder}/config.json");
        match self.beside.read(&file)? {
            None => told(),
            Some(bytes) => {
                tracing::info!(file, "this file beside the checkpoint counts");
                serde_json::from_slice(&bytes).map_err(|error| {
                    let message = format!("{file} lies beside it and is no JSON: {error}");
                    refuse(self.checkpoint.path(), message)
                })
            }
        }
    }

    fn json(&mut self, file: &str, value: &Value) {
        self.files
            .insert(file.to_owned(), value.to_string().into_bytes());
    }

    /// A part in the file.
    pub(super) fn part(
        &mut self,
        folder: &'static str,
        config: &Value,
        pieces: Pieces,
    ) -> Result<()> {
        let source = self.checkpoint.source();
        // Said now and not in the middle of loading: files in fp8 are many.
        for piece in pieces.values() {
            if let Err(error) = source.tensor(&piece.stored) {
                let message = format!("{error}: give the file whose weights are in f16 or bf16");
                return Err(refuse(self.checkpoint.path(), message));
            }
        }
        self.json(&format!("{folder}/config.json"), config);
        self.pieces.insert(folder, pieces);
        Ok(())
    }

    /// A part that lies beside the file in the diffusers layout; its configuration.
    pub(super) fn part_beside(&mut self, folder: &'static str) -> Result<Value> {
        let config = self.config(folder, || Ok(Value::Null))?;
        let weights = self.beside.part(folder).part_weights()?;
        self.json(&format!("{folder}/config.json"), &config);
        self.parts_beside.insert(folder, weights);
        Ok(config)
    }

    /// Whether a whole part lies beside. A configuration alone may, of a repository of which one file was fetched.
    fn has_beside(&self, folder: &str) -> bool {
        let here = |name: &str| self.beside.holds(&format!("{folder}/{name}"));
        let names = WeightFiles::of_parts();
        let weights = |names: &WeightFiles| here(&names.single) || here(&names.index);
        here("config.json") && names.iter().any(weights)
    }

    /// Whether a text encoder is left out, of those that may be.
    pub(super) fn is_without(&self, text: &Texts) -> bool {
        let has = self.checkpoint.has_any(text.prefix) || self.has_beside(text.folder);
        text.optional && !has
    }

    /// A transformer is often published alone.
    pub(super) fn check_that_all_parts_are_there(&self) -> Result<()> {
        let in_file = |text: &Texts| self.checkpoint.has_any(text.prefix);
        let texts = self.kind.texts().iter();
        let lacking = texts.filter(|text| !text.optional && !in_file(text));
        let mut lacking: Vec<&str> = lacking.map(|text| text.folder).collect();
        if autoencoder::prefix(self.checkpoint).is_none() {
            lacking.push("vae");
        }
        lacking.retain(|folder| !self.has_beside(folder));
        if lacking.is_empty() {
            return Ok(());
        }
        let message = format!(
            "its transformer is there and not all that goes with it: {} of {}; give the whole checkpoint, or put beside the file, in the \
             diffusers layout, the folders that it lacks, each with config.json and weights",
            lacking.join(", "),
            self.kind.class()
        );
        Err(refuse(self.checkpoint.path(), message))
    }

    /// The tokenizer of a text encoder whose embedding has rows for so many tokens.
    pub(super) fn tokenizer(&mut self, (n, text): (usize, &Texts), tokens: u64) -> Result<()> {
        let files = tokenizer::files(&self.beside, (n, text), tokens, self.kind)?;
        self.files.extend(files);
        Ok(())
    }

    /// model_index.json, as the publisher's own conversion has it.
    pub(super) fn index(&mut self) {
        let (folder, class) = self.kind.denoiser();
        let mut index = json!({
            "_class_name": self.kind.class(),
            "scheduler": ["diffusers", "Scheduler"],
            "vae": ["diffusers", "AutoencoderKL"],
        });
        index[folder] = json!(["diffusers", class]);
        for text in self.kind.texts() {
            if !self.is_without(text) {
                index[text.folder] = json!(["transformers", text.class]);
            }
        }
        for (name, value) in self.kind.flags() {
            index[name] = json!(value);
        }
        self.json(model_index::FILE, &index);
    }

    /// What the scheduler begins with.
    pub(super) fn schedule(&mut self) -> Result<()> {
        let bytes = match self.beside.read(SCHEDULER)? {
            Some(bytes) => {
                tracing::info!(file = SCHEDULER, "this file beside the checkpoint counts");
                bytes
            }
            None => schedule::config(self.checkpoint, self.kind)
                .to_string()
                .into_bytes(),
        };
        self.files.insert(SCHEDULER.to_owned(), bytes);
        Ok(())
    }

    /// Tensors of the networks that no name here stands for. diffusers says nothing of them; a word is cheap.
    pub(super) fn tell_what_is_passed_over(&self) {
        let used: BTreeSet<&str> = self
            .pieces
            .values()
            .flat_map(|pieces| pieces.values().map(|piece| piece.stored.as_str()))
            .collect();
        let unused = || {
            let known = |name: &&str| used.contains(*name) || kind::is_passed_over(name);
            self.checkpoint.names().filter(move |name| !known(name))
        };
        if let Some(first) = unused().next() {
            let count = unused().count();
            tracing::warn!(
                count,
                first,
                "tensors of this checkpoint that no part of its model has"
            );
        }
    }

    pub(super) fn snapshot(self) -> Snapshot {
        let whole = Arc::new(Whole::new(self.checkpoint.source()));
        let views = self.pieces.into_iter().map(|(folder, pieces)| {
            let view: Arc<dyn TensorSource> = Arc::new(View::new(Arc::clone(&whole), pieces));
            (folder.to_owned(), view)
        });
        let beside = self.parts_beside.into_iter();
        let beside = beside.map(|(folder, weights)| (folder.to_owned(), weights));
        Snapshot::composed_of_parts(
            self.checkpoint.path().display().to_string(),
            self.files,
            views.chain(beside).collect(),
        )
    }
}

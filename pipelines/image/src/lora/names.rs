//! Everything that files call a part's modules, and what of a file's tensor is a module's. Apart from `key`, which knows no model.

use std::collections::HashMap;

use super::flux;
use super::key::{Place, plain};
use super::original::Original;
use super::{Layer, Shape};

/// A part's modules under all their names.
pub(super) struct Names {
    pub(super) modules: Vec<Module>,
    /// What is meant by a name: of an original layer that is several here, each of these.
    by_name: HashMap<String, Vec<Piece>>,
}

/// A module.
pub(super) struct Module {
    /// Its path as diffusers has it.
    pub(super) name: String,
    pub(super) shape: Shape,
}

/// What of a file's module is a module here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// The module here, by its place in the list.
    pub(super) module: usize,
    pub(super) rows: Rows,
}

/// Outputs of a file's module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rows {
    /// How many it has.
    pub(super) of: usize,
    /// Where those begin that are the module's here, and how many they are, one span after the other.
    pub(super) spans: Vec<(usize, usize)>,
}

impl Rows {
    /// All of a module's outputs.
    pub(super) fn all(outputs: usize) -> Self {
        Self {
            of: outputs,
            spans: vec![(0, outputs)],
        }
    }
}

impl Names {
    /// Of a part's layers.
    pub(super) fn new(place: Place, layers: &[Layer<'_>]) -> Self {
        let mut modules: Vec<Module> = Vec::new();
        for layer in layers {
            // A layer that is kept in parts is one module.
            if modules.last().is_none_or(|last| last.name != layer.name()) {
                modules.push(Module {
                    name: layer.name().to_owned(),
                    shape: layer.shape(),
                });
            }
        }
        let original = Original::new(modules.iter().map(|module| module.name.as_str()));
        let mut by_name: HashMap<String, Vec<Piece>> = HashMap::new();
        for (number, module) in modules.iter().enumerate() {
            let whole = Rows::all(module.shape.outputs);
            let own = plain(place, &module.name);
            let mut names: Vec<(String, Rows)> = own_names(&own)
                .into_iter()
                .map(|name| (name, whole.clone()))
                .collect();
            names.push((own, whole.clone()));
            if place == Place::Denoiser {
                let original = original.name(&module.name);
                names.extend(original.map(|name| (plain(place, &name), whole)));
                let flux = flux::original(&module.name, &module.shape);
                names.extend(flux.map(|(name, rows)| (plain(place, &name), rows)));
            }
            for (name, rows) in names {
                let piece = Piece {
                    module: number,
                    rows,
                };
                by_name.entry(name).or_default().push(piece);
            }
        }
        Self { modules, by_name }
    }

    /// What a file means by a name.
    pub(super) fn find(&self, name: &str) -> Option<&[Piece]> {
        self.by_name.get(name).map(Vec::as_slice)
    }
}

/// What old files of diffusers call attention's layers: all of one list of names, and the last without its place in a list.
fn own_names(name: &str) -> Option<String> {
    if let Some(attention) = name.strip_suffix("_to_out_0") {
        return Some(format!("{attention}_to_out"));
    }
    let (layer, letter) = match name.strip_suffix("_proj")? {
        rest if rest.ends_with("_out") => (rest.strip_suffix("_out")?, "out"),
        rest => (
            rest.strip_suffix(['q', 'k', 'v'])?.strip_suffix('_')?,
            rest.get(rest.len() - 1..)?,
        ),
    };
    layer
        .ends_with("self_attn")
        .then(|| format!("{layer}_to_{letter}"))
}

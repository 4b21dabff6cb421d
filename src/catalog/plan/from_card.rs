//! A plan without the files: what a model card says, made into the same shape as what headers say.

use super::PlanError;
use super::facts::{Facts, Picture, Text, Whisper, transformer_row, unet_row};
use super::measure::{Measured, Part};
use super::tensor::{Stored, Tensor};
use crate::catalog::{Card, Drawing, Hearing, Shape};

/// Frames of a window and tokens of a transcript: every published Whisper has these (openai-whisper's model.py).
const FRAMES: u64 = 1500;
const TOKENS: u64 = 448;
/// Pixels for a latent, and the last channels, of the autoencoders of all models that have a card (diffusers' AutoencoderKL with
/// block_out_channels 128, 256, 512, 512).
const FACTOR: u64 = 8;
const DECODER: u64 = 128;

/// Makes of a card what is known of its model.
///
/// # Errors
/// [`PlanError::Card`] with what the card does not say.
pub fn from_card(card: &Card) -> Result<Measured, PlanError> {
    let stored = match card.dtype.as_deref() {
        Some("f32") => Stored::F32,
        Some("f16") => Stored::F16,
        Some("bf16") => Stored::Bf16,
        _ => Stored::Float,
    };
    let (parts, facts) = if card.source.starts_with("mock") {
        (Vec::new(), Facts::Mock)
    } else if let Some(shape) = &card.shape {
        let facts = Facts::Text(text(card, shape));
        (vec![text_part(shape, stored)], facts)
    } else if let Some(hearing) = &card.hearing {
        let parameters = card
            .parameters
            .ok_or_else(|| lacks(card, "how many parameters it has"))?;
        let facts = Facts::Whisper(whisper(hearing));
        (vec![whole("", parameters, stored)], facts)
    } else if let Some(drawing) = &card.drawing {
        if card.components.is_empty() {
            return Err(lacks(card, "how many parameters its components have"));
        }
        let components = card.components.iter();
        let parts = components.map(|(name, numbers)| whole(name, *numbers, stored));
        (parts.collect(), Facts::Picture(picture(card, drawing)))
    } else {
        return Err(lacks(card, "its dimensions (shape, hearing or drawing)"));
    };
    let tensors = || parts.iter().flat_map(|part: &Part| &part.tensors);
    Ok(Measured {
        files: tensors().map(|tensor| tensor.bytes).sum(),
        facts,
        basis: match &card.source_of_numbers {
            Some(source) => format!("the card of {} ({source}), and not its files", card.id),
            None => format!("the card of {}", card.id),
        },
        parts,
        exact: false,
    })
}

fn lacks(card: &Card, missing: &'static str) -> PlanError {
    PlanError::Card {
        model: card.id.clone(),
        missing,
        remedy: "plan with its files (a directory, or the hub), or add a card that says it (--models-file)",
    }
}

fn whisper(hearing: &Hearing) -> Whisper {
    Whisper {
        width: hearing.width,
        decoder_layers: hearing.decoder_layers,
        encoder_layers: hearing.encoder_layers,
        heads: hearing.heads,
        encoder_heads: hearing.heads,
        feed_forward: 4 * hearing.width,
        vocab: hearing.vocab,
        frames: FRAMES,
        tokens: TOKENS,
    }
}

fn picture(card: &Card, drawing: &Drawing) -> Picture {
    let row_bytes = match card.components.contains_key("unet") {
        true => unet_row(drawing.channels),
        false => transformer_row(
            card.architecture.as_deref().unwrap_or_default(),
            drawing.channels,
        ),
    };
    Picture {
        row_bytes,
        usual: (drawing.side, drawing.side),
        factor: FACTOR,
        decoder: DECODER,
        upcast: drawing.upcast,
    }
}

fn text(card: &Card, shape: &Shape) -> Text {
    Text {
        architecture: card.architecture.clone().unwrap_or_default(),
        layers: shape.layers,
        heads: shape.heads,
        kv_heads: shape.kv_heads,
        head_dim: shape.head_dim,
        hidden: shape.hidden,
        // How many experts a token goes through is not in a card: all of them are the most.
        feed_forward: 3 * shape.intermediate * shape.experts.unwrap_or(1),
        vocab: shape.vocab,
        context: card.context,
        window: None,
        tied: shape.tied,
    }
}

/// A part of which only the number of weights is known. Where the card does not say how they are stored, f32 is the most.
fn whole(name: &str, numbers: u64, stored: Stored) -> Part {
    Part {
        name: name.to_owned(),
        tensors: vec![tensor(name.to_owned(), &[numbers], stored)],
    }
}

fn tensor(name: String, shape: &[u64], stored: Stored) -> Tensor {
    let width = match stored {
        Stored::F16 | Stored::Bf16 => 2,
        _ => 4,
    };
    let elements: u64 = shape.iter().product();
    Tensor {
        name,
        shape: shape.to_vec(),
        stored,
        bytes: elements * width,
    }
}

/// The tensors of a decoder, by the names that quantise-on-load tells them by.
fn text_part(shape: &Shape, stored: Stored) -> Part {
    let (q, kv) = (
        shape.heads * shape.head_dim,
        shape.kv_heads * shape.head_dim,
    );
    let (hidden, inner) = (shape.hidden, shape.intermediate);
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[u64]| {
        if shape.iter().all(|side| *side > 0) {
            tensors.push(tensor(name, shape, stored));
        }
    };
    add(
        "model.embed_tokens.weight".to_owned(),
        &[shape.vocab, hidden],
    );
    if !shape.tied {
        add("lm_head.weight".to_owned(), &[shape.vocab, hidden]);
    }
    for layer in 0..shape.layers {
        let name = |rest: &str| format!("model.layers.{layer}.{rest}");
        add(name("self_attn.q_proj.weight"), &[q, hidden]);
        add(name("self_attn.k_proj.weight"), &[kv, hidden]);
        add(name("self_attn.v_proj.weight"), &[kv, hidden]);
        add(name("self_attn.o_proj.weight"), &[hidden, q]);
        if shape.qkv_bias {
            add(name("self_attn.biases"), &[q + 2 * kv]);
        }
        for expert in 0..shape.experts.unwrap_or(1) {
            let of = |matrix: &str| name(&format!("mlp.experts.{expert}.{matrix}.weight"));
            add(of("gate_proj"), &[inner, hidden]);
            add(of("up_proj"), &[inner, hidden]);
            add(of("down_proj"), &[hidden, inner]);
        }
        add(
            name("mlp.gate.weight"),
            &[shape.experts.unwrap_or(0), hidden],
        );
        add(name("norms"), &[shape.norms.unwrap_or(2 * hidden)]);
    }
    add("model.norm.weight".to_owned(), &[hidden]);
    Part {
        name: String::new(),
        tensors,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    #[test]
    fn a_cards_tensors_have_as_many_numbers_as_the_card_says() {
        let catalog = Catalog::built_in().unwrap();
        let mut seen = 0;
        for card in catalog.cards() {
            let Ok(measured) = from_card(card) else {
                continue;
            };
            let tensors = measured.parts.iter().flat_map(|part| &part.tensors);
            let numbers: u64 = tensors.map(Tensor::elements).sum();
            assert_eq!(numbers, card.parameters.unwrap_or(0), "{}", card.id);
            if let Some(bytes) = card.weight_bytes {
                assert_eq!(measured.files, bytes, "{}", card.id);
            }
            seen += 1;
        }
        assert!(seen >= 50, "{seen}");
    }

    #[test]
    fn what_a_card_does_not_say_is_named() {
        let catalog = Catalog::built_in().unwrap();
        let error = from_card(catalog.find("gpt2").unwrap()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("gpt2 does not say its dimensions"),
            "{error}"
        );
    }
}

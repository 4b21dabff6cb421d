//! What FLUX's own code calls its modules, which kohya's trainer keeps: query, key and value are one layer there, and so are those and a
//! single block's feed-forward. Mirrors `diffusers` loaders/lora_conversion_utils.py (_convert_kohya_flux_lora_to_diffusers), the other
//! way round.

use super::Shape;
use super::names::Rows;

/// Modules outside the blocks.
const FIXED: [(&str, &str); 9] = [
    ("x_embedder", "img_in"),
    ("context_embedder", "txt_in"),
    (
        "time_text_embed.timestep_embedder.linear_1",
        "time_in.in_layer",
    ),
    (
        "time_text_embed.timestep_embedder.linear_2",
        "time_in.out_layer",
    ),
    (
        "time_text_embed.text_embedder.linear_1",
        "vector_in.in_layer",
    ),
    (
        "time_text_embed.text_embedder.linear_2",
        "vector_in.out_layer",
    ),
    (
        "time_text_embed.guidance_embedder.linear_1",
        "guidance_in.in_layer",
    ),
    (
        "time_text_embed.guidance_embedder.linear_2",
        "guidance_in.out_layer",
    ),
    ("proj_out", "final_layer.linear"),
];
/// Modules of a block of two sequences, whole.
const DOUBLE: [(&str, &str); 8] = [
    ("norm1.linear", "img_mod.lin"),
    ("norm1_context.linear", "txt_mod.lin"),
    ("attn.to_out.0", "img_attn.proj"),
    ("attn.to_add_out", "txt_attn.proj"),
    ("ff.net.0.proj", "img_mlp.0"),
    ("ff.net.2", "img_mlp.2"),
    ("ff_context.net.0.proj", "txt_mlp.0"),
    ("ff_context.net.2", "txt_mlp.2"),
];
/// Those that are a third of one.
const THIRDS: [(&str, &str, usize); 6] = [
    ("attn.to_q", "img_attn.qkv", 0),
    ("attn.to_k", "img_attn.qkv", 1),
    ("attn.to_v", "img_attn.qkv", 2),
    ("attn.add_q_proj", "txt_attn.qkv", 0),
    ("attn.add_k_proj", "txt_attn.qkv", 1),
    ("attn.add_v_proj", "txt_attn.qkv", 2),
];
/// Width inside a feed-forward layer, in widths of the stream.
const FEED_FORWARD: usize = 4;

/// The original's path of a module, and which of its outputs are this one's.
pub(super) fn original(module: &str, shape: &Shape) -> Option<(String, Rows)> {
    let whole = Rows::all(shape.outputs);
    if let Some((_, name)) = FIXED.iter().find(|(own, _)| *own == module) {
        return Some(((*name).to_owned(), whole));
    }
    if module == "norm_out.linear" {
        // The original has the shift first, diffusers the scale.
        let half = shape.outputs / 2;
        let rows = Rows {
            of: shape.outputs,
            spans: vec![(half, half), (0, half)],
        };
        return Some(("final_layer.adaLN_modulation.1".to_owned(), rows));
    }
    if let Some(inner) = module.strip_prefix("single_transformer_blocks.") {
        let (block, layer) = inner.split_once('.')?;
        let (name, rows) = single(layer, shape)?;
        return Some((format!("single_blocks.{block}.{name}"), rows));
    }
    let (block, layer) = module
        .strip_prefix("transformer_blocks.")?
        .split_once('.')?;
    let named = |name: &str| format!("double_blocks.{block}.{name}");
    if let Some((_, name)) = DOUBLE.iter().find(|(own, _)| *own == layer) {
        return Some((named(name), whole));
    }
    let (_, name, third) = THIRDS.iter().find(|(own, ..)| *own == layer)?;
    let rows = Rows {
        of: 3 * shape.outputs,
        spans: vec![(third * shape.outputs, shape.outputs)],
    };
    Some((named(name), rows))
}

/// Of a block of one sequence.
fn single(layer: &str, shape: &Shape) -> Option<(&'static str, Rows)> {
    let width = *shape.inputs.first()?;
    let within = |start: usize| Rows {
        of: (3 + FEED_FORWARD) * width,
        spans: vec![(start * width, shape.outputs)],
    };
    Some(match layer {
        "attn.to_q" => ("linear1", within(0)),
        "attn.to_k" => ("linear1", within(1)),
        "attn.to_v" => ("linear1", within(2)),
        "proj_mlp" => ("linear1", within(3)),
        "proj_out" => ("linear2", Rows::all(shape.outputs)),
        "norm.linear" => ("modulation.lin", Rows::all(shape.outputs)),
        _ => return None,
    })
}

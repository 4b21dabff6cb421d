//! What each tensor of a language model is to quantise-on-load, by its name: which are matrices, and which deserve more bits.
//! Apart from how it is done, which knows no model.

use chandler_nn::weights::quantize::Role;

/// The role of a tensor of a model of `layers` layers. What is not known stays as it is.
pub(crate) fn role(name: &str, layers: usize, tied: bool) -> Role {
    let Some(stem) = name.strip_suffix(".weight") else {
        return Role::Kept;
    };
    match stem.rsplit('.').next().unwrap_or(stem) {
        "lm_head" => Role::Head,
        // A table that is the head too is read whole for every token; otherwise a row of it is.
        "embed_tokens" if tied => Role::Head,
        "v_proj" | "down_proj" | "w2" if sensitive(layer(stem), layers) => Role::Sensitive,
        "q_proj" | "k_proj" | "v_proj" | "o_proj" | "qkv_proj" | "gate_proj" | "up_proj"
        | "gate_up_proj" | "down_proj" | "w1" | "w2" | "w3" => Role::Matrix,
        _ => Role::Kept,
    }
}

/// The number after `layers.`.
fn layer(stem: &str) -> Option<usize> {
    let (_, rest) = stem.split_once("layers.")?;
    rest.split('.').next()?.parse().ok()
}

/// llama.cpp's `use_more_bits` (src/llama-quant.cpp): the first and the last eighth of the layers, and every third between.
fn sensitive(layer: Option<usize>, layers: usize) -> bool {
    let eighth = layers / 8;
    layer
        .is_some_and(|layer| layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_are_told_from_what_is_kept() {
        let of = |name: &str| role(name, 16, false);
        assert_eq!(of("model.layers.3.self_attn.q_proj.weight"), Role::Matrix);
        assert_eq!(
            of("model.layers.3.mlp.experts.7.up_proj.weight"),
            Role::Matrix
        );
        assert_eq!(of("lm_head.weight"), Role::Head);
        for kept in [
            "model.embed_tokens.weight",
            "model.norm.weight",
            "model.layers.3.input_layernorm.weight",
            "model.layers.3.self_attn.q_proj.bias",
            "model.layers.3.mlp.gate.weight",
            "model.layers.3.block_sparse_moe.gate.weight",
            "transformer.wpe.weight",
        ] {
            assert_eq!(of(kept), Role::Kept, "{kept}");
        }
        assert_eq!(role("model.embed_tokens.weight", 16, true), Role::Head);
    }

    #[test]
    fn the_layers_that_get_more_bits_are_llama_cpps() {
        let more: Vec<usize> = (0..16)
            .filter(|layer| {
                let name = format!("model.layers.{layer}.self_attn.v_proj.weight");
                role(&name, 16, false) == Role::Sensitive
            })
            .collect();
        assert_eq!(more, [0, 1, 4, 7, 10, 13, 14, 15]);
    }
}

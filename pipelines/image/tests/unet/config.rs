//! What config.json asks for that is not there is refused by name.

use chandler_image::unet::UNetConfig;
use serde_json::{Value, json};

use crate::checkpoint::Checkpoint;

fn said(change: Value) -> String {
    let checkpoint = Checkpoint::open("unet", "sd1");
    match UNetConfig::of(&checkpoint.fields(change)) {
        Ok(config) => format!("{config:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_is_not_supported_is_refused_by_field_and_value() {
    for (change, expected) in [
        (
            json!({"_class_name": "UNet2DModel"}),
            "_class_name: \"UNet2DModel\" is not supported; \"UNet2DConditionModel\" is",
        ),
        (
            json!({"down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"]}),
            "down_block_types: `AttnDownBlock2D` is not supported; DownBlock2D and CrossAttnDownBlock2D are",
        ),
        (
            json!({"up_block_types": ["UpBlock2D"]}),
            "up_block_types: there are 1, and block_out_channels has 3",
        ),
        (
            json!({"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}),
            "mid_block_type: \"UNetMidBlock2DSimpleCrossAttn\" is not supported",
        ),
        (
            json!({"class_embed_type": "timestep"}),
            "class_embed_type: \"timestep\" is not supported; null is",
        ),
        (
            json!({"num_class_embeds": 10}),
            "num_class_embeds: 10 is not supported; null is",
        ),
        (
            json!({"encoder_hid_dim": 64}),
            "encoder_hid_dim: 64 is not supported; null is",
        ),
        (
            json!({"addition_embed_type": "text"}),
            "addition_embed_type: \"text\" is not supported; \"text_time\" is",
        ),
        (
            json!({"addition_embed_type": "text_time"}),
            "addition_time_embed_dim: it is missing or null",
        ),
        (
            json!({"resnet_time_scale_shift": "scale_shift"}),
            "resnet_time_scale_shift: \"scale_shift\" is not supported; \"default\" is",
        ),
        (
            json!({"dual_cross_attention": true}),
            "dual_cross_attention: true is not supported; false is",
        ),
        (
            json!({"attention_type": "gated"}),
            "attention_type: \"gated\" is not supported",
        ),
        (
            json!({"mid_block_scale_factor": 1.5}),
            "mid_block_scale_factor: 1.5 is not supported; 1 is",
        ),
        (
            json!({"act_fn": "mish"}),
            "act_fn: `mish` is not supported; silu, swish and gelu are",
        ),
        (
            json!({"attention_head_dim": 3}),
            "attention_head_dim: 3 heads do not divide 16 channels",
        ),
        (
            json!({"attention_head_dim": [2, 2]}),
            "attention_head_dim: [2,2] is neither a whole number nor a list of 3",
        ),
        (
            json!({"num_attention_heads": 2}),
            "num_attention_heads: 2 is not supported; null is",
        ),
        (
            json!({"norm_num_groups": 5}),
            "block_out_channels: 16 channels are not whole groups of 5",
        ),
        (
            json!({"block_out_channels": []}),
            "block_out_channels: [] is not a list of 1 to 8 whole numbers",
        ),
        (
            json!({"block_out_channels": [16, 1e9]}),
            "block_out_channels: [16,1000000000.0] is not a list",
        ),
        (
            json!({"transformer_layers_per_block": [1, [1, 2], 1]}),
            "reverse_transformer_layers_per_block: it is missing",
        ),
        (
            json!({"transformer_layers_per_block": 65}),
            "transformer_layers_per_block: 65 is neither a whole number up to 64",
        ),
        (json!({"conv_in_kernel": 4}), "conv_in_kernel: 4 is even"),
        (
            json!({"time_embedding_type": "fourier"}),
            "time_embedding_type: \"fourier\" is not supported; \"positional\" is",
        ),
        (
            json!({"freq_shift": 9}),
            "16 numbers are no waves with a freq_shift of 9",
        ),
        (
            json!({"only_cross_attention": "yes"}),
            "only_cross_attention: \"yes\" is neither true or false nor a list of 3",
        ),
        (
            json!({"sample_size": [64]}),
            "sample_size: [64] is neither a number nor height and width",
        ),
    ] {
        let said = said(change.clone());
        assert!(said.contains(expected), "{change}: {said}");
    }
}

#[test]
fn a_config_without_fields_is_diffusers_default() {
    let nothing = chandler_nn::fields::Fields::none("config.json");
    let config = UNetConfig::of(&nothing).unwrap();
    let channels: Vec<usize> = config.up.iter().map(|block| block.channels).collect();
    assert_eq!(channels, [1280, 1280, 640, 320]);
    let crossed = |blocks: &[chandler_image::unet::config::BlockConfig]| -> Vec<bool> {
        blocks
            .iter()
            .map(|block| block.transformers.is_some())
            .collect()
    };
    assert_eq!(crossed(&config.contracting.down), [true, true, true, false]);
    assert_eq!(crossed(&config.up), [false, true, true, true]);
    assert_eq!(config.contracting.mid.unwrap().sizes.context, 1280);
    assert_eq!(config.contracting.time.width, 1280);
}

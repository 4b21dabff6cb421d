//! Names as published files have them: what each is of.

use super::key::{Item, Key, Place};
use super::original::Original;
use super::{Shape, flux};

fn key(name: &str) -> (Place, String, Item) {
    let Key {
        place,
        module,
        item,
    } = Key::parse(name).unwrap();
    (place, module, item)
}

#[test]
fn names_of_all_trainers_are_taken_apart() {
    let q = "down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_q";
    for (name, item) in [
        (
            "unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q.lora_A.weight",
            Item::Down,
        ),
        (
            "unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q.lora.up.weight",
            Item::Up,
        ),
        (
            "unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.processor.to_q_lora.down.weight",
            Item::Down,
        ),
        (
            "down_blocks.0.attentions.1.transformer_blocks.0.attn1.processor.to_q_lora.up.weight",
            Item::Up,
        ),
        (
            "base_model.model.down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q.lora_B.weight",
            Item::Up,
        ),
        (
            "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_q.lora_down.weight",
            Item::Down,
        ),
        (
            "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_q.alpha",
            Item::Alpha,
        ),
    ] {
        assert_eq!(key(name), (Place::Denoiser, q.to_owned(), item), "{name}");
    }
    let fc1 = "encoder_layers_3_mlp_fc1";
    for (name, encoder) in [
        (
            "lora_te_text_model_encoder_layers_3_mlp_fc1.lora_up.weight",
            1,
        ),
        (
            "lora_te2_text_model_encoder_layers_3_mlp_fc1.lora_up.weight",
            2,
        ),
        (
            "text_encoder.text_model.encoder.layers.3.mlp.fc1.lora_linear_layer.up.weight",
            1,
        ),
        ("text_encoder_2.encoder.layers.3.mlp.fc1.lora_B.weight", 2),
    ] {
        let place = Place::TextEncoder(encoder);
        assert_eq!(key(name), (place, fc1.to_owned(), Item::Up), "{name}");
    }
}

/// The modules of a UNet that say how many layers its blocks have.
fn blocks(down: &[(usize, bool)], layers: usize) -> Vec<String> {
    let mut names = Vec::new();
    for (block, (count, attends)) in down.iter().enumerate() {
        let above = down.len() - 1 - block;
        for layer in 0..*count {
            names.push(format!("down_blocks.{block}.resnets.{layer}.conv1"));
        }
        for layer in 0..layers {
            names.push(format!("up_blocks.{above}.resnets.{layer}.conv1"));
            if *attends {
                names.push(format!("up_blocks.{above}.attentions.{layer}.proj_in"));
            }
        }
    }
    names
}

#[test]
fn blocks_are_counted_through_as_the_original_counts_them() {
    let xl = blocks(&[(2, false), (2, true), (2, true)], 3);
    let xl = Original::new(xl.iter().map(String::as_str));
    for (name, theirs) in [
        (
            "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
            "input_blocks.4.1.transformer_blocks.0.attn1.to_q",
        ),
        ("down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op"),
        (
            "down_blocks.2.resnets.1.time_emb_proj",
            "input_blocks.8.0.emb_layers.1",
        ),
        ("mid_block.attentions.0.proj_in", "middle_block.1.proj_in"),
        ("mid_block.resnets.1.conv2", "middle_block.2.out_layers.3"),
        (
            "up_blocks.1.attentions.2.proj_out",
            "output_blocks.5.1.proj_out",
        ),
        ("up_blocks.1.upsamplers.0.conv", "output_blocks.5.2.conv"),
        (
            "up_blocks.2.resnets.0.conv_shortcut",
            "output_blocks.6.0.skip_connection",
        ),
        ("add_embedding.linear_2", "label_emb.0.2"),
        ("conv_out", "out.2"),
    ] {
        assert_eq!(xl.name(name).as_deref(), Some(theirs), "{name}");
    }
    let first = blocks(&[(2, true), (2, true), (2, true), (2, false)], 3);
    let first = Original::new(first.iter().map(String::as_str));
    for (name, theirs) in [
        ("up_blocks.0.upsamplers.0.conv", "output_blocks.2.1.conv"),
        ("up_blocks.3.attentions.2.norm", "output_blocks.11.1.norm"),
        (
            "down_blocks.3.resnets.1.conv1",
            "input_blocks.11.0.in_layers.2",
        ),
    ] {
        assert_eq!(first.name(name).as_deref(), Some(theirs), "{name}");
    }
    assert_eq!(first.name("transformer_blocks.0.attn.to_q"), None);
}

#[test]
fn a_layer_of_flux_is_some_rows_of_an_original_one() {
    let shape = |inputs: usize, outputs: usize| Shape {
        inputs: vec![inputs],
        outputs,
    };
    let of = |name: &str, shape: &Shape| {
        let (name, rows) = flux::original(name, shape).unwrap();
        (name, rows.of, rows.spans)
    };
    let square = shape(3072, 3072);
    let single = "single_transformer_blocks.7";
    assert_eq!(
        of(&format!("{single}.proj_mlp"), &shape(3072, 12288)),
        (
            "single_blocks.7.linear1".to_owned(),
            21504,
            vec![(9216, 12288)]
        )
    );
    assert_eq!(
        of(&format!("{single}.attn.to_k"), &square),
        (
            "single_blocks.7.linear1".to_owned(),
            21504,
            vec![(3072, 3072)]
        )
    );
    assert_eq!(
        of("transformer_blocks.0.attn.add_v_proj", &square),
        (
            "double_blocks.0.txt_attn.qkv".to_owned(),
            9216,
            vec![(6144, 3072)]
        )
    );
    assert_eq!(
        of("norm_out.linear", &shape(3072, 6144)),
        (
            "final_layer.adaLN_modulation.1".to_owned(),
            6144,
            vec![(3072, 3072), (0, 3072)]
        )
    );
}

//! Files that cannot be used: each is refused with what is wrong and where.

use std::collections::BTreeMap;

use candle_core::DType;
use chandler_nn::weights::HostTensor;
use serde_json::{Value, json};

use super::{Parts, written};

const MODULE: &str = "lora_unet_mid_block_attentions_0_proj_in";

fn zeros(name: &str, shape: &[usize]) -> HostTensor {
    let count: usize = shape.iter().product();
    HostTensor::from_bytes(name, DType::F16, shape.to_vec(), vec![0; 2 * count]).unwrap()
}

fn refused(tensors: &[(&str, &[usize])], texts: Value) -> String {
    let tensors: BTreeMap<String, HostTensor> = tensors
        .iter()
        .map(|(name, shape)| ((*name).to_owned(), zeros(name, shape)))
        .collect();
    let written = written("bad", &tensors, texts);
    let error = Parts::of("sd").attach(&[written.file]).unwrap_err();
    assert!(error.starts_with("adapter bad: "), "{error}");
    error
}

/// A pair for one layer of 24 channels, and more beside it.
fn with(more: &[(&str, &[usize])]) -> String {
    let (down, up) = (
        format!("{MODULE}.lora_down.weight"),
        format!("{MODULE}.lora_up.weight"),
    );
    let pair: [(&str, &[usize]); 2] = [(&down, &[2, 24, 1, 1]), (&up, &[24, 2])];
    refused(&[&pair, more].concat(), json!({}))
}

#[test]
fn other_kinds_of_adapters_are_refused_by_name() {
    for (name, kind) in [
        ("hada_w1_a", "LoHa"),
        ("lokr_w1", "LoKr"),
        ("dora_scale", "DoRA"),
        ("lora_mid.weight", "Tucker"),
        ("diff", "a whole layer's difference"),
        ("lora_up.bias", "a bias beside a pair"),
        ("weight", "no part of a LoRA pair"),
    ] {
        let error = with(&[(&format!("{MODULE}.{name}"), &[2])]);
        assert!(
            error.contains(kind) && error.contains(MODULE),
            "{name}: {error}"
        );
    }
    let magnitude = "unet.mid_block.attentions.0.proj_in.lora_magnitude_vector";
    assert!(with(&[(magnitude, &[24])]).contains("DoRA"));
}

#[test]
fn keys_of_another_model_are_named_and_the_message_is_bounded() {
    let names: Vec<String> = (0..50)
        .map(|n| format!("unet.down_blocks.9.attentions.{n}.to_q.lora_A.weight"))
        .collect();
    let tensors: Vec<(&str, &[usize])> = names
        .iter()
        .map(|name| (name.as_str(), &[1usize, 16][..]))
        .collect();
    let error = with(&tensors);
    assert!(error.contains("unet.down_blocks.9.attentions.0.to_q"));
    assert!(
        error.contains("and 46 more: unet has no such module"),
        "{error}"
    );
    assert!(error.len() < 600, "{}", error.len());
    for (name, said) in [
        ("lora_te2_encoder_layers_0_mlp_fc1.alpha", "text encoder 2"),
        ("lora_te3_encoder_block_0.alpha", "text encoder 3"),
    ] {
        let error = with(&[(name, &[1])]);
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn pairs_that_are_not_whole_or_do_not_fit_are_refused() {
    let other = "lora_unet_mid_block_attentions_0_proj_out";
    let (down, up) = (
        format!("{other}.lora_down.weight"),
        format!("{other}.lora_up.weight"),
    );
    assert!(with(&[(&down, &[2, 24])]).contains("only one"));
    assert!(with(&[(&format!("{other}.alpha"), &[1])]).contains("only one"));
    let error = with(&[(&down, &[2, 25]), (&up, &[24, 2])]);
    assert!(
        error.contains("[2, 25]") && error.contains("rank 2"),
        "{error}"
    );
    let error = with(&[(&down, &[2, 24, 3, 3]), (&up, &[24, 2])]);
    assert!(error.contains("[2, 24, 3, 3]"), "{error}");
    let error = with(&[(&down, &[2, 24]), (&up, &[24, 3])]);
    assert!(error.contains("[24, 3]"), "{error}");
    let alpha = format!("{MODULE}.alpha");
    assert!(with(&[(&alpha, &[2])]).contains("not one finite number"));
    // The same layer under the names of two trainers.
    let twice = "unet.mid_block.attentions.0.proj_in";
    let error = with(&[
        (&format!("{twice}.lora_A.weight"), &[2, 24]),
        (&format!("{twice}.lora_B.weight"), &[24, 2]),
    ]);
    assert!(error.contains("two names"), "{error}");
    assert!(refused(&[], json!({})).contains("no tensors"));
}

#[test]
fn settings_in_the_file_are_honoured_or_refused() {
    let module = "unet.mid_block.attentions.0.proj_in";
    let (down, up) = (
        format!("{module}.lora_A.weight"),
        format!("{module}.lora_B.weight"),
    );
    let pair: [(&str, &[usize]); 2] = [(&down, &[2, 24]), (&up, &[24, 2])];
    let with = |settings: Value, tensors: &[(&str, &[usize])]| {
        refused(
            tensors,
            json!({"lora_adapter_metadata": settings.to_string()}),
        )
    };
    let common = json!({"unet.r": 2, "unet.lora_alpha": 2, "unet.target_modules": ["proj_in"]});
    let mut dora = common.clone();
    dora["unet.use_dora"] = json!(true);
    assert!(with(dora, &pair).contains("use_dora"));
    let mut rank = common.clone();
    rank["unet.r"] = json!(4);
    assert!(with(rank, &pair).contains("rank 4"));
    let alpha = format!("{module}.alpha");
    let both = [&pair[..], &[(&alpha, &[1][..])]].concat();
    assert!(with(common, &both).contains("both"));
}

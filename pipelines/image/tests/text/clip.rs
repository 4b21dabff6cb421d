//! CLIP's encoders against what diffusers' Stable Diffusion pipelines give of the same prompts, and configurations that cannot be.

use candle_core::Tensor;
use chandler_image::layers::Loader;
use chandler_image::prompt::chunks::Chunks;
use chandler_image::prompt::compose;
use chandler_image::prompt::encode::{PromptEmbedding, encode, weigh};
use chandler_image::text_encoder::clip::{ClipTextModel, HiddenState, Wanted};
use chandler_image::text_encoder::clip_config::{ClipClass, ClipConfig, Pooling};
use chandler_nn::fields::Fields;
use chandler_nn::lora::AdapterRows;
use serde_json::json as object;

use super::tokenizer::{chunks, tokenizer};
use super::*;
use crate::checkpoint::placement;

const TOLERANCE: f32 = 2e-5;

fn load(folder: &str, class: ClipClass) -> ClipTextModel {
    let file = format!("{folder}/config.json");
    let fields = Fields::read(&snapshot("clip"), &file).unwrap().unwrap();
    let config = ClipConfig::read(&fields, class).unwrap();
    let weights = snapshot(&format!("clip/{folder}")).weights().unwrap();
    let placement = placement();
    ClipTextModel::load(config, &Loader::new(weights.as_ref(), &placement)).unwrap()
}

fn prompts(folder: &str) -> Vec<Chunks> {
    let tokenizer = tokenizer(folder);
    let prompts = texts(&json("clip/expected.json")["prompts"]);
    prompts
        .iter()
        .map(|text| chunks(&tokenizer, text))
        .collect()
}

fn wanted(hidden: HiddenState) -> Wanted {
    Wanted {
        hidden,
        pooled: true,
    }
}

fn run(model: &ClipTextModel, prompts: &[Chunks], wanted: Wanted) -> Vec<PromptEmbedding> {
    let prompts: Vec<&Chunks> = prompts.iter().collect();
    encode(model, &prompts, wanted, &AdapterRows::default()).unwrap()
}

fn hidden(found: &[PromptEmbedding]) -> Tensor {
    let each: Vec<&Tensor> = found.iter().map(|one| &one.hidden).collect();
    Tensor::stack(&each, 0).unwrap()
}

fn pooled(found: &[PromptEmbedding]) -> Tensor {
    let each: Vec<&Tensor> = found
        .iter()
        .map(|one| one.pooled.as_ref().unwrap())
        .collect();
    Tensor::stack(&each, 0).unwrap()
}

#[test]
fn stable_diffusion_gets_what_its_pipeline_gives() {
    let expected = tensors("clip/expected.safetensors");
    let (model, prompts) = (load("text_encoder", ClipClass::Plain), prompts("tokenizer"));
    assert_eq!(model.config().pooling, Pooling::HighestId);
    for skip in [0, 2] {
        let found = run(&model, &prompts, wanted(HiddenState::Normed { skip }));
        close(&hidden(&found), &expected[&format!("sd.{skip}")], TOLERANCE);
        close(&pooled(&found), &expected["pooled"], TOLERANCE);
    }
    let empty = run(
        &model,
        &prompts[1..2],
        Wanted {
            hidden: HiddenState::Normed { skip: 0 },
            pooled: false,
        },
    );
    assert!(empty[0].pooled.is_none());
    close(&hidden(&empty), &expected["sd.negative"], TOLERANCE);
    // SD 2's encoder: no projection, whatever there is in the file.
    let model = load("text_encoder_2", ClipClass::Plain);
    let found = run(
        &model,
        &self::prompts("tokenizer_2"),
        wanted(HiddenState::Normed { skip: 0 }),
    );
    close(&hidden(&found), &expected["sd2"], TOLERANCE);
}

#[test]
fn stable_diffusion_xl_gets_what_its_pipeline_gives() {
    let expected = tensors("clip/expected.safetensors");
    let l = load("text_encoder", ClipClass::Plain);
    let g = load("text_encoder_2", ClipClass::Projected);
    assert!(matches!(g.config().pooling, Pooling::FirstOf(_)));
    let (to_l, to_g) = (prompts("tokenizer"), prompts("tokenizer_2"));
    for skip in [0, 1] {
        let wanted = wanted(HiddenState::Penultimate { skip });
        let (of_l, of_g) = (run(&l, &to_l, wanted), run(&g, &to_g, wanted));
        let both = Tensor::cat(&[hidden(&of_l), hidden(&of_g)], 2).unwrap();
        close(&both, &expected[&format!("sdxl.{skip}")], TOLERANCE);
        close(&pooled(&of_g), &expected["sdxl.pooled"], TOLERANCE);
    }
}

#[test]
fn long_and_weighed_prompts_follow_the_formula() {
    let expected = tensors("clip/expected.safetensors");
    let (model, tokenizer) = (
        load("text_encoder", ClipClass::Plain),
        tokenizer("tokenizer"),
    );
    let long = json("clip/expected.json")["long"]
        .as_str()
        .unwrap()
        .to_owned();
    let weighed = format!("(the red cat:1.3) {long} (blue sky:0.5) sun");
    let prompts = [
        chunks(&tokenizer, &long),
        chunks(&tokenizer, ""),
        chunks(&tokenizer, &weighed),
    ];
    assert!(prompts[0].count() > 1 && prompts[2].count() > 2);
    let wanted = wanted(HiddenState::Normed { skip: 0 });
    let found = run(&model, &prompts, wanted);
    close(&found[0].hidden, &expected["long"], TOLERANCE);
    close(&found[2].hidden, &expected["weighed"], 1e-4);
    // The pooled embedding is the first chunk's.
    let first = model
        .forward(
            &[&prompts[0].as_slice()[0].tokens],
            wanted,
            &AdapterRows::default(),
        )
        .unwrap();
    assert_eq!(
        numbers(found[0].pooled.as_ref().unwrap()),
        numbers(&first.pooled.unwrap())
    );
    for (prompt, together) in prompts.iter().zip(&found) {
        let alone = run(&model, std::slice::from_ref(prompt), wanted);
        assert_eq!(numbers(&alone[0].hidden), numbers(&together.hidden));
        assert_eq!(
            numbers(alone[0].pooled.as_ref().unwrap()),
            numbers(together.pooled.as_ref().unwrap())
        );
    }
}

#[test]
fn weights_that_cancel_the_mean_only_multiply() {
    let hidden = Tensor::new(&[[1f32, 3.0], [1.0, 1.0]], &Device::Cpu).unwrap();
    assert_eq!(
        numbers(&weigh(&hidden, &[1.0, 1.0]).unwrap()),
        [1.0, 3.0, 1.0, 1.0]
    );
    // The means are 1.5 and 1.
    assert_eq!(
        numbers(&weigh(&hidden, &[0.5, 1.0]).unwrap()),
        [0.75, 2.25, 1.5, 1.5]
    );
    assert_eq!(
        numbers(&weigh(&hidden, &[1.0, -2.0]).unwrap()),
        [1.0, 3.0, -2.0, -2.0]
    );
    assert!(weigh(&hidden, &[1.0]).is_err());
}

#[test]
fn texts_of_several_encoders_become_one() {
    let tensor = |rows: &[[f32; 2]; 2]| Tensor::new(rows, &Device::Cpu).unwrap();
    let clip = tensor(&[[1.0, 2.0], [3.0, 4.0]]);
    let both = compose::beside(&[&clip, &tensor(&[[5.0, 6.0], [7.0, 8.0]])]).unwrap();
    let rows: Vec<Vec<f32>> = both.to_vec2().unwrap();
    assert_eq!(rows, [[1.0, 2.0, 5.0, 6.0], [3.0, 4.0, 7.0, 8.0]]);
    let t5 = Tensor::new(&[[9f32, 8.0, 7.0]], &Device::Cpu).unwrap();
    let text = compose::before_t5(&clip, &t5).unwrap();
    let rows: Vec<Vec<f32>> = text.to_vec2().unwrap();
    assert_eq!(rows, [[1.0, 2.0, 0.0], [3.0, 4.0, 0.0], [9.0, 8.0, 7.0]]);
    assert!(compose::before_t5(&both, &t5).is_err());
    let none = compose::no_t5((2, 3), &t5).unwrap();
    assert_eq!(numbers(&none), [0.0; 6]);
}

#[test]
fn texts_that_cannot_be_encoded_are_refused() {
    let model = load("text_encoder", ClipClass::Plain);
    let wanted = wanted(HiddenState::Normed { skip: 0 });
    let none = AdapterRows::default();
    let error = |texts: &[&[u32]]| {
        let found = model.forward(texts, wanted, &none);
        found.unwrap_err().to_string()
    };
    assert!(error(&[]).contains("all of one length from 1 to 21"));
    assert!(error(&[&[1, 2], &[1]]).contains("[2, 1] tokens"));
    assert!(error(&[&[0; 22]]).contains("[22] tokens"));
    assert!(error(&[&[550]]).contains("row 550"));
    for hidden in [
        HiddenState::Normed { skip: 4 },
        HiddenState::Penultimate { skip: 3 },
        HiddenState::Penultimate { skip: usize::MAX },
    ] {
        let wanted = Wanted {
            hidden,
            pooled: false,
        };
        let error = model.forward(&[&[1]], wanted, &none).unwrap_err();
        assert!(
            error.to_string().contains("layers left out of 3"),
            "{error}"
        );
    }
}

#[test]
fn configurations_that_cannot_be_name_the_field() {
    let said = |field: &str, value: Value| {
        let mut config = json("clip/text_encoder/config.json");
        config[field] = value;
        let fields = Fields::of("text_encoder/config.json", config);
        match ClipConfig::read(&fields, ClipClass::Plain) {
            Ok(config) => panic!("{config:?}"),
            Err(error) => error.to_string(),
        }
    };
    for (field, value) in [
        ("hidden_act", object!("mish")),
        ("num_attention_heads", object!(5)),
        ("hidden_size", object!(1 << 20)),
        ("num_hidden_layers", object!(0)),
        ("max_position_embeddings", object!(2)),
        ("layer_norm_eps", object!(0)),
        ("use_attention_mask", object!(true)),
        ("vocab_size", Value::Null),
    ] {
        let error = said(field, value);
        let place = format!("text_encoder/config.json: {field}: ");
        assert!(error.starts_with(&place), "{error}");
    }
    assert!("CLIPVisionModel".parse::<ClipClass>().is_err());
}

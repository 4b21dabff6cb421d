//! T5's encoder and tokenizer against what diffusers' SD 3 and FLUX pipelines give of the same prompts.

use chandler_image::layers::Loader;
use chandler_image::prompt::t5_text::T5Text;
use chandler_image::prompt::t5_tokenizer::T5Tokenizer;
use chandler_image::prompt::weighting::{Syntax, parse};
use chandler_image::text_encoder::t5::T5Encoder;
use chandler_image::text_encoder::t5_config::T5Config;
use chandler_nn::activation::Activation;
use chandler_nn::fields::Fields;
use serde_json::json as object;

use super::*;
use crate::checkpoint::placement;

fn config() -> Value {
    json("t5/text_encoder/config.json")
}

fn read(config: Value) -> Result<T5Config, String> {
    T5Config::read(&Fields::of("config.json", config)).map_err(|error| error.to_string())
}

fn load() -> T5Encoder {
    let weights = snapshot("t5/text_encoder").weights().unwrap();
    let placement = placement();
    let loader = Loader::new(weights.as_ref(), &placement);
    T5Encoder::load(read(config()).unwrap(), &loader).unwrap()
}

fn padded() -> Vec<Vec<u32>> {
    let expected = json("t5/expected.json");
    let each = expected["padded"].as_array().unwrap().iter();
    each.map(ids).collect()
}

#[test]
fn texts_are_cut_and_padded_as_transformers_does_it() {
    let tokenizer = T5Tokenizer::from_snapshot(&snapshot("t5"), "tokenizer").unwrap();
    let expected = json("t5/expected.json");
    let lengths = ids(&expected["lengths"]);
    let prompts = texts(&expected["prompts"]);
    for ((prompt, wanted), length) in prompts.iter().zip(padded()).zip(lengths) {
        let pieces = parse(prompt, Syntax::Plain, "prompt").unwrap();
        let mut text = T5Text::new(&tokenizer, &pieces, "prompt").unwrap();
        assert_eq!(text.tokens().len(), length as usize, "{prompt:?}");
        let left_out = (length as usize).saturating_sub(wanted.len());
        assert_eq!(text.fit(wanted.len()), left_out);
        assert_eq!(text.tokens(), wanted, "{prompt:?}");
    }
    let missing = T5Tokenizer::from_snapshot(&snapshot("t5"), "text_encoder").unwrap_err();
    let missing = missing.to_string();
    assert!(
        missing.ends_with("text_encoder/tokenizer.json: it is missing, and so is spiece.model"),
        "{missing}"
    );
}

#[test]
fn a_sentencepiece_model_is_read_as_transformers_reads_it() {
    let tokenizer = T5Tokenizer::from_snapshot(&snapshot("t5"), "spiece").unwrap();
    assert_eq!((tokenizer.pad(), tokenizer.end()), (0, 1));
    let expected = json("t5/spiece/expected.json");
    let prompts = texts(&expected["prompts"]);
    let wanted = expected["ids"].as_array().unwrap().iter().map(ids);
    assert_eq!(prompts.len(), 5);
    for (prompt, wanted) in prompts.iter().zip(wanted) {
        assert_eq!(tokenizer.ids(prompt).unwrap(), wanted, "{prompt:?}");
    }
}

#[test]
fn weights_multiply_what_their_tokens_became() {
    let tokenizer = T5Tokenizer::from_snapshot(&snapshot("t5"), "tokenizer").unwrap();
    let text = |prompt: &str| {
        let pieces = parse(prompt, Syntax::Weighted, "prompt").unwrap();
        let mut text = T5Text::new(&tokenizer, &pieces, "prompt").unwrap();
        text.fit(9);
        text
    };
    let (plain, weighed) = (
        text("The red cat BREAK on"),
        text("The (red:1.5) cat BREAK on"),
    );
    assert_eq!(plain.tokens(), weighed.tokens());
    let (ones, (rows, width)) = (
        Tensor::ones((9, 2), DType::F32, &Device::Cpu).unwrap(),
        (9, 2),
    );
    assert_eq!(
        numbers(&plain.weigh(&ones).unwrap()),
        vec![1.0; rows * width]
    );
    let red = tokenizer.ids("red").unwrap();
    let at = plain
        .tokens()
        .windows(red.len())
        .position(|some| some == red)
        .unwrap();
    let of = |row: usize| {
        if (at..at + red.len()).contains(&row) {
            1.5
        } else {
            1.0
        }
    };
    let expected: Vec<f32> = (0..rows).flat_map(|row| [of(row); 2]).collect();
    assert_eq!(numbers(&weighed.weigh(&ones).unwrap()), expected);
}

#[test]
fn hidden_states_are_those_of_the_pipelines_alone_and_together() {
    let (model, texts) = (load(), padded());
    let expected = &tensors("t5/expected.safetensors")["hidden"];
    let together: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let found = model.forward(&together).unwrap();
    close(&found, expected, 2e-5);
    for (number, text) in together.iter().enumerate() {
        let alone = model.forward(&[text]).unwrap();
        same(&alone.get(0).unwrap(), &found.get(number).unwrap());
    }
    let lengths: Vec<usize> = together.iter().map(|text| text.len()).collect();
    let mut passing = model.begin(&together, &lengths).unwrap();
    assert!(!model.advance(&mut passing).unwrap());
    assert!(model.finish(&passing).is_err(), "not through all layers");
}

#[test]
fn padding_that_is_not_looked_at_says_nothing() {
    let model = load();
    let (short, long) = (&[5, 7, 9, 1][..], &[8, 4, 6, 3, 2, 5, 1][..]);
    let padded = [short, &[0; 3]].concat();
    let mut passing = model.begin(&[&padded, long], &[4, 7]).unwrap();
    while !model.advance(&mut passing).unwrap() {}
    let together = model.finish(&passing).unwrap();
    for (number, text) in [short, long].into_iter().enumerate() {
        let alone = model.forward(&[text]).unwrap().get(0).unwrap();
        let own = together.get(number).unwrap();
        close(&own.narrow(0, 0, text.len()).unwrap(), &alone, 1e-6);
    }
    for seen in [&[4][..], &[0, 7], &[4, 8]] {
        assert!(model.begin(&[&padded, long], seen).is_err(), "{seen:?}");
    }
}

#[test]
fn distances_are_sorted_as_transformers_sorts_them() {
    let expected = json("t5/expected.json");
    for (buckets, max_distance) in [(32, 128), (12, 29)] {
        let config = T5Config {
            buckets,
            max_distance,
            ..read(config()).unwrap()
        };
        let wanted = ids(&expected["buckets"][format!("{buckets} {max_distance}")]);
        let found: Vec<u32> = (-200..=200).map(|n| config.bucket(n) as u32).collect();
        assert_eq!(found, wanted);
    }
}

#[test]
fn configurations_say_the_feed_forward_layer_and_name_what_cannot_be() {
    let with = |field: &str, value: Value| {
        let mut config = config();
        config[field] = value;
        read(config)
    };
    for (written, activation, gated) in [
        ("gated-gelu", Activation::GeluTanh, true),
        ("gated-silu", Activation::Silu, true),
        ("relu", Activation::Relu, false),
        ("gelu", Activation::Gelu, false),
    ] {
        let config = with("feed_forward_proj", written.into()).unwrap();
        assert_eq!((config.activation, config.gated), (activation, gated));
    }
    for (field, value) in [
        ("feed_forward_proj", object!("gated-mish")),
        ("is_decoder", object!(true)),
        ("d_kv", object!(0)),
        ("num_layers", object!(1000)),
        ("relative_attention_num_buckets", object!(10)),
        ("relative_attention_max_distance", object!(3)),
        ("layer_norm_epsilon", object!(-1)),
    ] {
        let error = with(field, value).unwrap_err();
        assert!(
            error.starts_with(&format!("config.json: {field}: ")),
            "{error}"
        );
    }
}

#[test]
fn texts_that_cannot_be_encoded_are_refused() {
    let model = load();
    let error = |texts: &[&[u32]]| match model.forward(texts) {
        Ok(found) => panic!("{found}"),
        Err(error) => error.to_string(),
    };
    assert!(error(&[]).contains("all of one length from 1 to 2048"));
    assert!(error(&[&[1], &[1, 2]]).contains("[1, 2] tokens"));
    assert!(error(&[&[60_000]]).contains("row 60000"));
}

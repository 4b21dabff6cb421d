//! Plans whose numbers were published or can be worked out on paper, and what is refused.

use std::ops::Range;

use super::*;
use crate::catalog::Catalog;

/// Files that are written out here.
#[derive(Default)]
struct Made(Vec<(String, Vec<u8>)>);

impl Made {
    fn with(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.push((path.to_owned(), bytes.into()));
        self
    }

    /// A safetensors file of these tensors; its numbers are zeros.
    fn weights(self, path: &str, tensors: &[(&str, &str, &[u64])]) -> Self {
        let mut header = serde_json::Map::new();
        let mut end = 0;
        for (name, dtype, shape) in tensors {
            let width = if *dtype == "F32" { 4 } else { 2 };
            let begin = end;
            end += shape.iter().product::<u64>() * width;
            let entry =
                serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]});
            header.insert((*name).to_owned(), entry);
        }
        let header = serde_json::to_vec(&header).unwrap();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(&header);
        bytes.resize(bytes.len() + end as usize, 0);
        self.with(path, bytes)
    }
}

impl Files for Made {
    fn list(&self) -> Vec<(String, u64)> {
        let sizes = self.0.iter();
        sizes
            .map(|(path, bytes)| (path.clone(), bytes.len() as u64))
            .collect()
    }

    fn read(
        &self,
        path: &str,
        range: Range<u64>,
    ) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
        let (_, bytes) = self
            .0
            .iter()
            .find(|(name, _)| name == path)
            .ok_or("not there")?;
        let bytes = bytes.get(range.start as usize..range.end as usize);
        Ok(bytes.ok_or("no such bytes")?.to_vec())
    }
}

fn card(name: &str, asked: &Asked) -> Plan {
    planned(name, asked).unwrap()
}

fn planned(name: &str, asked: &Asked) -> Result<Plan, PlanError> {
    let catalog = Catalog::built_in().unwrap();
    let measured = from_card(catalog.find(name).unwrap())?;
    Plan::new(name, &measured, asked, catalog.hardware())
}

fn line<'a>(lines: &'a [Line], part: &str) -> &'a Line {
    let found = lines.iter().find(|line| line.part == part);
    found.unwrap_or_else(|| panic!("{part} is not among {lines:?}"))
}

const LLAMA: &str = r#"{"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "hidden_size": 64, "intermediate_size": 128, "vocab_size": 100, "max_position_embeddings": 256}"#;

#[test]
fn llama_8b_has_its_published_weights_and_128_kib_of_cache_a_token() {
    let asked = Asked {
        context: Some(8192),
        rows: 1,
        whole: true,
        ..Asked::default()
    };
    let plan = card("llama-3.1-8b-instruct", &asked);
    // 16.06 GB in bf16: model-0000?-of-00004.safetensors of the repository.
    assert_eq!(line(&plan.device, "weights").bytes, 16_060_522_496);
    let cache = line(&plan.device, "key-value cache");
    assert_eq!(cache.bytes, (8192 + 2 * 16) * 128 * 1024);
    assert!(
        cache.how.contains("32 layers x 8 heads x 128 x 2 B"),
        "{}",
        cache.how
    );
    assert_eq!(line(&plan.device, "logits").bytes, 128_256 * 6);
    // 256 prompt tokens and a row, of 3 x 14336 and 3 x 4096 numbers.
    assert_eq!(
        line(&plan.device, "a step's activations").bytes,
        257 * (43_008 + 12_288) * 2
    );
    let sum: u64 = plan.device.iter().map(|line| line.bytes).sum();
    assert_eq!(plan.needs.device_bytes, sum);
}

#[test]
fn the_cache_is_what_serve_takes_unless_more_is_asked_for() {
    let usual = card("llama-3.1-8b-instruct", &Asked::default());
    let cache = line(&usual.device, "key-value cache");
    assert!(
        cache.bytes <= 2 << 30 && cache.bytes > (2 << 30) - (2 << 20),
        "{cache:?}"
    );
    assert!(!usual.settings.contains_key("kv_cache"));
    let whole = Asked {
        rows: 4,
        whole: true,
        ..Asked::default()
    };
    let whole = card("llama-3.1-8b-instruct", &whole);
    let bytes = line(&whole.device, "key-value cache").bytes;
    assert_eq!(bytes, 4 * (131_072 + 32) * 128 * 1024);
    // Without the setting the worker would take less.
    assert_eq!(whole.settings["kv_cache"], bytes.to_string());
}

#[test]
fn a_picture_models_parts_are_counted_each() {
    let plan = card("sdxl-base-1.0", &Asked::default());
    for (part, numbers) in [
        ("unet", 2_567_463_684_u64),
        ("vae", 83_653_863),
        ("text_encoder", 123_060_480),
        ("text_encoder_2", 694_659_840),
    ] {
        let line = line(&plan.device, &format!("weights of {part}"));
        assert_eq!(line.bytes, 2 * numbers, "{part}");
    }
    // As the pipeline reckons 1024 x 1024: two rows of 128 x 128 latents of 24,000 bytes are less than the decoder's
    // four buffers of 256 channels in f32.
    let work = line(&plan.device, "a step's activations");
    assert_eq!(work.bytes, 1024 * 1024 * 2 * 128 * 4 * 4);
    assert!(
        work.how.contains("2 rows x 16384 latents x 24000 B"),
        "{}",
        work.how
    );
}

#[test]
fn flux_does_not_go_where_the_deploy_api_sent_it() {
    let plan = card("flux.1-schnell", &Asked::default());
    let runpod = plan.candidates("runpod");
    assert!(runpod[0].memory_gb == 48, "{}", runpod[0].id);
    assert!(
        runpod
            .windows(2)
            .all(|pair| pair[0].cost_order <= pair[1].cost_order)
    );
    let choice = plan
        .choices
        .iter()
        .find(|choice| choice.platform == Platform::Runpod);
    let not = &choice.unwrap().not;
    let why = |card: &str| {
        let refused = not.iter().find(|one| one.hardware == card).unwrap();
        refused.why.clone().unwrap()
    };
    assert!(
        why("rtx-a4000").starts_with("memory is short by"),
        "{}",
        why("rtx-a4000")
    );
    assert!(plan.candidates("nowhere").is_empty());
}

#[test]
fn a_platform_has_what_it_lends_and_a_card_without_bf16_is_told_why() {
    let plan = card("qwen2.5-0.5b-instruct", &Asked::default());
    let first = |platform| plan.candidates(platform)[0].id.as_str();
    assert_eq!((first("vertex"), first("cloudrun")), ("t4", "l4"));
    let chosen = Asked {
        dtype: Dtype::Bf16,
        ..Asked::default()
    };
    let plan = card("qwen2.5-0.5b-instruct", &chosen);
    assert!(plan.needs.bf16);
    assert_eq!(plan.candidates("vertex")[0].id, "l4");
    let choice = plan
        .choices
        .iter()
        .find(|choice| choice.platform == Platform::Vertex);
    let t4 = choice
        .unwrap()
        .not
        .iter()
        .find(|one| one.hardware == "t4")
        .unwrap();
    assert!(
        t4.why.as_ref().is_some_and(|why| why.contains("no bf16")),
        "{t4:?}"
    );
}

#[test]
fn every_part_of_a_diffusers_repository_is_read_from_its_headers() {
    let unet = r#"{"_class_name": "UNet2DConditionModel", "block_out_channels": [32, 64], "sample_size": 8}"#;
    let vae =
        r#"{"_class_name": "AutoencoderKL", "block_out_channels": [16, 32], "force_upcast": true}"#;
    let files = || {
        Made::default()
            .with("model_index.json", "{}")
            .with("unet/config.json", unet)
            .with("vae/config.json", vae)
            .weights(
                "unet/diffusion_pytorch_model.safetensors",
                &[("a", "F16", &[10, 10])],
            )
            .weights(
                "vae/diffusion_pytorch_model.safetensors",
                &[("b", "F16", &[5])],
            )
            .weights(
                "text_encoder/model-00001-of-00002.safetensors",
                &[("c", "F16", &[7])],
            )
            .weights(
                "text_encoder/model-00002-of-00002.safetensors",
                &[("d", "F32", &[3]), ("ids", "I16", &[2])],
            )
    };
    let measured = measure(&files(), "x".to_owned()).unwrap();
    let plan = Plan::new("x", &measured, &Asked::default(), &[]).unwrap();
    let bytes = |part: &str| line(&plan.device, &format!("weights of {part}")).bytes;
    // f16 stays f16; the autoencoder is widened; indices are no weights.
    assert_eq!(
        (bytes("unet"), bytes("vae"), bytes("text_encoder")),
        (200, 20, 20)
    );
    let on_cpu = Asked {
        gpu: false,
        ..Asked::default()
    };
    let plan = Plan::new("x", &measured, &on_cpu, &[]).unwrap();
    assert_eq!(
        line(&plan.host, "weights of text_encoder").bytes,
        14 + 12 + 4
    );
    assert!(plan.device.is_empty() && plan.choices.is_empty() && plan.needs.minimum_cuda.is_none());

    let mut odd = files();
    odd.0.retain(|(path, _)| path != "vae/config.json");
    let error = measure(&odd, "x".to_owned()).unwrap_err().to_string();
    assert!(error.contains("vae/config.json"), "{error}");
}

#[test]
fn a_checkpoint_in_one_file_is_taken_apart_by_its_names() {
    let shared: [(&str, &str, &[u64]); 3] = [
        ("text_encoders.clip_l.transformer.a", "F16", &[5]),
        (
            "text_encoders.t5xxl.transformer.encoder.block.0.layer.1.DenseReluDense.wo.weight",
            "F16",
            &[3, 2],
        ),
        (
            "first_stage_model.decoder.conv_out.weight",
            "F16",
            &[3, 16, 3, 3],
        ),
    ];
    let plan = |tensors: &[(&str, &str, &[u64])]| {
        let files = Made::default().weights("model.safetensors", &[&shared, tensors].concat());
        measure(&files, "x".to_owned()).map(|measured| {
            let Facts::Picture(picture) = measured.facts.clone() else {
                panic!("no picture");
            };
            (
                Plan::new("x", &measured, &Asked::default(), &[]).unwrap(),
                picture,
            )
        })
    };
    let (three, picture) = plan(&[(
        "model.diffusion_model.x_embedder.proj.weight",
        "F16",
        &[64, 16, 2, 2],
    )])
    .unwrap();
    assert_eq!(
        line(&three.device, "weights of transformer").bytes,
        2 * 64 * 16 * 2 * 2
    );
    // What leads out of T5's feed-forward layers stays f32.
    assert_eq!(line(&three.device, "weights of text_encoder_t5").bytes, 24);
    assert_eq!(
        (picture.row_bytes, picture.usual, picture.upcast),
        (16 * 64, (1024, 1024), true)
    );
    let (_, picture) = plan(&[("model.diffusion_model.img_in.weight", "F16", &[64, 64])]).unwrap();
    assert_eq!(picture.row_bytes, 18 * 64);
    let alone = plan(&[("img_in.weight", "F16", &[64, 64])]).unwrap_err();
    assert!(alone.to_string().contains("FLUX"), "{alone}");
}

#[test]
fn what_config_json_does_not_say_is_named_and_not_guessed() {
    let of = |config: &str| {
        let files = Made::default().with("config.json", config);
        let files = files.weights("model.safetensors", &[("a", "BF16", &[4])]);
        measure(&files, "x".to_owned())
    };
    assert!(of(LLAMA).is_ok());
    for (gone, told) in [
        ("\"num_hidden_layers\": 2,", "num_hidden_layers"),
        ("\"vocab_size\": 100,", "vocab_size"),
        ("\"intermediate_size\": 128,", "intermediate_size"),
    ] {
        let error = of(&LLAMA.replace(gone, "")).unwrap_err().to_string();
        assert!(
            error.contains("does not say") && error.contains(told),
            "{error}"
        );
    }
    let error = of(&LLAMA.replace("LlamaForCausalLM", "VitsModel"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("VitsModel") && error.contains("known are"),
        "{error}"
    );
    let damaged = Made::default().with("config.json", LLAMA).with(
        "model.safetensors",
        [9_u64.to_le_bytes().as_slice(), b"{\"a\": 1}x"].concat(),
    );
    let error = measure(&damaged, "x".to_owned()).unwrap_err().to_string();
    assert!(error.starts_with("model.safetensors: "), "{error}");
}

#[test]
fn blocks_save_memory_on_the_cpu_and_none_on_a_gpu() {
    let asked = |gpu, quantize| Asked {
        gpu,
        quantize,
        rows: 1,
        ..Asked::default()
    };
    let weights = |gpu, quantize| {
        let plan = card("llama-3.2-1b-instruct", &asked(gpu, quantize));
        line(if gpu { &plan.device } else { &plan.host }, "weights").bytes
    };
    let stored = 2_471_628_800;
    assert_eq!(
        (weights(true, None), weights(false, None)),
        (stored, stored)
    );
    assert_eq!(weights(true, Some(Scheme::Q4k)), stored);
    // All matrices and the tied table in Q8_0: 34 bytes for 32 numbers; norms stay.
    let norms = 16 * 2 * 2048 + 2048;
    let expected = (1_235_814_400 - norms) / 32 * 34 + 2 * norms;
    assert_eq!(weights(false, Some(Scheme::Q8)), expected);
    assert!(weights(false, Some(Scheme::Q4k)) < expected * 65 / 100);
    let error = planned("sd-turbo", &asked(true, Some(Scheme::Q8))).unwrap_err();
    assert!(
        error.to_string().contains("image models are not quantised"),
        "{error}"
    );
}

#[test]
fn a_gguf_that_does_not_say_its_sizes_is_refused() {
    let files = Made::default().with("x.gguf", super::gguf::tests::small());
    let error = measure(&files, "x".to_owned()).unwrap_err().to_string();
    assert!(error.contains("llama.attention.head_count"), "{error}");
}

#[test]
fn what_does_not_go_together_is_refused_by_its_field() {
    let refused = |name: &str, asked: Asked| planned(name, &asked).unwrap_err().to_string();
    let size = |width| Asked {
        size: Some((width, 512)),
        ..Asked::default()
    };
    assert!(
        refused("sd-turbo", size(500))
            .starts_with("width: 500 is no multiple of 8; give one such as 496")
    );
    assert!(refused("demo", size(512)).starts_with("width: only an image model"));
    let context = || Asked {
        context: Some(9),
        ..Asked::default()
    };
    assert!(refused("sd-turbo", context()).starts_with("context: only a language model"));
    let none = Asked {
        rows: 0,
        ..Asked::default()
    };
    assert!(refused("demo", none).starts_with("concurrency: 0"));
    let tight = Asked {
        cache: Some(1000),
        ..Asked::default()
    };
    assert!(refused("demo", tight).starts_with("kv_cache: 1000 bytes hold"));
}

#[test]
fn the_mock_needs_the_process_alone() {
    let plan = card("mock", &Asked::default());
    assert_eq!(
        (
            plan.needs.device_bytes,
            plan.host.len(),
            plan.needs.disk_bytes
        ),
        (0, 1, 0)
    );
}

#[test]
fn whispers_caches_are_halved_until_they_fit_as_the_pipeline_does() {
    let plan = card("whisper-large-v3", &Asked::default());
    // 32 transcripts of 448 tokens and 8 windows of 1500 frames, 2 x 32 layers x 1280 x 2 bytes each, are 4.3 and 1.8 GiB: halved
    // twice, at 2 GiB.
    let own = line(&plan.device, "transcripts' cache").bytes;
    let cross = line(&plan.device, "windows' cache").bytes;
    let token = 2 * 32 * 1280 * 2;
    assert_eq!((own, cross), (8 * 448 * token, 2 * 1500 * token));
    assert!(own + cross <= 2 << 30);
}

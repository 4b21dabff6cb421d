//! What is taken of well-known repositories, and what is said of those that nothing can be taken of.

use super::listings::*;
use super::*;

fn listing(text: &str) -> Vec<Listed<'_>> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let (path, size) = line.rsplit_once(' ').unwrap();
            Listed {
                path,
                size: size.parse().unwrap(),
            }
        })
        .collect()
}

fn rule(file: Option<FileChoice>, variants: &[&str]) -> Rule {
    Rule {
        kind: Kind::Model,
        file,
        variants: variants.iter().map(|mark| (*mark).to_owned()).collect(),
        languages: Vec::new(),
        place: "org/name".to_owned(),
    }
}

fn chosen(text: &str, variants: &[&str]) -> Vec<String> {
    let files = listing(text);
    let rule = rule(None, variants);
    assert_eq!(rule.undecided(&files), [""; 0]);
    let choice = rule.choose(&files, &|_| None).unwrap();
    assert_eq!(choice.files.len() + choice.skipped.len(), files.len());
    choice.files
}

fn refused(text: &str, rule: &Rule) -> String {
    let error = rule.choose(&listing(text), &|_| None).unwrap_err();
    assert!(matches!(error, WeightsError::NoModel { .. }));
    error.to_string()
}

#[test]
fn of_every_framework_one_is_taken() {
    let wanted = [
        "config.json",
        "generation_config.json",
        "merges.txt",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    ];
    assert_eq!(chosen(GPT2, &[""]), wanted);
    let files = listing(GPT2);
    let choice = rule(None, &[""]).choose(&files, &|_| None).unwrap();
    let why = |path: &str| {
        choice
            .skipped
            .iter()
            .find(|file| file.path == path)
            .unwrap()
            .why
    };
    for (path, reason) in [
        ("64.tflite", "tensorflow"),
        ("tf_model.h5", "tensorflow"),
        ("flax_model.msgpack", "flax"),
        ("onnx/decoder_model.onnx", "onnx"),
        ("pytorch_model.bin", "pickle"),
        ("rust_model.ot", "rust-bert"),
        ("README.md", "not read by any pipeline"),
    ] {
        assert_eq!(why(path), reason, "{path}");
    }
}

#[test]
fn shards_come_with_their_index_and_without_the_publishers_own_cut() {
    for (text, shards) in [(LLAMA3, 4), (QWEN, 2), (MISTRAL, 3)] {
        let files = chosen(text, &[""]);
        let weights = files.iter().filter(|path| path.ends_with(".safetensors"));
        assert_eq!(weights.count(), shards);
        assert!(files.contains(&"model.safetensors.index.json".to_owned()));
        assert!(files.contains(&"tokenizer.json".to_owned()));
        let foreign =
            |path: &&String| path.starts_with("original/") || path.contains("consolidated");
        assert_eq!(files.iter().find(foreign), None);
        assert!(!files.contains(&"params.json".to_owned()));
    }
}

#[test]
fn a_pipeline_of_parts_gives_those_that_it_names_in_one_precision() {
    let files = listing(SDXL);
    for (variants, unet) in [
        (
            &["", "fp16"][..],
            "unet/diffusion_pytorch_model.safetensors",
        ),
        (
            &["fp16", ""],
            "unet/diffusion_pytorch_model.fp16.safetensors",
        ),
    ] {
        let rule = rule(None, variants);
        assert_eq!(rule.undecided(&files), ["model_index.json"]);
        let read =
            |path: &str| (path == "model_index.json").then(|| SDXL_PARTS.as_bytes().to_vec());
        let choice = rule.choose(&files, &read).unwrap();
        let weights = choice
            .files
            .iter()
            .filter(|path| path.ends_with(".safetensors"));
        assert_eq!(weights.count(), 4, "{:?}", choice.files);
        assert!(
            choice.files.contains(&unet.to_owned()),
            "{:?}",
            choice.files
        );
        for wanted in [
            "model_index.json",
            "scheduler/scheduler_config.json",
            "tokenizer_2/merges.txt",
            "vae/config.json",
        ] {
            assert!(choice.files.contains(&wanted.to_owned()), "{wanted}");
        }
        let foreign = choice.files.iter().find(|path| {
            path.starts_with("vae_")
                || path.starts_with("sd_xl")
                || path.contains("onnx")
                || path.contains("openvino")
        });
        assert_eq!(foreign, None);
    }
}

#[test]
fn another_precision_is_taken_when_it_is_asked_for() {
    let weights = |variants: &[&str]| {
        let mut files = chosen(WHISPER, variants);
        files.retain(|path| path.contains("safetensors"));
        files
    };
    assert_eq!(weights(&[""]), ["model.safetensors"]);
    assert_eq!(weights(&["fp16", ""]), ["model.safetensors"]);
    let marked = [
        "model.fp32-00001-of-00002.safetensors",
        "model.fp32-00002-of-00002.safetensors",
        "model.safetensors.index.fp32.json",
    ];
    assert_eq!(weights(&["fp32", ""]), marked);
    for wanted in [
        "preprocessor_config.json",
        "normalizer.json",
        "added_tokens.json",
    ] {
        assert!(
            chosen(WHISPER, &[""]).contains(&wanted.to_owned()),
            "{wanted}"
        );
    }
    let only = "config.json 1\nmodel.fp16.safetensors 2";
    assert_eq!(
        chosen(only, &[""]),
        ["config.json", "model.fp16.safetensors"]
    );
    let behind = "model-00001-of-00001.fp16.safetensors 5\nmodel.fp16.safetensors.index.json 1\nmodel.safetensors 9";
    let marked = [
        "model-00001-of-00001.fp16.safetensors",
        "model.fp16.safetensors.index.json",
    ];
    assert_eq!(chosen(behind, &["fp16"]), marked);
}

#[test]
fn an_index_is_asked_where_names_say_too_little() {
    let text = "config.json 1\nmodel.safetensors.index.json 9\nmodel_a.safetensors 5\nmodel_b.safetensors 5\nold.safetensors 5";
    let files = listing(text);
    let rule = rule(None, &[""]);
    assert_eq!(rule.undecided(&files), ["model.safetensors.index.json"]);
    let index = br#"{"weight_map": {"a": "model_a.safetensors", "b": "model_b.safetensors"}}"#;
    let choice = rule.choose(&files, &|_| Some(index.to_vec())).unwrap();
    let wanted = [
        "config.json",
        "model.safetensors.index.json",
        "model_a.safetensors",
        "model_b.safetensors",
    ];
    assert_eq!(choice.files, wanted);
    // Two cuts of the same weights, after somebody has uploaded anew.
    let two = "model.safetensors.index.json 9\nmodel-00001-of-00001.safetensors 5\nmodel-00001-of-00002.safetensors 5\n\
               model-00002-of-00002.safetensors 5";
    assert_eq!(rule.undecided(&listing(two)).len(), 1);
}

#[test]
fn a_gguf_is_named_by_its_file_or_its_quantisation() {
    let files = listing(GGUF);
    let choose = |choice: FileChoice| rule(Some(choice), &[""]).choose(&files, &|_| None);
    let quant = |quant: &str| choose(FileChoice::Quant(quant.to_owned()));
    for (asked, file) in [
        ("q4_k_m", "Llama-3.3-70B-Instruct-Q4_K_M.gguf"),
        ("Q4_0", "Llama-3.3-70B-Instruct-Q4_0.gguf"),
        ("IQ4_XS", "Llama-3.3-70B-Instruct-IQ4_XS.gguf"),
    ] {
        let choice = quant(asked).unwrap();
        assert_eq!(
            (choice.files.as_slice(), choice.file.as_deref()),
            (&[file.to_owned()][..], Some(file))
        );
    }
    let first = "Llama-3.3-70B-Instruct-Q8_0/Llama-3.3-70B-Instruct-Q8_0-00001-of-00002.gguf";
    for choice in [quant("Q8_0"), choose(FileChoice::File(first.to_owned()))] {
        let choice = choice.unwrap();
        assert_eq!(
            (choice.files.len(), choice.file.as_deref()),
            (2, Some(first))
        );
    }
    for absent in ["Q4_K", "Q6_K"] {
        let error = quant(absent).unwrap_err().to_string();
        assert!(
            error.contains(absent) && error.contains("Q4_K_M.gguf"),
            "{error}"
        );
    }
    let error = refused(GGUF, &rule(None, &[""]));
    assert!(
        error.contains("5 GGUF models") && error.contains("org/name:Q4_K_M"),
        "{error}"
    );
    let one = rule(None, &[""])
        .choose(&listing("m.gguf 1\nmmproj-m.gguf 1"), &|_| None)
        .unwrap();
    assert_eq!(one.file.as_deref(), Some("m.gguf"));
    let half = "m-00001-of-00002.gguf 1";
    assert!(refused(half, &rule(None, &[""])).contains("1 of 2"));
}

#[test]
fn an_embedding_models_modules_come_along() {
    let files = chosen(MINILM, &[""]);
    for wanted in [
        "1_Pooling/config.json",
        "modules.json",
        "sentence_bert_config.json",
        "vocab.txt",
        "model.safetensors",
    ] {
        assert!(files.contains(&wanted.to_owned()), "{wanted}");
    }
    assert!(
        !files
            .iter()
            .any(|path| path.contains("onnx") || path.contains("openvino"))
    );
}

#[test]
fn an_adapter_is_two_files() {
    let adapter = Rule {
        kind: Kind::Adapter,
        ..rule(None, &[""])
    };
    let choice = adapter.choose(&listing(ADAPTER), &|_| None).unwrap();
    assert_eq!(
        choice.files,
        ["adapter_config.json", "adapter_model.safetensors"]
    );
    let error = refused("adapter_config.json 1\nadapter_model.bin 9", &adapter);
    assert!(error.contains("pickle"), "{error}");
    assert!(refused(QWEN, &adapter).contains("adapter_config.json"));
    let error = refused(ADAPTER, &rule(None, &[""]));
    assert!(error.contains("--lora"), "{error}");
}

#[test]
fn an_image_models_adapter_is_one_file() {
    let adapter = |file: Option<&str>| Rule {
        kind: Kind::Adapter,
        ..rule(file.map(|file| FileChoice::File(file.to_owned())), &[""])
    };
    let chosen = |text: &str, file: Option<&str>| {
        let choice = adapter(file).choose(&listing(text), &|_| None).unwrap();
        choice.files.join(" ")
    };
    assert_eq!(
        chosen(
            "README.md 1\npytorch_lora_weights.safetensors 9\nother.safetensors 9",
            None
        ),
        "pytorch_lora_weights.safetensors"
    );
    assert_eq!(
        chosen("ink.safetensors 9\nimages/a.png 7", None),
        "ink.safetensors"
    );
    let offset = "sd_xl_offset_example-lora_1.0.safetensors";
    assert_eq!(chosen(SDXL, Some(offset)), offset);
    let several = refused("a.safetensors 1\nb.safetensors 1", &adapter(None));
    assert!(
        several.contains("any of a.safetensors, b.safetensors"),
        "{several}"
    );
    let missing = refused("a.safetensors 1", &adapter(Some("c.safetensors")));
    assert!(missing.contains("there is no c.safetensors"), "{missing}");
    assert!(refused("model.safetensors 1", &adapter(None)).contains("there is no adapter"));
}

#[test]
fn pickles_alone_are_refused_by_name() {
    let text = "config.json 1\npytorch_model-00001-of-00002.bin 9\npytorch_model-00002-of-00002.bin 9\ntokenizer.json 1";
    let error = refused(text, &rule(None, &[""]));
    assert!(
        error.contains("pickles only") && error.contains("org/name"),
        "{error}"
    );
    let error = refused("README.md 1\nmodel.onnx 3", &rule(None, &[""]));
    assert!(
        error.contains("no weights") && error.contains("README.md"),
        "{error}"
    );
    assert!(refused("", &rule(None, &[""])).contains("nothing is there"));
}

#[test]
fn a_checkpoint_in_one_file_is_named_or_alone() {
    let one = "README.md 10\ntokenizer/vocab.json 20\ntokenizer_3/tokenizer.json 20\nunet/config.json 20\n\
               unet/other.bin 30\nxl-v1.2.safetensors 6938040682\n";
    let alone = rule(None, &["", "fp16"])
        .choose(&listing(one), &|_| None)
        .unwrap();
    assert_eq!(alone.file.as_deref(), Some("xl-v1.2.safetensors"));
    assert_eq!(
        alone.files,
        [
            "tokenizer/vocab.json",
            "tokenizer_3/tokenizer.json",
            "unet/config.json",
            "xl-v1.2.safetensors"
        ]
    );
    let several = "xl.safetensors 5\nxl-inpaint.safetensors 6\n";
    let error = refused(several, &rule(None, &[""]));
    assert!(
        error.contains("2 checkpoints") && error.contains("org/name:xl"),
        "{error}"
    );
    let named = |name: &str| rule(Some(FileChoice::File(name.to_owned())), &[""]);
    let chosen = named("xl.safetensors").choose(&listing(several), &|_| None);
    assert_eq!(chosen.unwrap().files, ["xl.safetensors"]);
    assert!(refused(several, &named("sd.safetensors")).contains("xl.safetensors"));
    // A model in parts wins over the same in one file, which must be named.
    let whole = rule(None, &["fp16", ""]).choose(&listing(SDXL), &|_| Some(SDXL_PARTS.into()));
    assert_eq!(whole.unwrap().file, None);
}

#[test]
fn of_a_model_of_many_languages_those_are_taken_that_are_wanted() {
    let files = listing(MMS);
    let rule = |languages: &[&str]| Rule {
        languages: languages.iter().map(|&code| code.to_owned()).collect(),
        ..rule(None, &[""])
    };
    let settings = |path: &str| {
        assert_eq!(path, "tokenizer_config.json");
        Some(br#"{"target_lang": "deu"}"#.to_vec())
    };
    let taken = |languages: &[&str]| -> Vec<String> {
        let choice = rule(languages).choose(&files, &settings).unwrap();
        assert!(choice.files.contains(&"model.safetensors".to_owned()));
        let files = choice.files.into_iter();
        files.filter(|path| path.starts_with("adapter.")).collect()
    };
    let (abi, fra) = ("adapter.abi.safetensors", "adapter.fra.safetensors");
    assert_eq!(taken(&[]), [""; 0]);
    assert_eq!(taken(&["fra"]), [fra]);
    assert_eq!(taken(&["deu", "fra"]), [fra]);
    assert_eq!(taken(&["all"]), [abi, fra]);
    // Which language is the model's own is read only where that decides something.
    for (languages, undecided) in [(&["fra"][..], 0), (&["all"], 0), (&["deu"], 1), (&[], 0)] {
        assert_eq!(
            rule(languages).undecided(&files).len(),
            undecided,
            "{languages:?}"
        );
    }
    let refused = |languages: &[&str], text: &str| {
        let refused = rule(languages).choose(&listing(text), &|_| None);
        refused.unwrap_err().to_string()
    };
    let error = refused(&["fra", "deu"], MMS);
    assert!(
        error.contains("adapter.deu.safetensors") && error.contains("2 of them: abi, fra"),
        "{error}"
    );
    for other in [WHISPER, GGUF] {
        assert!(refused(&["fra"], other).contains("leave out --speech-languages"));
    }
    let choice = rule(&["fra"]).choose(&files, &settings).unwrap();
    let why = |path: &str| {
        choice
            .skipped
            .iter()
            .find(|file| file.path == path)
            .unwrap()
            .why
    };
    assert!(why(abi).contains("--speech-languages"));
    assert_eq!(why("adapter.fra.bin"), "pickle");
}

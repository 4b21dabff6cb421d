//! `chandler plan` against the hub double: which bytes it asks for, and how what is gated, private, not there or away is told.

use std::process::{Command, Stdio};

use hub_double::{Access, Double, Options, Repo, User};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A safetensors file of these tensors, whose numbers are zeros.
fn weights(tensors: &[(&str, &str, &[usize])]) -> Vec<u8> {
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, dtype, shape) in tensors {
        let begin = end;
        end += shape.iter().product::<usize>() * if *dtype == "F32" { 4 } else { 2 };
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]});
        header.insert((*name).to_owned(), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(&header);
    bytes.resize(bytes.len() + end, 0);
    bytes
}

/// A model of several parts, in two precisions and two frameworks.
fn drawing(id: &str) -> Repo {
    let index = r#"{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"], "text_encoder": ["transformers", "CLIPTextModel"], "safety_checker": [null, null]}"#;
    let unet = weights(&[("a", "F32", &[512, 1024])]);
    Repo::new(id)
        .git("model_index.json", index)
        .git("unet/config.json", r#"{"_class_name": "UNet2DConditionModel", "block_out_channels": [320], "sample_size": 64}"#)
        .git("vae/config.json", r#"{"block_out_channels": [128, 256, 512, 512]}"#)
        .git("text_encoder/config.json", "{}")
        .lfs("unet/diffusion_pytorch_model.safetensors", unet)
        .lfs("unet/diffusion_pytorch_model.fp16.safetensors", weights(&[("a", "F16", &[512, 1024])]))
        .lfs("unet/diffusion_pytorch_model.bin", vec![0; 1 << 20])
        .lfs("vae/diffusion_pytorch_model.safetensors", weights(&[("b", "F32", &[1000])]))
        .lfs("text_encoder/model.safetensors", weights(&[("c", "F32", &[2000])]))
        .lfs("safety_checker/model.safetensors", weights(&[("d", "F32", &[9000])]))
        .commit("main")
}

struct World {
    hub: Double,
    home: TempDir,
}

impl World {
    fn new() -> Self {
        let options = Options {
            users: vec![User::new("alice", "hf_alice")],
            ..Options::default()
        };
        Self {
            hub: Double::start(options).unwrap(),
            home: tempfile::tempdir().unwrap(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chandler"));
        command
            .arg("plan")
            .args(arguments)
            .env_clear()
            .env("HF_ENDPOINT", self.hub.url())
            .env("HF_HOME", self.home.path())
            .stdin(Stdio::null());
        command
    }

    fn plan(&self, arguments: &[&str]) -> Value {
        let output = self.command(arguments).arg("--json").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn refused(&self, arguments: &[&str], token: Option<&str>) -> String {
        let mut command = self.command(arguments);
        if let Some(token) = token {
            command.env("HF_TOKEN", token);
        }
        let output = command.output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    }
}

fn bytes(plan: &Value, part: &str) -> u64 {
    let lines = plan["device"].as_array().unwrap();
    let line = lines.iter().find(|line| line["part"] == part);
    line.unwrap_or_else(|| panic!("{part} is not in {plan}"))["bytes"]
        .as_u64()
        .unwrap()
}

#[test]
fn the_parts_that_a_pull_would_fetch_are_read_by_their_headers_alone() {
    let world = World::new();
    world.hub.put(drawing("org/drawing"));
    let plan = world.plan(&["org/drawing"]);
    assert_eq!(bytes(&plan, "weights of unet"), 2 * 512 * 1024);
    assert_eq!(bytes(&plan, "weights of vae"), 2 * 1000);
    assert_eq!(bytes(&plan, "weights of text_encoder"), 2 * 2000);
    assert_eq!(plan["dtype"], "bf16");
    assert!(
        plan["basis"]
            .as_str()
            .unwrap()
            .contains("org/drawing@main at commit")
    );
    // The headers, of files of megabytes.
    assert!(world.hub.cdn_bytes() < 4096, "{}", world.hub.cdn_bytes());
    let asked: Vec<String> = world
        .hub
        .seen()
        .iter()
        .map(|one| one.path.clone())
        .collect();
    for other in ["fp16", ".bin", "safety_checker"] {
        assert!(!asked.iter().any(|path| path.contains(other)), "{asked:?}");
    }
    // Nothing is kept.
    assert!(!world.home.path().join("hub").exists());

    let half = world.plan(&["org/drawing", "--dtype", "f16"]);
    assert_eq!(half["dtype"], "f16");
}

#[test]
fn gated_private_and_not_there_are_told_apart() {
    let world = World::new();
    world.hub.put(drawing("org/gated").access(Access::Gated));
    world.hub.put(
        drawing("org/private")
            .access(Access::Private)
            .allow("alice"),
    );
    let gated = world.refused(&["org/gated"], None);
    assert!(
        gated.contains("`org/gated` is gated: its licence has to be accepted"),
        "{gated}"
    );
    let gated = world.refused(&["org/gated"], Some("hf_alice"));
    assert!(
        gated.contains("has not been let in") && !gated.contains("hf_alice"),
        "{gated}"
    );
    let private = world.refused(&["org/private"], None);
    assert!(
        private.contains("set HF_TOKEN if the model is private"),
        "{private}"
    );
    let none = world.refused(&["org/none"], Some("hf_alice"));
    assert!(
        none.contains("there is no model `org/none`") && none.contains("check the name"),
        "{none}"
    );
    let misspelt = world.refused(&["sd-turb"], None);
    assert!(misspelt.contains("did you mean sd-turbo"), "{misspelt}");
}

#[test]
fn a_gated_model_with_a_card_can_be_planned_by_its_card() {
    let world = World::new();
    world
        .hub
        .put(drawing("black-forest-labs/FLUX.1-dev").access(Access::Gated));
    let refused = world.refused(&["flux.1-dev"], None);
    assert!(
        refused.contains("is gated") && refused.contains("--from-card"),
        "{refused}"
    );
    let plan = world.plan(&["flux.1-dev", "--from-card"]);
    assert_eq!(bytes(&plan, "weights of transformer"), 2 * 11_901_408_320);
    assert!(
        plan["basis"]
            .as_str()
            .unwrap()
            .starts_with("the card of flux.1-dev")
    );
    assert!(
        world
            .hub
            .seen()
            .iter()
            .all(|one| !one.path.contains("card"))
    );
}

#[test]
fn without_the_network_a_card_will_do_and_its_lack_is_told() {
    let world = World::new();
    let offline = |arguments: &[&str]| {
        let mut command = world.command(arguments);
        command.env("HF_HUB_OFFLINE", "1").output().unwrap()
    };
    let with_card = offline(&["qwen2.5-0.5b-instruct", "--json"]);
    let said = String::from_utf8(with_card.stderr).unwrap();
    assert!(
        with_card.status.success() && said.contains("the card's numbers are used"),
        "{said}"
    );
    let plan: Value = serde_json::from_slice(&with_card.stdout).unwrap();
    assert_eq!(bytes(&plan, "weights"), 988_065_536);
    let without = offline(&["org/none"]);
    let said = String::from_utf8(without.stderr).unwrap();
    assert!(!without.status.success(), "{said}");
    assert!(
        said.contains("HF_HUB_OFFLINE") && said.contains("a directory with the model's files"),
        "{said}"
    );
    let poor = offline(&["wav2vec2-base-960h"]);
    let said = String::from_utf8(poor.stderr).unwrap();
    assert!(said.contains("does not say its dimensions"), "{said}");
    let later = offline(&["bark"]);
    let said = String::from_utf8(later.stderr).unwrap();
    assert!(said.contains("not served yet (text-to-speech)"), "{said}");
    assert!(world.hub.seen().is_empty());
}

#[test]
fn a_header_that_does_not_fit_its_file_is_an_error_and_no_plan() {
    let world = World::new();
    let mut lying = weights(&[("a", "BF16", &[8])]);
    lying.extend([0; 6]);
    let config = r#"{"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1, "num_attention_heads": 1, "hidden_size": 8,
        "intermediate_size": 8, "vocab_size": 8, "max_position_embeddings": 64}"#;
    let repo = Repo::new("org/lying")
        .git("config.json", config)
        .git("tokenizer.json", "{}");
    world
        .hub
        .put(repo.lfs("model.safetensors", lying).commit("main"));
    let said = world.refused(&["org/lying"], None);
    assert!(
        said.contains("model.safetensors: its tensors have 16 bytes and the file has 22"),
        "{said}"
    );
}

#[test]
fn a_directory_is_planned_as_it_would_be_loaded() {
    let world = World::new();
    let dir = world.home.path().join("tiny");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(
        dir.join("model.safetensors"),
        weights(&[("a", "BF16", &[100, 64])]),
    )
    .unwrap();
    std::fs::write(dir.join("old.bin"), "x").unwrap();
    let config = r#"{"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "hidden_size": 64, "intermediate_size": 128, "vocab_size": 100, "max_position_embeddings": 256}"#;
    std::fs::write(dir.join("config.json"), config).unwrap();
    let dir = dir.to_str().unwrap();
    let plan = world.plan(&[dir, "--context", "64", "--concurrency", "2"]);
    assert_eq!(bytes(&plan, "weights"), 12_800);
    // 2 x (64 / 16 + 2) blocks of 16 tokens, 2 x 2 layers x 2 heads x 16 x 2 bytes each.
    assert_eq!(
        bytes(&plan, "key-value cache"),
        12 * 16 * 2 * 2 * 2 * 16 * 2
    );
    assert!(world.hub.seen().is_empty());
}

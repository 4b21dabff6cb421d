//! What `chandler plan` reckons for the CPU, held against the peak of a process that loads the model and runs it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

/// A worker whose memory is looked at.
struct Served {
    child: Child,
    address: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn chandler(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chandler"));
    command
        .args(arguments)
        .env_clear()
        .env("HF_HOME", home)
        .env("CHANDLER_CACHE_DIR", home)
        .stdin(Stdio::null());
    command
}

impl Served {
    fn start(home: &Path, model: &str, context: u64) -> Self {
        let context = context.to_string();
        let arguments = [
            "serve",
            "--model",
            model,
            "--device",
            "cpu",
            "--port",
            "0",
            "--host",
            "127.0.0.1",
            "--max-rows",
            "1",
            "--max-model-len",
            &context,
            "--log-format",
            "json",
        ];
        let mut child = chandler(home, &arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            let event: Value = serde_json::from_str(&line.unwrap()).ok()?;
            let url = event["url"].as_str()?.to_owned();
            Some(url.trim_start_matches("http://").to_owned())
        });
        // Read to the end, so that the worker never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            address: address.unwrap().replace("localhost", "127.0.0.1"),
        }
    }

    /// Has a prompt of about `words` words answered, which waits for the model.
    fn ask(&self, words: usize) {
        let body = json!({"prompt": "where is it and what ".repeat(words / 5), "max_tokens": 8})
            .to_string();
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close";
        write!(
            stream,
            "{head}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// The most memory that it ever had, in bytes.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .unwrap();
        let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kilobytes * 1024
    }
}

/// The plan's sum for the host, and what of it is the process itself.
fn planned(home: &Path, model: &str, context: u64) -> (u64, u64) {
    let context = context.to_string();
    let arguments = [
        "plan",
        model,
        "--device",
        "cpu",
        "--context",
        &context,
        "--concurrency",
        "1",
        "--json",
    ];
    let output = chandler(home, &arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let process = plan["host"]
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["part"] == "the process");
    (
        plan["needs"]["host_bytes"].as_u64().unwrap(),
        process.unwrap()["bytes"].as_u64().unwrap(),
    )
}

/// A decoder of 92 million zeros in bf16, with the demo's tokenizer.
fn synthetic(dir: &Path) {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/demo/chat");
    for name in [
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        std::fs::copy(demo.join(name), dir.join(name)).unwrap();
    }
    let config = std::fs::read(demo.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    let sizes = [
        ("hidden_size", 1024),
        ("num_hidden_layers", 8),
        ("intermediate_size", 2816),
        ("num_attention_heads", 16),
        ("num_key_value_heads", 4),
        ("head_dim", 64),
        ("max_position_embeddings", 2048),
    ];
    for (name, size) in sizes {
        config[name] = json!(size);
    }
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![1536, 1024]),
        ("model.norm.weight".to_owned(), vec![1024]),
    ];
    for layer in 0..8 {
        let shapes: [(&str, &[u64]); 9] = [
            ("input_layernorm", &[1024]),
            ("post_attention_layernorm", &[1024]),
            ("self_attn.q_proj", &[1024, 1024]),
            ("self_attn.k_proj", &[256, 1024]),
            ("self_attn.v_proj", &[256, 1024]),
            ("self_attn.o_proj", &[1024, 1024]),
            ("mlp.gate_proj", &[2816, 1024]),
            ("mlp.up_proj", &[2816, 1024]),
            ("mlp.down_proj", &[1024, 2816]),
        ];
        for (name, shape) in shapes {
            tensors.push((
                format!("model.layers.{layer}.{name}.weight"),
                shape.to_vec(),
            ));
        }
    }
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in tensors {
        let begin = end;
        end += 2 * shape.iter().product::<u64>();
        header.insert(
            name,
            json!({"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}),
        );
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = std::fs::File::create(dir.join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(&header).unwrap();
    // A hole, which is zeros.
    file.set_len(8 + header.len() as u64 + end).unwrap();
}

/// What a process takes before it has a model depends on the build, so that it is measured here with the embedded model: in a release
/// build the plan's own number has to hold.
#[test]
fn a_plan_is_within_15_percent_of_the_peak_on_the_cpu() {
    let home = tempfile::tempdir().unwrap();
    let near = |planned: u64, peak: u64| planned.abs_diff(peak) * 100 <= 15 * peak;

    let demo = Served::start(home.path(), "demo", 512);
    demo.ask(300);
    let (sum, process) = planned(home.path(), "demo", 512);
    let peak = demo.peak();
    if !cfg!(debug_assertions) {
        assert!(near(sum, peak), "the demo: {sum} planned, {peak} measured");
    }
    assert!(peak > sum - process, "the demo: {peak} measured");
    let own = peak - (sum - process);

    let dir = home.path().join("synthetic");
    std::fs::create_dir(&dir).unwrap();
    synthetic(&dir);
    let model = dir.to_str().unwrap();
    let synthetic = Served::start(home.path(), model, 2048);
    synthetic.ask(1500);
    let (sum, process) = planned(home.path(), model, 2048);
    let (planned, peak) = (sum - process + own, synthetic.peak());
    assert!(
        near(planned, peak),
        "the synthetic model: {planned} planned, {peak} measured"
    );
}

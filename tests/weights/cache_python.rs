//! A cache that this program wrote, read by the official `huggingface_hub` offline, and one that it wrote, read by this program.
//! `CHANDLER_PYTHON=…/bin/python cargo test cache_python -- --ignored` runs it.

use std::fs;
use std::path::Path;
use std::process::Command;

use chandler::weights::cache::{Cache, CacheOptions, Claim, Folder};
use chandler::weights::remote::{Digest, Listing, RemoteFile};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::cache::hex;

fn git(path: &str, bytes: &str) -> (RemoteFile, String) {
    let blob = hex(&Sha1::digest(format!("blob {}\0{bytes}", bytes.len())));
    file(path, bytes, blob)
}

fn file(path: &str, bytes: &str, blob: String) -> (RemoteFile, String) {
    let file = RemoteFile {
        path: path.to_owned(),
        size: bytes.len() as u64,
        digest: Digest::parse(&blob),
        blob,
        etag: None,
    };
    (file, bytes.to_owned())
}

/// One commit that is whole and one that is not; the script knows what is in them.
fn write(root: &Path, symlinks: bool) {
    let weights = "weights ".repeat(1000);
    let files = [
        git("config.json", r#"{"model_type": "tiny"}"#),
        file(
            "model.safetensors",
            &weights,
            hex(&Sha256::digest(&weights)),
        ),
        git("a/b/notes ü.txt", "deep"),
    ];
    let mut options = CacheOptions::new(root);
    options.symlinks = symlinks;
    let cache = Cache::open(options);
    let folder = Folder::model("org/ours").unwrap();
    for (commit, whole) in [("1".repeat(40), true), ("2".repeat(40), false)] {
        let listing = Listing {
            commit,
            files: files.iter().map(|(file, _)| file.clone()).collect(),
        };
        let wanted = if whole {
            listing.files.clone()
        } else {
            listing.files[..1].to_vec()
        };
        let filling = cache.fill(&folder, &listing, wanted.clone()).unwrap();
        for (file, text) in files.iter().filter(|(file, _)| wanted.contains(file)) {
            if let Claim::Mine(claim) = filling.claim(file).unwrap() {
                fs::write(claim.partial(), text).unwrap();
                filling.put(claim).unwrap();
            }
        }
        filling.finish(whole.then_some("main")).unwrap();
        cache
            .point(
                &folder,
                if whole { "refs/pr/1" } else { "partial" },
                &listing.commit,
            )
            .unwrap();
    }
}

#[test]
#[ignore = "needs Python with huggingface_hub"]
fn python_and_this_program_share_a_cache() {
    let python = std::env::var("CHANDLER_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/conformance/hub_cache.py"
    );
    for symlinks in [true, false] {
        let root = tempfile::tempdir().unwrap();
        let (ours, theirs) = (root.path().join("ours"), root.path().join("theirs"));
        write(&ours, symlinks);
        let mut command = Command::new(&python);
        command
            .arg(script)
            .arg(env!("CARGO_BIN_EXE_chandler"))
            .args([&ours, &theirs]);
        command.env("HF_HOME", root.path().join("home"));
        if !symlinks {
            command.env("HF_HUB_DISABLE_SYMLINKS", "1");
        }
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}{errors}");
        println!("{text}");
    }
}

//! `chandler run` on the mock that draws: pictures go to files, or one to a pipe, and never to a terminal.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_chandler"))
            .args(["run", "--model", "mock-image"])
            .args(arguments)
            .current_dir(self.0.path())
            .env_clear()
            .env("HF_HOME", self.0.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn picture(&self, name: &str) -> image::RgbImage {
        image::open(self.path(name)).unwrap().to_rgb8()
    }
}

fn said(output: &Output) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(output.status.success(), "{stderr}");
    stderr
}

#[test]
fn a_picture_goes_where_it_is_sent() {
    let place = Place::new();
    let flags = [
        "a red circle",
        "--task",
        "text-to-image",
        "-o",
        "out.png",
        "--width",
        "32",
        "--height",
        "16",
        "--steps",
        "3",
        "--seed",
        "7",
        "--guidance-scale",
        "2.5",
        "--negative-prompt",
        "blue",
        "--scheduler",
        "ddim",
        "--verbose",
    ];
    let stderr = said(&place.run(&flags));
    assert!(stderr.contains("out.png (seed 7)"), "{stderr}");
    assert!(
        stderr.contains("1 picture of 32x16 drawn in 3 steps"),
        "{stderr}"
    );
    assert_eq!(place.picture("out.png").dimensions(), (32, 16));
    let file = std::fs::read(place.path("out.png")).unwrap();
    let words = b"Negative prompt: blue\nSteps: 3, Sampler: DDIMScheduler, CFG scale: 2.5, Seed: 7";
    assert!(file.windows(words.len()).any(|bytes| bytes == words));
}

#[test]
fn several_pictures_have_numbers_and_json_says_their_names() {
    let place = Place::new();
    let output = place.run(&[
        "a",
        "-o",
        "out.jpg",
        "-n",
        "2",
        "--quality",
        "50",
        "--seed",
        "1",
        "--json",
    ]);
    said(&output);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["images"][1]["file"], "out-2.jpg");
    assert_eq!(report["images"][1]["seed"], 2);
    assert_ne!(place.picture("out-1.jpg"), place.picture("out-2.jpg"));
    assert!(!place.path("out.jpg").exists());
}

#[test]
fn one_picture_goes_into_a_pipe() {
    let place = Place::new();
    for flags in [&["a", "--seed", "3"][..], &["a", "--seed", "3", "-o", "-"]] {
        let output = place.run(flags);
        said(&output);
        let read = image::load_from_memory(&output.stdout).unwrap();
        assert_eq!((read.width(), read.height()), (64, 64));
    }
}

#[test]
fn a_drawing_begins_with_a_picture() {
    let place = Place::new();
    std::fs::write(place.path("begin.png"), vec![0; 300]).unwrap();
    std::fs::write(place.path("mask.png"), vec![0; 200]).unwrap();
    let flags = [
        "a",
        "--image",
        "begin.png",
        "--mask",
        "mask.png",
        "--strength",
        "0.5",
        "-o",
        "out.webp",
    ];
    said(&place.run(&flags));
    let picture = place.picture("out.webp");
    assert_eq!(picture.get_pixel(0, 0).0, [0, 1, 44]);
    assert_eq!(picture.get_pixel(1, 0).0, [0, 0, 200]);
}

#[test]
fn what_cannot_be_is_told_before_the_model_is_loaded() {
    let place = Place::new();
    for (flags, code, words) in [
        (&["a", "-o", "out.gif"][..], 2, ".png, .jpg or .webp"),
        (&["a", "-o", "nowhere/out.png"], 2, "no directory nowhere"),
        (&["a", "-n", "2"], 2, "--output FILE"),
        (&["a", "--task", "image", "--json"], 2, "--output FILE"),
        (&["a", "-o", "out.png", "--quality", "50"], 2, "JPEG"),
        (
            &["a", "-o", "out.png", "--image", "none.png"],
            1,
            "none.png",
        ),
        (
            &["a", "-o", "out.png", "--raw"],
            2,
            "--raw is for text-generation",
        ),
        (
            &["a", "-o", "out.png", "--width", "100"],
            1,
            "multiple of 8",
        ),
        (
            &["a", "-o", "out.png", "--temperature", "1"],
            2,
            "--temperature",
        ),
    ] {
        let output = place.run(flags);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(words), "{flags:?}: {stderr}");
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {stderr}");
        assert!(!Path::new(&place.path("out.png")).exists());
    }
}

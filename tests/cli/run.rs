//! `chandler run` on the mocks: a prompt is answered and an audio file is heard, whichever the model does.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A directory with an audio file, as the mock takes it: a text, a line a segment.
struct Files {
    home: TempDir,
}

impl Files {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("talk.wav"), "hello there\nworld").unwrap();
        Self { home }
    }

    fn talk(&self) -> PathBuf {
        self.home.path().join("talk.wav")
    }

    fn command(&self, model: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chandler"));
        command
            .args(["run", "--model", model])
            .args(arguments)
            .env_clear()
            .env("HF_HOME", self.home.path())
            .stdin(Stdio::null());
        command
    }

    /// What is heard in the file.
    fn heard(&self, arguments: &[&str]) -> String {
        let output = self
            .command("mock-asr", arguments)
            .arg(self.talk())
            .output();
        said(&output.unwrap())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Standard output of a command that went well and had nothing to complain about.
fn said(output: &Output) -> String {
    assert_eq!(
        (output.status.code(), text(&output.stderr)),
        (Some(0), String::new())
    );
    text(&output.stdout)
}

fn with_input(mut command: Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_file_is_heard_segment_by_segment() {
    let files = Files::new();
    for task in [
        &[][..],
        &["--task", "asr"],
        &["--task", "automatic-speech-recognition"],
        &["--vad", "--chunks"],
    ] {
        assert_eq!(files.heard(task), "hello there\nworld\n");
    }
    assert_eq!(files.heard(&["--translate"]), "HELLO THERE\nWORLD\n");
    assert_eq!(
        files.heard(&["--channels-apart"]),
        "[0] hello there\n[0] world\n"
    );
}

#[test]
fn audio_comes_from_standard_input_too() {
    let files = Files::new();
    for flags in [&["-"][..], &["--task", "asr", "-"]] {
        let output = with_input(files.command("mock-asr", flags), b"from a pipe");
        assert_eq!(said(&output), "from a pipe\n");
    }
    let output = with_input(files.command("mock", &["-", "--raw"]), b"a prompt");
    assert!(said(&output).contains("prompt"));
}

/// A named pipe can be read once, and has no length: what `<(…)` of a shell is.
#[cfg(target_os = "linux")]
#[test]
fn a_pipe_with_a_name_is_read_once() {
    let files = Files::new();
    for flags in [&["/dev/stdin"][..], &["--task", "asr", "/dev/stdin"]] {
        let output = with_input(files.command("mock-asr", flags), b"from a pipe");
        assert_eq!(said(&output), "from a pipe\n");
    }
}

#[test]
fn a_transcript_is_subtitles_or_json() {
    let files = Files::new();
    let format = |format: &str| files.heard(&["--format", format]);
    assert_eq!(format("text"), "hello there\nworld\n");
    assert_eq!(
        format("srt"),
        "1\n00:00:00,000 --> 00:00:01,000\nhello there\n\n2\n00:00:01,000 --> 00:00:01,500\nworld\n\n"
    );
    assert_eq!(
        files.heard(&["--format", "vtt", "--words"]),
        "WEBVTT\n\n00:00:00.000 --> 00:00:00.500\nhello\n\n00:00:00.500 --> 00:00:01.000\nthere\n\n\
         00:00:01.000 --> 00:00:01.500\nworld\n\n"
    );
    let json = |arguments: &[&str]| -> Value {
        let mut read: Value = serde_json::from_str(&files.heard(arguments)).unwrap();
        for time in ["load_ms", "total_ms"] {
            let time = read.as_object_mut().unwrap().shift_remove(time);
            assert!(time.unwrap().is_number());
        }
        read
    };
    let expected = json!({
        "model": "mock-asr", "task": "transcribe", "text": "hello there world", "language": "fr",
        "language_probability": null, "duration": 1.5, "segments": [
            {"start": 0.0, "end": 1.0, "text": " hello there"},
            {"start": 1.0, "end": 1.5, "text": " world"},
        ],
    });
    assert_eq!(json(&["--json", "--language", "french"]), expected);
    assert_eq!(json(&["--format", "json", "--language", "fr"]), expected);
    let verbose = json(&["--format", "verbose", "--words", "--vad"]);
    assert_eq!(verbose["languages"], json!({"en": 0.75, "fr": 0.25}));
    assert_eq!(verbose["duration_after_vad"], 1.5);
    assert_eq!(
        verbose["segments"][1],
        json!({"id": 1, "seek": 0, "start": 1.0, "end": 1.5, "text": " world", "tokens": [100], "temperature": 0.0,
            "avg_logprob": -0.25, "compression_ratio": 1.0, "no_speech_prob": 0.125,
            "words": [{"word": " world", "start": 1.0, "end": 1.5, "probability": 0.5}]})
    );
}

#[test]
fn verbose_says_how_fast_it_was() {
    let files = Files::new();
    let output = files
        .command("mock-asr", &["--verbose"])
        .arg(files.talk())
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout), "hello there\nworld\n");
    let said = text(&output.stderr);
    assert!(
        said.starts_with("loaded in ") && said.contains("1.5 s of audio heard"),
        "{said}"
    );
}

#[test]
fn what_does_not_fit_is_a_usage_error_naming_both() {
    let files = Files::new();
    let (talk, home) = (files.talk(), files.home.path());
    let (talk, nowhere) = (talk.to_str().unwrap(), home.join("nowhere.wav"));
    let nowhere = Path::new(&nowhere).to_str().unwrap();
    for (model, arguments, code, words) in [
        (
            "mock",
            &["--task", "asr", talk][..],
            2,
            "--task is for automatic-speech-recognition; the model mock does text-generation",
        ),
        (
            "mock-asr",
            &["--task", "text-generation", "a"],
            2,
            "--task is for text-generation; the model mock-asr does automatic-speech-recognition",
        ),
        (
            "mock-asr",
            &["--max-tokens", "3", talk],
            2,
            "--max-tokens is for text-generation; the model mock-asr does",
        ),
        (
            "mock",
            &["--beam-size", "3", talk],
            2,
            "--beam-size is for automatic-speech-recognition; the model mock does",
        ),
        (
            "mock",
            &["--raw", "--vad", talk],
            2,
            "--raw is for text-generation and --vad for automatic",
        ),
        (
            "mock-asr",
            &["--words", talk],
            2,
            "--words has no place in text",
        ),
        (
            "mock-asr",
            &["--task", "asr", home.to_str().unwrap()],
            2,
            "is a directory",
        ),
        ("mock-asr", &["--task", "asr", nowhere], 1, "nowhere.wav"),
        ("mock-asr", &[nowhere], 1, "nowhere.wav"),
        (
            "mock-asr",
            &["--language", "tlh", talk],
            1,
            "language is \"tlh\"",
        ),
        (
            "mock-asr",
            &["--max-duration", "1s", talk],
            1,
            "longer than the limit of 1 s",
        ),
    ] {
        let output = files.command(model, arguments).output().unwrap();
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(words), "{arguments:?}: {error}");
        assert_eq!(
            (error.lines().count(), text(&output.stdout)),
            (1, String::new()),
            "{error}"
        );
    }
}

#[test]
fn a_prompt_is_answered_as_ever() {
    let files = Files::new();
    let answer = |arguments: &[&str]| said(&files.command("mock", arguments).output().unwrap());
    assert_eq!(answer(&["a b", "--raw", "--max-tokens", "4"]), "a b a b\n");
    // A model of text takes a file's name for a prompt like any other.
    let talk = files.talk();
    let answer = answer(&[
        "--task",
        "text",
        "--raw",
        "--max-tokens",
        "1",
        "--json",
        talk.to_str().unwrap(),
    ]);
    let report: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        (&report["model"], &report["completion_tokens"]),
        (&json!("mock"), &json!(1))
    );
}

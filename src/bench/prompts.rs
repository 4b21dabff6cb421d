//! What is asked: lines of a file, each a prompt, a path or a JSON object, or a small set that is compiled in. Everything that a
//! line names is read here, before anything is measured.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use chandler_core::Task;
use serde::Deserialize;
use serde_json::Value;

use super::BenchError;

const TEXTS: &str = include_str!("prompts.txt");
const PICTURES: &str = include_str!("pictures.txt");
/// Bytes of all files that prompts name: each is held in memory, in base64 where the endpoint takes it so.
const MOST_BYTES: usize = 512 << 20;

/// One thing to ask.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    pub(super) what: What,
    /// Tokens of the answer at most, where the line says so.
    pub(super) max_tokens: Option<u32>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    Text(String),
    /// Messages as OpenAI has them.
    Chat(Vec<Value>),
    Audio(File),
    /// A picture to begin with, and what is to become of it.
    Picture(String, File),
}

/// A file that a prompt names.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct File {
    /// Without its directory.
    pub(super) name: String,
    pub(super) bytes: Bytes,
}

/// What is asked, one after the other and then from the start.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompts(pub(super) Vec<Prompt>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    prompt: Option<String>,
    messages: Option<Vec<Value>>,
    audio: Option<PathBuf>,
    image: Option<PathBuf>,
    max_tokens: Option<u32>,
}

impl Prompts {
    /// The compiled-in ones; `None` for a task whose input is no text.
    pub fn built_in(task: Task) -> Option<Self> {
        let lines = match task {
            Task::TextGeneration => TEXTS,
            Task::TextToImage => PICTURES,
            _ => return None,
        };
        let text = |line: &str| Prompt {
            what: What::Text(line.to_owned()),
            max_tokens: None,
        };
        Some(Self(lines.lines().map(text).collect()))
    }

    /// Reads a file: a line that begins with a brace is a JSON object, any other a prompt, or a path for a model that hears.
    /// Paths are relative to the file.
    ///
    /// # Errors
    /// [`BenchError::Prompts`], with the line.
    pub fn read(path: &Path, task: Task) -> Result<Self, BenchError> {
        let fail = |reason: String| BenchError::Prompts {
            path: path.to_owned(),
            reason,
        };
        let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        let mut files = Files {
            directory: path.parent().unwrap_or(Path::new("")),
            read: BTreeMap::new(),
            bytes: 0,
        };
        let mut prompts = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let prompt = prompt(line, task, &mut files);
            prompts.push(prompt.map_err(|reason| fail(format!("line {}: {reason}", number + 1)))?);
        }
        if prompts.is_empty() {
            return Err(fail("it has no prompt; give one a line".to_owned()));
        }
        Ok(Self(prompts))
    }
}

fn prompt(line: &str, task: Task, files: &mut Files<'_>) -> Result<Prompt, String> {
    if !line.starts_with('{') {
        let what = match task {
            Task::AutomaticSpeechRecognition => What::Audio(files.file(Path::new(line))?),
            _ => What::Text(line.to_owned()),
        };
        return Ok(Prompt {
            what,
            max_tokens: None,
        });
    }
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let what = match (line.prompt, line.messages, line.audio, line.image) {
        (Some(prompt), None, None, None) => What::Text(prompt),
        (None, Some(messages), None, None) => What::Chat(messages),
        (None, None, Some(audio), None) => What::Audio(files.file(&audio)?),
        (Some(prompt), None, None, Some(image)) => What::Picture(prompt, files.file(&image)?),
        _ => {
            return Err("give prompt, messages, audio, or prompt and image".to_owned());
        }
    };
    Ok(Prompt {
        what,
        max_tokens: line.max_tokens,
    })
}

/// Files that were read, each once.
struct Files<'a> {
    directory: &'a Path,
    read: BTreeMap<PathBuf, Bytes>,
    bytes: usize,
}

impl Files<'_> {
    fn file(&mut self, named: &Path) -> Result<File, String> {
        let path = self.directory.join(named);
        let name = named.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let of = |reason: String| format!("{}: {reason}", path.display());
        if let Some(bytes) = self.read.get(&path) {
            let bytes = bytes.clone();
            return Ok(File { name, bytes });
        }
        let size = std::fs::metadata(&path).map_err(|error| of(error.to_string()))?;
        let size = usize::try_from(size.len()).unwrap_or(usize::MAX);
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > MOST_BYTES {
            return Err(of(format!(
                "with it the files of all prompts are over {MOST_BYTES} bytes; name fewer"
            )));
        }
        let bytes = std::fs::read(&path).map_err(|error| of(error.to_string()))?;
        let bytes = Bytes::from(bytes);
        self.read.insert(path, bytes.clone());
        Ok(File { name, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, task: Task) -> Result<Vec<Prompt>, String> {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("a.wav"), "hello").unwrap();
        let path = home.path().join("prompts");
        std::fs::write(&path, text).unwrap();
        let read = Prompts::read(&path, task);
        read.map(|prompts| prompts.0).map_err(|e| e.to_string())
    }

    #[test]
    fn the_built_in_ones_are_twenty_five() {
        for task in [Task::TextGeneration, Task::TextToImage] {
            assert_eq!(Prompts::built_in(task).unwrap().0.len(), 25);
        }
        assert_eq!(Prompts::built_in(Task::AutomaticSpeechRecognition), None);
    }

    #[test]
    fn a_line_is_a_prompt_a_path_or_an_object() {
        let lines = "one\n\n {\"prompt\": \"two\", \"max_tokens\": 5}\r\n{\"messages\": [{\"role\": \"user\"}]}\n";
        let read_lines = read(lines, Task::TextGeneration).unwrap();
        let whats: Vec<&What> = read_lines.iter().map(|prompt| &prompt.what).collect();
        assert_eq!(whats[0], &What::Text("one".into()));
        assert_eq!(whats[1], &What::Text("two".into()));
        assert_eq!(read_lines[1].max_tokens, Some(5));
        assert!(matches!(whats[2], What::Chat(messages) if messages.len() == 1));

        let heard = "a.wav\n{\"audio\": \"a.wav\"}";
        let heard = read(heard, Task::AutomaticSpeechRecognition).unwrap();
        let File { name, bytes } = match &heard[1].what {
            What::Audio(file) => file.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!((name.as_str(), bytes.as_ref()), ("a.wav", &b"hello"[..]));
        assert_eq!(heard[0], heard[1]);
        let drawn = read(
            "{\"prompt\": \"p\", \"image\": \"a.wav\"}",
            Task::TextToImage,
        );
        assert!(matches!(&drawn.unwrap()[0].what, What::Picture(prompt, _) if prompt == "p"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let text = Task::TextGeneration;
        for (lines, said) in [
            ("", "it has no prompt"),
            ("a\n{\"promt\": \"b\"}", "line 2: unknown field `promt`"),
            (
                "{\"prompt\": \"a\", \"audio\": \"b\"}",
                "line 1: give prompt, messages",
            ),
            ("{\"audio\": \"gone.wav\"}", "gone.wav: No such file"),
        ] {
            let error = read(lines, text).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        assert!(Prompts::read(Path::new("/nowhere"), text).is_err());
    }
}

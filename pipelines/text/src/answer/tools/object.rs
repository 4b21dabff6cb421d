//! One call's JSON object, character by character: its name, and its arguments as the text that the model wrote. No
//! value is judged: arguments that are no JSON come out as they are, as OpenAI's API gives them.

/// Where in the object the next character stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum At {
    Start,
    KeyOrEnd,
    Key,
    Colon,
    Value,
    Name,
    Arguments(Nesting),
    /// Arguments that are a string, with JSON in it.
    QuotedArguments,
    /// A value of another key.
    Other(Nesting),
    /// A number or a word, which ends where it ends.
    Word,
    CommaOrEnd,
}

/// How deep a value is, and whether in a string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Nesting {
    depth: u32,
    text: bool,
    escaped: bool,
}

impl Nesting {
    /// Takes a character; whether the value ends with it.
    pub(super) fn step(&mut self, character: char) -> bool {
        if self.text {
            match character {
                _ if self.escaped => self.escaped = false,
                '\\' => self.escaped = true,
                '"' => self.text = false,
                _ => {}
            }
        } else {
            match character {
                '"' => self.text = true,
                '{' | '[' => self.depth += 1,
                '}' | ']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        self.depth == 0 && !self.text
    }
}

/// What a character did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    More,
    /// The object has ended.
    Done,
    /// This is no such object.
    Broken,
}

/// The reader of one object.
#[derive(Debug, Clone)]
pub(super) struct ObjectScan {
    at: At,
    /// The string that is being read, without its quotes.
    string: String,
    escaped: bool,
    key: String,
    pub(super) name: Option<String>,
    /// Arguments that were read and not taken yet.
    pub(super) arguments: String,
    /// Arguments have begun.
    pub(super) begun: bool,
    /// A key that no call has means that this is none: an answer of JSON is not held up until its end.
    strict: bool,
}

/// The keys that a call may have.
const KEYS: [&str; 6] = ["name", "arguments", "parameters", "type", "function", "id"];

impl ObjectScan {
    pub(super) fn new(strict: bool) -> Self {
        Self {
            strict,
            at: At::Start,
            string: String::new(),
            escaped: false,
            key: String::new(),
            name: None,
            arguments: String::new(),
            begun: false,
        }
    }

    pub(super) fn step(&mut self, character: char) -> Outcome {
        let space = character.is_ascii_whitespace();
        match &mut self.at {
            At::Start | At::KeyOrEnd | At::Colon | At::Value | At::CommaOrEnd if space => {
                Outcome::More
            }
            At::Start if character == '{' => self.go(At::KeyOrEnd),
            At::KeyOrEnd if character == '"' => self.go(At::Key),
            At::KeyOrEnd | At::CommaOrEnd if character == '}' => Outcome::Done,
            At::CommaOrEnd if character == ',' => self.go(At::KeyOrEnd),
            At::Colon if character == ':' => self.go(At::Value),
            At::Value => self.value(character),
            At::Key | At::Name | At::QuotedArguments => self.text(character),
            At::Arguments(nesting) => {
                let ended = nesting.step(character);
                self.arguments.push(character);
                if ended {
                    self.go(At::CommaOrEnd)
                } else {
                    Outcome::More
                }
            }
            At::Other(nesting) => {
                if nesting.step(character) {
                    self.go(At::CommaOrEnd)
                } else {
                    Outcome::More
                }
            }
            At::Word => match character {
                ',' => self.go(At::KeyOrEnd),
                '}' => Outcome::Done,
                _ if space => self.go(At::CommaOrEnd),
                _ if character.is_ascii_alphanumeric() || "+-.".contains(character) => {
                    Outcome::More
                }
                _ => Outcome::Broken,
            },
            At::Start | At::KeyOrEnd | At::Colon | At::CommaOrEnd => Outcome::Broken,
        }
    }

    fn go(&mut self, at: At) -> Outcome {
        self.at = at;
        Outcome::More
    }

    /// The first character of a value.
    fn value(&mut self, character: char) -> Outcome {
        let mut nesting = Nesting::default();
        nesting.step(character);
        let arguments = matches!(self.key.as_str(), "arguments" | "parameters") && !self.begun;
        match (self.key.as_str(), character) {
            ("name", '"') if self.name.is_none() => self.go(At::Name),
            ("name", _) => Outcome::Broken,
            (_, '{') if arguments => {
                self.begun = true;
                self.arguments.push(character);
                self.go(At::Arguments(nesting))
            }
            (_, '"') if arguments => self.go(At::QuotedArguments),
            (_, 'n') if arguments => self.go(At::Word),
            _ if arguments => Outcome::Broken,
            (_, '"' | '{' | '[') => self.go(At::Other(nesting)),
            (_, '-' | '0'..='9' | 't' | 'f' | 'n') => self.go(At::Word),
            _ => Outcome::Broken,
        }
    }

    /// A character of a string that is wanted whole.
    fn text(&mut self, character: char) -> Outcome {
        if self.escaped || character != '"' {
            self.escaped = !self.escaped && character == '\\';
            self.string.push(character);
            return Outcome::More;
        }
        let raw = format!("\"{}\"", std::mem::take(&mut self.string));
        let Ok(text) = serde_json::from_str::<String>(&raw) else {
            return Outcome::Broken;
        };
        match self.at {
            At::Key if self.strict && !KEYS.contains(&text.as_str()) => Outcome::Broken,
            At::Key => {
                self.key = text;
                self.go(At::Colon)
            }
            At::Name => {
                self.name = Some(text);
                self.go(At::CommaOrEnd)
            }
            _ => {
                if !text.trim_start().starts_with('{') {
                    return Outcome::Broken;
                }
                self.begun = true;
                self.arguments.push_str(&text);
                self.go(At::CommaOrEnd)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> (Outcome, Option<String>, String) {
        let mut scan = ObjectScan::new(false);
        let mut outcome = Outcome::More;
        for character in text.chars() {
            assert_eq!(outcome, Outcome::More, "{text} went on");
            outcome = scan.step(character);
        }
        (outcome, scan.name, scan.arguments)
    }

    #[test]
    fn name_and_arguments_come_out_as_they_were_written() {
        let arguments = r#"{ "a" : [1, {"b": "}\"]\\"}], "c":null}"#;
        for text in [
            format!(r#" {{"name": "f\u00e9", "arguments": {arguments}}}"#),
            format!(r#"{{"id": "x}}", "n": -1.5e3, "parameters":{arguments} , "name":"fé"}}"#),
            format!(
                r#"{{"type": {{"a": ["]"]}}, "ok": true ,"name":"fé","arguments": {arguments}}}"#
            ),
        ] {
            let found = scan(&text);
            assert_eq!(found, (Outcome::Done, Some("fé".into()), arguments.into()));
        }
    }

    #[test]
    fn arguments_in_a_string_are_unpacked_and_none_is_none() {
        let found = scan(r#"{"name": "f", "arguments": "{\"a\": \"\\n\"}"}"#);
        assert_eq!(
            found,
            (Outcome::Done, Some("f".into()), r#"{"a": "\n"}"#.into())
        );
        let found = scan(r#"{"name": "f", "arguments": null}"#);
        assert_eq!(found, (Outcome::Done, Some("f".into()), String::new()));
        assert_eq!(scan(r#"{"name":"f"}"#).0, Outcome::Done);
    }

    #[test]
    fn what_is_no_object_is_broken_at_once() {
        for text in [
            "x",
            "{n",
            r#"{"name": 1"#,
            r#"{"name" ="#,
            r#"{"arguments": ["#,
            r#"{"a": '"#,
        ] {
            assert_eq!(scan(text).0, Outcome::Broken, "{text}");
        }
    }
}

//! Tool calls told from text in one row's answer, character by character as it comes. A call is given out from its name
//! on, as soon as its arguments begin; what turns out to be none before that is text again. Nothing is given out twice,
//! and nothing is lost.

use std::sync::Arc;

use chandler_core::event::ToolCallDelta;

use super::format::{Body, ToolFormat};
use super::ids::IdSource;
use super::object::{Nesting, ObjectScan, Outcome};
use super::tags::{TagScan, Types};
use crate::answer::reasoning::beginning_of;

/// What all rows of a request share.
#[derive(Debug)]
pub(crate) struct ToolReading {
    pub(crate) format: &'static ToolFormat,
    /// The tools that there are.
    pub(crate) names: Vec<String>,
    /// Their parameters' types, where the format needs them.
    pub(crate) types: Types,
    /// The row ends after its first call.
    pub(crate) one: bool,
    /// The opening mark is a special token, which is no text.
    pub(crate) hidden: bool,
}

/// The reader of one row.
#[derive(Debug, Clone)]
pub(crate) struct ToolReader {
    shared: Arc<ToolReading>,
    ids: IdSource,
    state: State,
    /// Text that may yet belong to a call's mark, or be the space before one.
    held: String,
    /// All of a call that is not given out yet, to be text if it is none.
    raw: String,
    /// Only space was read so far.
    blank: bool,
    /// Calls given out.
    pub(crate) calls: u32,
    /// The call that is being read is given out.
    announced: bool,
    /// The one call that is allowed has ended.
    pub(crate) over: bool,
    text: String,
    pieces: Vec<ToolCallDelta>,
}

#[derive(Debug, Clone)]
enum State {
    Text,
    /// Behind a mark, or between two objects of a list.
    Enter {
        list: bool,
    },
    Object {
        scan: ObjectScan,
        list: bool,
    },
    Tags(TagScan),
    /// A name that arguments follow.
    Name(String),
    /// Arguments after a name.
    Arguments(Nesting),
    /// Behind a call. `from` is where in the held text the next sign is looked for.
    After {
        list: bool,
        from: usize,
        parted: bool,
    },
}

impl ToolReader {
    pub(crate) fn new(shared: Arc<ToolReading>, ids: IdSource) -> Self {
        Self {
            shared,
            ids,
            state: State::Text,
            held: String::new(),
            raw: String::new(),
            blank: true,
            calls: 0,
            announced: false,
            over: false,
            text: String::new(),
            pieces: Vec::new(),
        }
    }

    /// Takes more of the answer; gives text and pieces of calls that are final.
    pub(crate) fn push(&mut self, text: &str) -> (String, Vec<ToolCallDelta>) {
        for character in text.chars() {
            if self.over {
                break;
            }
            self.step(character);
        }
        if matches!(self.state, State::Text) {
            self.flush();
        }
        self.take()
    }

    /// The row has ended: what is held and no call is text.
    pub(crate) fn finish(&mut self) -> (String, Vec<ToolCallDelta>) {
        let held = std::mem::take(&mut self.held);
        let raw = std::mem::take(&mut self.raw);
        match &self.state {
            State::Text => self.text.push_str(&held),
            // The marks that were passed are no text, nor is space behind them.
            State::After { from, .. } => {
                let rest = held.get(*from..).unwrap_or("");
                self.text
                    .push_str(if rest.trim().is_empty() { "" } else { rest });
            }
            _ if self.announced => {}
            _ => self.text.push_str(&raw),
        }
        self.state = State::Text;
        self.take()
    }

    fn take(&mut self) -> (String, Vec<ToolCallDelta>) {
        (
            std::mem::take(&mut self.text),
            std::mem::take(&mut self.pieces),
        )
    }

    /// Gives out text up to the space and the part of a mark at its end.
    fn flush(&mut self) {
        let mark = beginning_of(&self.held, self.shared.format.open);
        let before = self.held.len() - mark;
        let ready = self.held.get(..before).map_or(0, |s| s.trim_end().len());
        let kept = self.held.split_off(ready);
        self.text.push_str(&self.held);
        self.held = kept;
    }

    fn step(&mut self, character: char) {
        match &mut self.state {
            State::Text => self.in_text(character),
            State::Enter { list } => {
                let list = *list;
                self.enter(character, list);
            }
            State::After { .. } => self.after(character),
            State::Object { scan, list } => {
                let list = *list;
                let outcome = scan.step(character);
                let arguments = std::mem::take(&mut scan.arguments);
                let begun = scan.begun;
                let known = !self.announced && (begun || outcome == Outcome::Done);
                let name = if known { scan.name.clone() } else { None };
                self.called(
                    character,
                    Call {
                        outcome,
                        name,
                        arguments,
                        begun,
                        list,
                    },
                );
            }
            State::Tags(scan) => {
                let outcome = scan.step(character, &self.shared.types);
                let arguments = std::mem::take(&mut scan.arguments);
                let name = if self.announced {
                    None
                } else {
                    scan.name.clone()
                };
                let begun = true;
                self.called(
                    character,
                    Call {
                        outcome,
                        name,
                        arguments,
                        begun,
                        list: false,
                    },
                );
            }
            State::Name(_) => self.in_name(character),
            State::Arguments(nesting) => {
                let ended = nesting.step(character);
                self.argue(character.encode_utf8(&mut [0; 4]));
                if ended {
                    self.ended(false);
                }
            }
        }
    }

    fn in_text(&mut self, character: char) {
        let format = self.shared.format;
        self.held.push(character);
        if format.bare && self.blank && character == '{' && self.held.trim_start() == "{" {
            self.blank = false;
            self.begin();
            self.object(false);
            return;
        }
        self.blank &= character.is_whitespace();
        if !format.open.is_empty() && self.held.ends_with(format.open) {
            let before = self.held.len() - format.open.len();
            self.held.truncate(before);
            // The space before a mark is the format's.
            let text = self.held.trim_end().len();
            let space = self.held.split_off(text);
            self.text.push_str(&self.held);
            self.held = space;
            self.opened();
        }
    }

    /// A mark has been read, before which stands the held space.
    fn opened(&mut self) {
        self.begin();
        if !self.shared.hidden {
            self.raw.push_str(self.shared.format.open);
        }
        self.state = State::Enter { list: false };
    }

    /// What is held may be a call's beginning.
    fn begin(&mut self) {
        self.raw = std::mem::take(&mut self.held);
        self.announced = false;
    }

    fn object(&mut self, list: bool) {
        let mut scan = ObjectScan::new(self.shared.format.bare);
        scan.step('{');
        self.state = State::Object { scan, list };
    }

    fn enter(&mut self, character: char, list: bool) {
        self.raw.push(character);
        let body = self.shared.format.body;
        match character {
            _ if character.is_whitespace() => {}
            '{' if body != Body::Tags => self.object(list),
            '[' if body == Body::ListOrName && !list => self.state = State::Enter { list: true },
            '<' if body == Body::Tags => {
                let mut scan = TagScan::new();
                scan.step('<', &self.shared.types);
                self.state = State::Tags(scan);
            }
            _ if body == Body::ListOrName && !list && is_name(character) => {
                self.state = State::Name(character.into());
            }
            _ => self.broken(),
        }
    }

    /// What a character of a call has brought.
    fn called(&mut self, character: char, call: Call) {
        if !self.announced {
            self.raw.push(character);
        }
        match call.outcome {
            Outcome::Broken if self.announced => {
                self.held.push(character);
                self.state = State::Text;
            }
            Outcome::Broken => self.broken(),
            outcome => {
                if !self.announced
                    && let Some(name) = call.name
                {
                    let bare = self.shared.format.bare;
                    if bare && (!call.begun || !self.shared.names.contains(&name)) {
                        // An object that names no tool is what the model answers.
                        return self.broken();
                    }
                    self.announce(name);
                    if !call.begun {
                        self.argue("{}");
                    }
                }
                if self.announced {
                    self.argue(&call.arguments);
                } else if !call.arguments.is_empty() {
                    self.keep(call.arguments);
                }
                match outcome {
                    Outcome::Done if self.announced => self.ended(call.list),
                    Outcome::Done => self.broken(),
                    _ => {}
                }
            }
        }
    }

    /// Arguments that came before the name wait in the scan.
    fn keep(&mut self, arguments: String) {
        if let State::Object { scan, .. } = &mut self.state {
            scan.arguments = arguments;
        }
    }

    fn in_name(&mut self, character: char) {
        self.raw.push(character);
        let State::Name(name) = &mut self.state else {
            return;
        };
        name.push(character);
        if character == '{' {
            name.pop();
            // `name[CALL_ID]id[ARGS]{`: what stands between name and arguments is no part of either.
            let end = name.find('[').unwrap_or(name.len());
            let name = name.get(..end).unwrap_or("").trim().to_owned();
            let mut nesting = Nesting::default();
            nesting.step('{');
            self.announce(name);
            self.argue("{");
            self.state = State::Arguments(nesting);
        } else if name.contains('[') {
            // Within the marks anything goes that is short.
            if name.len() > 256 {
                self.broken();
            }
        } else if !is_name(character) && !character.is_whitespace() && character != '[' {
            self.broken();
        }
    }

    fn announce(&mut self, name: String) {
        self.announced = true;
        self.raw.clear();
        self.pieces.push(ToolCallDelta {
            index: self.calls,
            id: Some(self.ids.id(self.shared.format.ids, self.calls)),
            name: Some(name),
            arguments: String::new(),
        });
        self.calls += 1;
    }

    fn argue(&mut self, arguments: &str) {
        if arguments.is_empty() {
            return;
        }
        let index = self.calls.saturating_sub(1);
        match self.pieces.last_mut().filter(|piece| piece.index == index) {
            Some(piece) => piece.arguments.push_str(arguments),
            None => self.pieces.push(ToolCallDelta {
                index,
                arguments: arguments.to_owned(),
                ..ToolCallDelta::default()
            }),
        }
    }

    fn ended(&mut self, list: bool) {
        self.over = self.shared.one;
        self.held.clear();
        self.state = State::After {
            list,
            from: 0,
            parted: false,
        };
    }

    /// No call after all.
    fn broken(&mut self) {
        self.text.push_str(&std::mem::take(&mut self.raw));
        self.held.clear();
        self.state = State::Text;
    }

    fn after(&mut self, character: char) {
        self.held.push(character);
        let format = self.shared.format;
        let State::After { list, from, parted } = &mut self.state else {
            return;
        };
        let found = self.held.get(*from..).unwrap_or("").trim_start();
        let separator = if *list { Some(",") } else { format.separator };
        if found.is_empty() {
        } else if Some(found) == separator {
            (*from, *parted) = (self.held.len(), true);
        } else if *list && found == "]" {
            (*list, *from, *parted) = (false, self.held.len(), false);
        } else if found == format.close {
            (*from, *parted) = (self.held.len(), false);
        } else if found == "{" && (*parted || format.bare) {
            let list = *list;
            self.begin();
            self.object(list);
        } else if found == format.open {
            self.held.clear();
            self.opened();
        } else if ![format.close, format.open]
            .iter()
            .any(|mark| mark.starts_with(found))
        {
            // Text again; the marks that were passed are not part of it.
            let from = (*from).min(self.held.len());
            self.held.drain(..from);
            self.state = State::Text;
        }
    }
}

/// What a character of a call did.
struct Call {
    outcome: Outcome,
    /// Known, and the arguments have begun or will not come.
    name: Option<String>,
    arguments: String,
    begun: bool,
    list: bool,
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || "_-.:/".contains(character)
}

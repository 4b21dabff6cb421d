//! An answer as a sequence of blocks, one open at a time: thoughts, text, calls. `/v1/responses` calls them items and
//! `/v1/messages` content blocks; both stream a block's beginning, its pieces and its end.

use chandler_core::{RowOutput, TextDelta, ToolCallDelta};

/// What a block holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::api) enum Block {
    Thoughts,
    Text,
    Call { id: String, name: String },
}

/// One thing that happened to the blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::api) enum Change {
    Begun(Block),
    /// More of the open block.
    More(String),
    /// The open block is whole.
    Ended,
}

/// Which block is open.
#[derive(Debug, Default)]
pub(in crate::api) struct Blocks {
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Thoughts,
    Text,
    Call(u32),
}

impl Blocks {
    /// What a piece of the answer does to the blocks.
    pub(in crate::api) fn take(&mut self, delta: &mut TextDelta) -> Vec<Change> {
        let mut changes = Vec::new();
        let (thoughts, text) = (
            std::mem::take(&mut delta.reasoning),
            std::mem::take(&mut delta.text),
        );
        if !thoughts.is_empty() {
            self.show(Open::Thoughts, Block::Thoughts, &mut changes);
            changes.push(Change::More(thoughts));
        }
        if !text.is_empty() {
            self.show(Open::Text, Block::Text, &mut changes);
            changes.push(Change::More(text));
        }
        for piece in std::mem::take(&mut delta.tool_calls) {
            self.call(piece, &mut changes);
        }
        changes
    }

    /// Ends the block that is open, if there is one.
    pub(in crate::api) fn end(&mut self) -> Option<Change> {
        self.open.take().map(|_| Change::Ended)
    }

    fn show(&mut self, wanted: Open, block: Block, changes: &mut Vec<Change>) {
        if self.open != Some(wanted) {
            changes.extend(self.end());
            self.open = Some(wanted);
            changes.push(Change::Begun(block));
        }
    }

    fn call(&mut self, piece: ToolCallDelta, changes: &mut Vec<Change>) {
        let block = Block::Call {
            id: piece.id.unwrap_or_default(),
            name: piece.name.unwrap_or_default(),
        };
        self.show(Open::Call(piece.index), block, changes);
        if !piece.arguments.is_empty() {
            changes.push(Change::More(piece.arguments));
        }
    }
}

/// The blocks of a whole answer with what they hold.
pub(in crate::api) fn whole(row: &RowOutput) -> Vec<(Block, String)> {
    let thoughts = (Block::Thoughts, row.reasoning.clone());
    let text = (Block::Text, row.text.clone());
    let spoken = [thoughts, text].into_iter();
    let spoken = spoken.filter(|(_, content)| !content.is_empty());
    let calls = row.tool_calls.iter().map(|call| {
        let (id, name) = (call.id.clone(), call.name.clone());
        (Block::Call { id, name }, call.arguments.clone())
    });
    spoken.chain(calls).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(index: u32, id: Option<&str>, arguments: &str) -> ToolCallDelta {
        ToolCallDelta {
            index,
            id: id.map(str::to_owned),
            name: id.map(|id| format!("tool-{id}")),
            arguments: arguments.into(),
        }
    }

    #[test]
    fn one_block_is_open_at_a_time_and_each_is_ended() {
        let mut blocks = Blocks::default();
        let mut delta = TextDelta {
            reasoning: "hm".into(),
            text: "so".into(),
            tool_calls: vec![
                piece(0, Some("a"), ""),
                piece(0, None, "{}"),
                piece(1, Some("b"), "{"),
            ],
            ..TextDelta::default()
        };
        let mut changes = blocks.take(&mut delta);
        delta.tool_calls = vec![piece(1, None, "}")];
        changes.extend(blocks.take(&mut delta));
        changes.extend(blocks.end());
        assert!(blocks.end().is_none());
        let more = |text: &str| Change::More(text.into());
        let call = |id: &str| {
            Change::Begun(Block::Call {
                id: id.into(),
                name: format!("tool-{id}"),
            })
        };
        let begun = Change::Begun;
        let wanted = [
            begun(Block::Thoughts),
            more("hm"),
            Change::Ended,
            begun(Block::Text),
            more("so"),
            Change::Ended,
            call("a"),
            more("{}"),
            Change::Ended,
            call("b"),
            more("{"),
            more("}"),
            Change::Ended,
        ];
        assert_eq!(changes, wanted);
    }
}

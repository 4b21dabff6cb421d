//! The tokenizer as llguidance sees it: the bytes of every token that the model can choose. Special tokens are marked,
//! so that no text leads to them, and one token more stands for the end of the answer, whichever tokens end it.

use std::sync::Arc;

use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use crate::tokenizer::Tokenizer;

/// The longest token that the trie holds (its nodes count 1024 parents); longer ones are never chosen under a
/// constraint.
const LONGEST: usize = 1_000;
/// The bytes of the token that stands for the end.
const END: &[u8] = b"\xff<|end of the answer|>";

/// The trie of a tokenizer, for a model with `vocab_size` rows. Its end token is the one behind the last.
pub(super) fn environment(tokenizer: &Tokenizer, vocab_size: usize) -> Result<TokEnv, String> {
    if !tokenizer.spells() {
        return Err(
            "its tokenizer's decoder puts more into a text than its tokens' own bytes".into(),
        );
    }
    // Ids that only the tokenizer or only the model knows have no bytes here, and so are in no mask.
    let known = tokenizer.vocab_size().min(vocab_size);
    let mut words: Vec<Vec<u8>> = (0..known as u32).map(|id| bytes(tokenizer, id)).collect();
    words.push(END.to_vec());
    let end = u32::try_from(known).map_err(|_| "its vocabulary is too large".to_owned())?;
    let info = TokRxInfo::new(end + 1, end);
    // Approximate: that a text has one right way of being cut into tokens is not used. The model chooses the cut, and
    // the mask holds every token that is a beginning of what the grammar forces.
    Ok(Arc::new(ApproximateTokEnv::new(TokTrie::from(
        &info, &words,
    ))))
}

fn bytes(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let mut bytes = tokenizer.token_bytes(id);
    if tokenizer.is_special(id) {
        bytes.insert(0, TokTrie::SPECIAL_TOKEN_MARKER);
    }
    if bytes.len() > LONGEST {
        bytes.clear();
    }
    bytes
}

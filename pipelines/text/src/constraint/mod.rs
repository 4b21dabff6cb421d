//! Constrained decoding: grammars compiled for one tokenizer, and the state of one answer within its grammar. The
//! automata are llguidance's; what is here says which tokens there are, how large a grammar may be, and when an answer
//! may end.

mod grammar;
mod guide;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use chandler_core::RequestError;
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{InferenceCapabilities, TokEnv};
use llguidance::{Matcher, ParserFactory};

use crate::tokenizer::Tokenizer;

pub(crate) use grammar::{
    FIELD, Language, checked_schema, constraint, grammar_text, lark_literal, with_space,
};
pub(crate) use guide::Guide;

/// Stack of the thread that compiles. llguidance bounds how deep it recurses, for stacks of some megabytes in optimised
/// builds; pages that are not touched cost nothing.
const STACK: usize = 64 << 20;

/// The grammars of one loaded tokenizer.
pub(crate) struct Grammars {
    tokenizer: Arc<Tokenizer>,
    /// Rows of the model's output; tokens beyond them cannot be chosen.
    vocab_size: usize,
    /// Made when the first constraint comes: the tries of a large vocabulary take a moment and some megabytes.
    factory: OnceLock<Result<ParserFactory, String>>,
    /// One compilation at a time, so that a flood of hostile grammars costs one core and delays none but its like.
    turn: Mutex<()>,
}

impl Grammars {
    pub(crate) fn new(tokenizer: Arc<Tokenizer>, vocab_size: usize) -> Self {
        Self {
            tokenizer,
            vocab_size,
            factory: OnceLock::new(),
            turn: Mutex::new(()),
        }
    }

    /// Compiles a language.
    ///
    /// # Errors
    /// With the language's field, and what llguidance said of it.
    pub(crate) fn compile(&self, language: Language) -> Result<Guide, RequestError> {
        let Language { field, grammar } = language;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // Why a thread: it has a stack that the nesting which the limits admit fits into.
        let compiled = std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("grammar".into())
                .stack_size(STACK)
                .spawn_scoped(scope, || self.matcher(grammar))
                .map(|thread| thread.join())
        });
        let matcher = match compiled {
            Ok(Ok(matcher)) => matcher?,
            Ok(Err(_)) => return Err(RequestError::internal("compiling a grammar panicked")),
            Err(error) => {
                let message = format!("no thread could be started for a grammar: {error}");
                return Err(RequestError::internal(message));
            }
        };
        match matcher.get_error() {
            None => Ok(Guide::new(matcher)),
            Some(error) => Err(RequestError::field(
                field.clone(),
                format!(
                    "the {field} cannot be compiled: {}",
                    guide::in_one_line(&error)
                ),
            )),
        }
    }

    fn matcher(&self, grammar: TopLevelGrammar) -> Result<Matcher, RequestError> {
        let factory = self.factory.get_or_init(|| self.factory());
        match factory {
            Ok(factory) => Ok(Matcher::new(factory.create_parser(grammar))),
            Err(error) => Err(RequestError::unsupported(
                FIELD,
                format!("this model's answers cannot be constrained: {error}"),
            )),
        }
    }

    fn factory(&self) -> Result<ParserFactory, String> {
        let environment: TokEnv = vocabulary::environment(&self.tokenizer, self.vocab_size)?;
        let mut factory = ParserFactory::new(
            &environment,
            InferenceCapabilities::default(),
            &llguidance::earley::SlicedBiasComputer::general_slices(),
        )
        .map_err(|error| error.to_string())?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(factory)
    }
}

/// What one grammar may cost. llguidance's defaults admit a grammar of megabytes and 250 MB of automaton; these admit
/// the large schemas that are met with (some thousand properties), and bound a step on the engine's thread to some ten
/// milliseconds.
fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 2_000,
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: 200_000,
        step_max_items: 50_000,
        max_lexer_states: 50_000,
        max_grammar_size: 250_000,
        precompute_large_lexemes: true,
        // Its words would hold the tokens of the answer.
        verbose_errors: false,
    }
}

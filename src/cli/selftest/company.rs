//! Recorded questions, each asked alone and then all of them together: what every modality's examination does. Apart from the
//! modalities, which say what a question is and how its answer may differ.

use std::time::{Duration, Instant};

use chandler_core::{Input, RequestError};
use tokio::task::JoinSet;

use crate::cli::ask::{Answer, ask};
use crate::engine::Engine;

/// Something with a recorded answer.
pub(super) trait Question {
    /// What the model is asked.
    fn input(&self) -> Input;

    /// The question in a few words, for whoever reads what went wrong.
    fn name(&self) -> String;

    /// What differs from the recorded answer.
    fn difference(&self, answer: &Answer) -> Option<String>;
}

/// How it went.
pub(super) struct Examination {
    /// The answers that were given alone.
    pub(super) alone: Vec<Answer>,
    /// Those that were given in company.
    pub(super) together: Vec<Answer>,
    /// How long all of these took.
    pub(super) took_together: Duration,
    /// Answers that were as recorded.
    pub(super) passed: usize,
    /// What was not.
    pub(super) failed: Vec<String>,
}

impl Examination {
    /// So much of something, over the seconds that all took together.
    pub(super) fn a_second_together(&self, of: f64) -> f64 {
        of / self.took_together.as_secs_f64().max(1e-9)
    }
}

/// Asks everything.
pub(super) async fn examine<Q: Question>(engine: &Engine, questions: &[Q]) -> Examination {
    let (mut alone, mut together, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for question in questions {
        let answer = ask(engine, question.input(), |_| true).await;
        failed.extend(failure(question, &answer, "alone"));
        alone.extend(answer);
    }
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for (index, question) in questions.iter().enumerate() {
        let (engine, input) = (engine.clone(), question.input());
        tasks.spawn(async move { (index, ask(&engine, input, |_| true).await) });
    }
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok((index, answer)) => {
                let question = questions.get(index);
                failed.extend(question.and_then(|q| failure(q, &answer, "in company")));
                together.extend(answer);
            }
            Err(error) => failed.push(format!("a request broke off: {error}")),
        }
    }
    Examination {
        alone,
        together,
        took_together: started.elapsed(),
        passed: (questions.len() * 2).saturating_sub(failed.len()),
        failed,
    }
}

fn failure<Q: Question>(
    question: &Q,
    answer: &Result<Answer, RequestError>,
    how: &str,
) -> Option<String> {
    let difference = match answer {
        Ok(answer) => question.difference(answer)?,
        Err(error) => format!("failed: {error}"),
    };
    Some(format!("{} {how}: {difference}", question.name()))
}

pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Always(Option<&'static str>);

    impl Question for Always {
        fn input(&self) -> Input {
            Input::Text(chandler_core::TextInput::default())
        }

        fn name(&self) -> String {
            "it".to_owned()
        }

        fn difference(&self, _: &Answer) -> Option<String> {
            self.0.map(str::to_owned)
        }
    }

    #[test]
    fn an_answer_that_differs_and_one_that_never_came_are_failures() {
        let answer = || {
            Ok(Answer {
                collected: chandler_core::Collected::default(),
                first_token: Duration::ZERO,
                total: Duration::ZERO,
            })
        };
        assert_eq!(failure(&Always(None), &answer(), "alone"), None);
        let said = failure(&Always(Some("differs")), &answer(), "alone");
        assert_eq!(said.as_deref(), Some("it alone: differs"));
        let broken = Err(RequestError::internal("no"));
        let said = failure(&Always(None), &broken, "in company").unwrap();
        assert!(said.starts_with("it in company: failed: "), "{said}");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median(std::iter::empty()), 0.0);
    }
}

//! A report for people: a column for each run, side by side, and below it what went wrong.

use crate::bench::{Report, Run};
use crate::catalog::Spread;

type Cell = Option<String>;
/// A line's name, and what it says of a run.
type Line = (&'static str, fn(&Run) -> Cell);

const LINES: [Line; 31] = [
    ("requests", |run| Some(run.requests.to_string())),
    ("errors", |run| Some(run.failed.to_string())),
    ("retries", |run| {
        (run.retries > 0).then(|| run.retries.to_string())
    }),
    ("wall time, s", |run| number(Some(run.duration_s))),
    ("answers a second", |run| number(Some(run.requests_per_s))),
    ("latency, ms: p50", |run| p50(run.latency_ms)),
    ("p90", |run| p90(run.latency_ms)),
    ("p99", |run| p99(run.latency_ms)),
    ("mean", |run| mean(run.latency_ms)),
    ("first token, ms: p50", |run| p50(run.ttft_ms)),
    ("p90", |run| p90(run.ttft_ms)),
    ("p99", |run| p99(run.ttft_ms)),
    ("mean", |run| mean(run.ttft_ms)),
    ("between tokens, ms: p50", |run| p50(run.inter_token_ms)),
    ("p90", |run| p90(run.inter_token_ms)),
    ("p99", |run| p99(run.inter_token_ms)),
    ("mean", |run| mean(run.inter_token_ms)),
    ("tokens a second, all", |run| number(run.tokens_per_s)),
    ("each: p50", |run| p50(run.tokens_per_s_each)),
    ("steps a second, all", |run| number(run.steps_per_s)),
    ("each: p50", |run| p50(run.steps_per_s_each)),
    ("seconds of sound a second, all", |run| {
        number(run.audio_s_per_s)
    }),
    ("each: p50", |run| p50(run.audio_s_per_s_each)),
    ("in the queue, ms: p50", |run| p50(run.delay_ms)),
    ("p90", |run| p90(run.delay_ms)),
    ("p99", |run| p99(run.delay_ms)),
    ("mean", |run| mean(run.delay_ms)),
    ("execution, ms: p50", |run| p50(run.execution_ms)),
    ("p90", |run| p90(run.execution_ms)),
    ("p99", |run| p99(run.execution_ms)),
    ("mean", |run| mean(run.execution_ms)),
];

fn p50(spread: Option<Spread>) -> Cell {
    number(spread.map(|spread| spread.p50))
}

fn p90(spread: Option<Spread>) -> Cell {
    number(spread.map(|spread| spread.p90))
}

fn p99(spread: Option<Spread>) -> Cell {
    number(spread.map(|spread| spread.p99))
}

fn mean(spread: Option<Spread>) -> Cell {
    number(spread.map(|spread| spread.mean))
}

/// With as many places as say something.
fn number(number: Option<f64>) -> Cell {
    let number = number?;
    let places = match number.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    Some(format!("{number:.places$}"))
}

/// The report as text.
pub(super) fn table(report: &Report) -> String {
    let model = report.model.as_deref().unwrap_or("model unknown");
    let (endpoint, kind, task) = (&report.endpoint, report.endpoint_kind, report.task);
    let mut text = format!("{endpoint} ({kind}): {model}, {task}\n\n");
    let heads: Vec<String> = report.runs.iter().map(head).collect();
    let mut lines = vec![(String::new(), heads)];
    for (name, cell) in LINES {
        let cells: Vec<Cell> = report.runs.iter().map(cell).collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        let cells = cells
            .into_iter()
            .map(|cell| cell.unwrap_or_else(|| "-".to_owned()));
        lines.push((name.to_owned(), cells.collect()));
    }
    let names = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let all = lines.iter().flat_map(|(_, cells)| cells);
    let width = all.map(String::len).max().unwrap_or(0);
    for (name, cells) in &lines {
        // What follows a group's first line stands under its last word.
        let is_more = ["p90", "p99", "mean", "each: p50"].contains(&name.as_str());
        let mut line = if is_more {
            format!("{name:>names$}")
        } else {
            format!("{name:names$}")
        };
        for cell in cells {
            line += &format!("  {cell:>width$}");
        }
        text += &(line + "\n");
    }
    for (run, head) in report.runs.iter().zip(report.runs.iter().map(head)) {
        for (kind, trouble) in &run.errors {
            let (count, example) = (trouble.count, &trouble.example);
            text += &format!("\n{head}: {count} × {kind}: {example}");
        }
        if run.interrupted {
            text += &format!("\n{head}: interrupted; these are the figures so far");
        }
    }
    let is_steady = text.ends_with('\n');
    if is_steady { text } else { text + "\n" }
}

fn head(run: &Run) -> String {
    match run.rate {
        Some(rate) => format!("{rate} a second"),
        None => format!("{} at a time", run.concurrency),
    }
}

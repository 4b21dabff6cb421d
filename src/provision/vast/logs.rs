//! A machine's log: the platform puts it somewhere on request, and it is fetched from there without our login.

use std::time::Duration;

use serde_json::Value;

use super::{Vast, requests};
use crate::provision::platform::LogSink;
use crate::provision::{Name, ProvisionError, Secrets};

/// Until a log that was asked for is where it was promised.
const PAUSE: Duration = Duration::from_secs(1);
const TRIES: u32 = 20;
/// Between two requests while a log is followed; the platform limits them.
const AGAIN: Duration = Duration::from_secs(10);

impl Vast {
    pub(super) async fn tail(
        &self,
        name: &Name,
        follow: bool,
        sink: LogSink<'_>,
    ) -> Result<(), ProvisionError> {
        let mut before: Vec<String> = Vec::new();
        loop {
            let all = self.of(name).await?;
            let one = all.first().ok_or_else(|| self.unknown(name))?;
            let lines = self.log(one.id).await?;
            for line in unseen(&before, &lines) {
                if !sink(line) {
                    return Ok(());
                }
            }
            if !follow {
                return Ok(());
            }
            before = lines;
            tokio::time::sleep(AGAIN.mul_f64(self.api.patience().pace)).await;
        }
    }

    async fn log(&self, id: u64) -> Result<Vec<String>, ProvisionError> {
        let call = requests::logs(&self.options, id);
        let answer = self.api.send(&call, &Secrets::default()).await?;
        let url = answer.get("result_url").and_then(Value::as_str);
        let url = url.ok_or_else(|| self.api.malformed(&call, "it has no `result_url`"))?;
        let mut last = String::new();
        for _ in 0..TRIES {
            match self
                .client
                .get(url)
                .timeout(Duration::from_secs(30))
                .send()
                .await
            {
                Ok(answer) if answer.status().is_success() => {
                    let text = answer.text().await;
                    let text =
                        text.map_err(|error| self.api.malformed(&call, error.to_string()))?;
                    return Ok(text.lines().map(str::to_owned).collect());
                }
                Ok(answer) => last = format!("HTTP {}", answer.status().as_u16()),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(PAUSE.mul_f64(self.api.patience().pace)).await;
        }
        Err(self.api.malformed(
            &call,
            format!("the log is not where it was promised: {last}"),
        ))
    }
}

/// The lines that came after those that were seen: a log of limited length loses its first.
fn unseen<'a>(before: &[String], now: &'a [String]) -> &'a [String] {
    let most = before.len().min(now.len());
    let overlap = (0..=most).rev().find(|length| {
        let tail = before.get(before.len() - length..);
        tail == now.get(..*length)
    });
    now.get(overlap.unwrap_or(0)..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_once() {
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(unseen(&[], &lines("a b")), lines("a b"));
        assert_eq!(unseen(&lines("a b"), &lines("a b c")), lines("c"));
        assert_eq!(unseen(&lines("a b c"), &lines("b c d e")), lines("d e"));
        assert!(unseen(&lines("a b"), &lines("a b")).is_empty());
    }
}

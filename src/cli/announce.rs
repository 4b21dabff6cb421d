//! Tells where the worker is and how to try it: a person on a terminal, or a log elsewhere.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::MultiProgress;

use crate::config::{LogFormat, Settings};
use crate::engine::Engine;

/// Tells a person on a terminal, or a log elsewhere, where the worker is and how to try it.
pub struct Announcer {
    url: String,
    model: String,
    curl: String,
    person: bool,
}

impl Announcer {
    /// `port` is the one that was bound, which may have been left to the system.
    pub fn new(settings: &Settings, port: u16, model: &str) -> Self {
        let host = match settings.host.0 {
            ip if ip.is_unspecified() => "localhost".to_owned(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
            std::net::IpAddr::V4(ip) => ip.to_string(),
        };
        let url = format!("http://{host}:{port}");
        let key = if settings.api_keys.is_empty() {
            ""
        } else {
            " -H \"Authorization: Bearer $API_KEY\""
        };
        let body = serde_json::json!({
            "model": model,
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
        });
        let curl = format!(
            "curl {url}/v1/chat/completions -H 'Content-Type: application/json'{key} -d '{body}'"
        );
        let text = matches!(*settings.log_format, LogFormat::Auto | LogFormat::Text);
        Self {
            url,
            model: model.to_owned(),
            curl,
            person: text && io::stderr().is_terminal(),
        }
    }

    /// The port is open.
    pub fn listening(&self, bars: &MultiProgress) {
        if self.person {
            bars.suspend(|| eprintln!("chandler is listening on {}", self.url));
        } else {
            tracing::info!(url = self.url, model = self.model, "listening");
        }
    }

    /// The model can serve.
    pub fn ready(&self, engine: &Engine, took: Duration, bars: &MultiProgress) {
        let (device, dtype, cache) = engine
            .info()
            .map(|info| (info.device, info.dtype, info.cache))
            .unwrap_or_default();
        let room = cache.map_or_else(String::new, |cache| {
            let size = cache.bytes as f64 / f64::from(1 << 20);
            format!(", with a cache of {} tokens in {size:.1} MiB", cache.tokens)
        });
        if self.person {
            bars.suspend(|| {
                eprintln!(
                    "{} is ready after {took:.2?} on {device} in {dtype}{room}. Try it:\n\n  {}\n",
                    self.model, self.curl
                );
            });
        } else {
            let elapsed_ms = took.as_millis() as u64;
            tracing::info!(
                model = self.model,
                device,
                dtype,
                elapsed_ms,
                r#try = self.curl,
                "model ready"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::flags::{Everything, SettingFlags};

    #[test]
    fn the_curl_line_asks_for_a_key_only_where_one_is_needed() {
        let mut flags = SettingFlags::<Everything>::default();
        flags.set("port", "1234");
        let mut settings = flags.resolve().unwrap().settings;
        let open = Announcer::new(&settings, 1234, "demo").curl;
        assert!(
            open.starts_with("curl http://localhost:1234/v1/chat/completions"),
            "{open}"
        );
        assert!(!open.contains("Authorization"));
        settings.api_keys.value = vec!["secret".into()];
        let closed = Announcer::new(&settings, 1234, "demo").curl;
        assert!(
            closed.contains("Bearer $API_KEY") && !closed.contains("secret"),
            "{closed}"
        );
    }
}

//! Tells where the worker is and how to try it: a person on a terminal, or a log elsewhere.

use std::io::{self, IsTerminal};
use std::time::Duration;

use chandler_core::{ModelInfo, Task};
use indicatif::MultiProgress;
use serde_json::{Value, json};

use crate::config::{LogFormat, Settings};
use crate::engine::Engine;

/// Tells a person on a terminal, or a log elsewhere, where the worker is and how to try it.
pub struct Announcer {
    url: String,
    model: String,
    /// What a request adds where a key is needed.
    key: &'static str,
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
        let text = matches!(*settings.log_format, LogFormat::Auto | LogFormat::Text);
        Self {
            url,
            model: model.to_owned(),
            key,
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

    /// A request that a model of this task answers, for a shell; `chat` is whether it has a chat template.
    fn curl(&self, task: Task, chat: bool) -> String {
        let Self {
            url, model, key, ..
        } = self;
        let posted = |route: &str, body: Value| {
            format!("curl {url}{route} -H 'Content-Type: application/json'{key} -d '{body}'")
        };
        match task {
            Task::AutomaticSpeechRecognition => {
                format!("curl {url}/v1/audio/transcriptions{key} -F model={model} -F file=@FILE")
            }
            Task::ImageInpainting => format!(
                "curl {url}/v1/images/edits{key} -F model={model} -F image=@FILE -F mask=@FILE -F 'prompt=a lighthouse at dusk'"
            ),
            Task::TextToImage | Task::ImageToImage => {
                let body = json!({"model": model, "prompt": "a lighthouse at dusk"});
                posted("/v1/images/generations", body)
            }
            _ if chat => {
                let question = json!({"role": "user", "content": "What is the capital of France?"});
                let body = json!({"model": model, "messages": [question]});
                posted("/v1/chat/completions", body)
            }
            _ => {
                let body = json!({"model": model, "prompt": "The capital of France is"});
                posted("/v1/completions", body)
            }
        }
    }

    /// The model can serve.
    pub fn ready(&self, engine: &Engine, took: Duration, bars: &MultiProgress) {
        // None: it has ended since, and there is nothing to be tried.
        let Some(info) = engine.info() else {
            return;
        };
        let curl = self.curl(info.task, info.chat);
        let ModelInfo { device, dtype, .. } = info;
        let room = info.cache.map_or_else(String::new, |cache| {
            let size = cache.bytes as f64 / f64::from(1 << 20);
            format!(", with a cache of {} tokens in {size:.1} MiB", cache.tokens)
        });
        if self.person {
            bars.suspend(|| {
                eprintln!(
                    "{} is ready after {took:.2?} on {device} in {dtype}{room}. Try it:\n\n  {}\n",
                    self.model, curl
                );
            });
        } else {
            let elapsed_ms = took.as_millis() as u64;
            tracing::info!(
                model = self.model,
                device,
                dtype,
                elapsed_ms,
                r#try = curl,
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
        let open = Announcer::new(&settings, 1234, "demo").curl(Task::TextGeneration, true);
        assert!(
            open.starts_with("curl http://localhost:1234/v1/chat/completions"),
            "{open}"
        );
        assert!(!open.contains("Authorization"));
        settings.api_keys.value = vec!["secret".into()];
        // What is asked is what the model can do.
        for (task, chat, route) in [
            (Task::TextGeneration, true, "/v1/chat/completions "),
            (Task::TextGeneration, false, "/v1/completions "),
            (
                Task::AutomaticSpeechRecognition,
                false,
                "/v1/audio/transcriptions ",
            ),
            (Task::TextToImage, false, "/v1/images/generations "),
            (Task::ImageInpainting, false, "/v1/images/edits "),
        ] {
            let closed = Announcer::new(&settings, 1234, "demo").curl(task, chat);
            assert!(closed.contains(route), "{closed}");
            let keyed = closed.contains("Bearer $API_KEY") && !closed.contains("secret");
            assert!(keyed, "{closed}");
        }
    }
}

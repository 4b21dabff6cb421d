//! Adapters and ControlNets as settings write them: `name=place`, several with commas between them, or the JSON that vLLM's workers take.
//! Apart from `value` because it is the one setting with two spellings.

use serde::Deserialize;

use super::value::Value;

/// What would do.
const WANTED: &str = "give name=directory, name=org/repository or name=s3://bucket/prefix (an image model's may be a file of these), several with \
     commas between them, or a JSON list of {\"name\", \"path\"}";

/// An adapter (LoRA) or a ControlNet, and what requests call it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedAdapter {
    /// Its name.
    pub name: String,
    /// Where it is, as a model is named: a directory, a repository on the hub, a bucket.
    pub path: String,
    /// vLLM's worker writes it; which model is loaded is said elsewhere.
    #[serde(default, rename = "base_model_name")]
    _base: Option<String>,
}

/// What is loaded beside the model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Adapters(pub Vec<NamedAdapter>);

impl Value for Adapters {
    const REPEATED: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let adapters: Vec<NamedAdapter> = match text.chars().next() {
            Some('[') => {
                serde_json::from_str(text).map_err(|error| format!("{WANTED}: {error}"))?
            }
            Some('{') => serde_json::from_str(&format!("[{text}]"))
                .map_err(|error| format!("{WANTED}: {error}"))?,
            _ => text
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(named)
                .collect::<Result<_, _>>()?,
        };
        for (index, adapter) in adapters.iter().enumerate() {
            let name = &adapter.name;
            if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return Err(format!("{name:?} is no name; {WANTED}"));
            }
            if adapters.iter().take(index).any(|other| other.name == *name) {
                return Err(format!(
                    "{name} is there twice; give each a name of its own"
                ));
            }
        }
        Ok(Self(adapters))
    }

    fn show(&self) -> String {
        let shown = self
            .0
            .iter()
            .map(|adapter| format!("{}={}", adapter.name, adapter.path));
        shown.collect::<Vec<_>>().join(",")
    }
}

fn named(part: &str) -> Result<NamedAdapter, String> {
    match part.split_once('=') {
        Some((name, path)) if !path.trim().is_empty() => Ok(NamedAdapter {
            name: name.trim().to_owned(),
            path: path.trim().into(),
            _base: None,
        }),
        _ => Err(WANTED.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_the_json_of_vllms_workers_are_the_same() {
        let plain = Adapters::parse("sql=/adapters/sql, law = law-v2").unwrap();
        let json = r#"[{"name": "sql", "path": "/adapters/sql", "base_model_name": null}, {"name": "law", "path": "law-v2"}]"#;
        assert_eq!(Adapters::parse(json).unwrap(), plain);
        // As flags that were given twice are joined.
        let flags = r#"{"name": "sql", "path": "/adapters/sql"},{"name": "law", "path": "law-v2"}"#;
        assert_eq!(Adapters::parse(flags).unwrap(), plain);
        assert_eq!(plain.show(), "sql=/adapters/sql,law=law-v2");
        assert_eq!(Adapters::parse("").unwrap(), Adapters::default());
    }

    #[test]
    fn what_is_no_adapter_says_what_would_do() {
        for text in [
            "sql",
            "sql=",
            "=path",
            "a b=path",
            r#"[{"name": "a"}]"#,
            r#"[{"name": "a", "path": "b", "rank": 3}]"#,
        ] {
            let error = Adapters::parse(text).unwrap_err();
            assert!(error.contains("give name=directory"), "{text}: {error}");
        }
        assert!(Adapters::parse("a=x,a=y").unwrap_err().contains("twice"));
    }
}

//! Adds benchmark results to a template in a user's own file, and leaves everything else in it as it stands: comments, order,
//! spelling. Apart from the reader because that one sees values only, and would write a file without its comments.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::Serialize;
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value};

use super::{Benchmark, Catalog, CatalogError, Template};

/// A template's name, and what it begins with where neither the file nor the compiled-in data has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTemplate {
    /// Its name.
    pub id: String,
    /// The model's, by its card.
    pub model: Option<String>,
    /// A hardware card, or `cpu`; without it no template is made.
    pub hardware: Option<String>,
}

/// Adds results to the template of that name in the file at `path`, which is made where there is none. A compiled-in template
/// stays as it is: the file gets one of the same name and settings, which comes before it.
///
/// # Errors
/// [`CatalogError`]: the file cannot be read or written, or would not be right with the template in it; then it stays as it was.
pub fn append(
    path: &Path,
    template: &NewTemplate,
    benchmarks: &[Benchmark],
) -> Result<(), CatalogError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(CatalogError::Unreadable {
                path: path.to_owned(),
                reason: error.to_string(),
            });
        }
    };
    let place = path.display().to_string();
    let built_in = Catalog::built_in()?;
    let ours = built_in.find_template(&template.id).ok();
    let text = appended(&text, (template, ours), benchmarks).map_err(|reason| {
        CatalogError::Malformed {
            place: place.clone(),
            reason,
        }
    })?;
    Catalog::with_text(&text, &place)?;
    replace(path, &text).map_err(|error| CatalogError::Unwritable {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// The whole file or the old one: somebody may read it meanwhile.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    // Through a link, so that what it leads to is what changes.
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = target
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let beside = directory.join(format!(".{name}.{}", uuid::Uuid::new_v4().simple()));
    let written = (|| {
        let mut file = std::fs::File::create_new(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if let Ok(old) = std::fs::metadata(&target) {
            std::fs::set_permissions(&beside, old.permissions())?;
        }
        std::fs::rename(&beside, &target)
    })();
    if written.is_err() {
        // Why ignored: what went wrong first is what is told.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

fn appended(
    text: &str,
    (template, ours): (&NewTemplate, Option<&Template>),
    benchmarks: &[Benchmark],
) -> Result<String, String> {
    let mut document: DocumentMut = text
        .parse()
        .map_err(|error: toml_edit::TomlError| error.to_string())?;
    let templates = document
        .entry("template")
        .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    let templates = templates
        .as_array_of_tables_mut()
        .ok_or("template is a value; write each as a table, [[template]]")?;
    let is_it = |table: &Table| {
        let id = table.get("id").and_then(Item::as_str);
        id.is_some_and(|id| id.eq_ignore_ascii_case(&template.id))
    };
    let found = templates.iter().position(is_it);
    let place = match found {
        Some(place) => place,
        None => {
            templates.push(made(template, ours)?);
            templates.len() - 1
        }
    };
    let place = templates.get_mut(place).ok_or("the template is gone")?;
    for benchmark in benchmarks {
        push(place, table(benchmark)?)?;
    }
    Ok(document.to_string())
}

/// A new template: a copy of ours, or what is known of a model that was measured.
fn made(template: &NewTemplate, ours: Option<&Template>) -> Result<Table, String> {
    if let Some(ours) = ours {
        let benchmarks = Vec::new();
        return table(&Template {
            benchmarks,
            ..ours.clone()
        });
    }
    let id = &template.id;
    let missing = |what: &str, flag: &str| {
        format!("it has no template {id:?}, and a new one must say {what}: {flag}")
    };
    let model = template.model.clone();
    let hardware = template.hardware.clone();
    table(&Template {
        id: id.clone(),
        model: model.ok_or_else(|| missing("which model it is of", "give --model"))?,
        hardware: hardware.ok_or_else(|| missing("what it runs on", "give --hardware"))?,
        settings: BTreeMap::new(),
        note: None,
        benchmarks: Vec::new(),
    })
}

/// One more result, in the form in which the template has its others.
fn push(template: &mut Table, result: Table) -> Result<(), String> {
    let results = template
        .entry("benchmark")
        .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    match results {
        Item::ArrayOfTables(tables) => tables.push(result),
        Item::Value(Value::Array(list)) => add(list, result.into_inline_table()),
        _ => {
            return Err(
                "benchmark is no list; write each as a table, [[template.benchmark]]".to_owned(),
            );
        }
    }
    Ok(())
}

fn add(list: &mut Array, result: InlineTable) {
    let mut result = Value::InlineTable(result);
    result.decor_mut().set_prefix("\n    ");
    list.push_formatted(result);
}

/// A value as a table whose own tables are on one line each.
fn table(value: &impl Serialize) -> Result<Table, String> {
    let text = toml::to_string(value).map_err(|error| error.to_string())?;
    let document: DocumentMut = text
        .parse()
        .map_err(|error: toml_edit::TomlError| error.to_string())?;
    let mut table = Table::new();
    for (key, item) in document.as_table().iter() {
        let item = match item {
            Item::Table(inner) => {
                Item::Value(Value::InlineTable(inner.clone().into_inline_table()))
            }
            other => other.clone(),
        };
        table.insert(key, item);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Spread;

    fn benchmark(requests: u64) -> Benchmark {
        let spread = Spread {
            p50: 1.5,
            p90: 2.0,
            p99: 3.0,
            mean: 1.75,
        };
        Benchmark {
            date: "2026-11-22T10:00:00Z".into(),
            command: "chandler bench http://127.0.0.1:8080".into(),
            endpoint_kind: "openai-chat".into(),
            requests,
            concurrency: 4,
            duration_s: 12.5,
            latency_ms: spread,
            ttft_ms: Some(spread),
            tokens_per_s: Some(81.9),
            steps_per_s: None,
            audio_s_per_s: None,
            errors: 0,
            chandler_version: "0.1.0".into(),
            hardware: None,
        }
    }

    fn template(id: &str) -> NewTemplate {
        NewTemplate {
            id: id.into(),
            model: Some("demo".into()),
            hardware: Some("l4".into()),
        }
    }

    /// The results that a file's template has.
    fn results(text: &str, index: usize) -> Vec<Benchmark> {
        let read: toml::Value = toml::from_str(text).unwrap();
        let list = read["template"][index]["benchmark"].clone();
        list.try_into().unwrap()
    }

    const OWN: &str = "# Mine.\n\n[[template]] # the first\nid = 'one'   # odd quotes\nmodel = \"demo\"\nhardware = \"l4\"\n\
        settings = { max_rows = 4 }\n\n# Another.\n[[template]]\nid = \"two\"\nmodel = \"demo\"\nhardware = \"l4\"\n\
        \n[[model]]\nid = \"x\" # last\n";

    #[test]
    fn results_are_added_and_everything_else_stays() {
        let once = appended(OWN, (&template("ONE"), None), &[benchmark(10)]).unwrap();
        let twice = appended(
            &once,
            (&template("one"), None),
            &[benchmark(20), benchmark(30)],
        )
        .unwrap();
        assert_eq!(results(&twice, 0), [10, 20, 30].map(benchmark));
        for line in OWN.lines() {
            assert!(
                twice.lines().any(|other| other == line),
                "{line} in {twice}"
            );
        }
        let places = ["# Mine.", "# the first", "# Another.", "# last"];
        let places = places.map(|mark| twice.find(mark).unwrap());
        assert!(places.is_sorted(), "{twice}");
        assert!(twice.contains("latency_ms = {"), "{twice}");
    }

    #[test]
    fn a_list_that_is_written_as_a_value_stays_one() {
        let mut list = appended("", (&template("a"), None), &[]).unwrap();
        list += "benchmark = [ # here\n]\n";
        for requests in [1, 2] {
            list = appended(&list, (&template("a"), None), &[benchmark(requests)]).unwrap();
        }
        assert_eq!(results(&list, 0), [1, 2].map(benchmark));
        assert!(
            !list.contains("[[template.benchmark]]") && list.contains("# here"),
            "{list}"
        );
    }

    #[test]
    fn a_file_and_a_template_that_are_not_there_are_made_once_it_is_known_what_they_run_on() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("models.toml");
        let nameless = NewTemplate {
            hardware: None,
            ..template("new")
        };
        let error = append(&path, &nameless, &[benchmark(1)])
            .unwrap_err()
            .to_string();
        assert!(error.contains("--hardware"), "{error}");
        assert!(!path.exists());
        append(&path, &template("new"), &[benchmark(1)]).unwrap();
        append(&path, &nameless, &[benchmark(2)]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(results(&text, 0), [1, 2].map(benchmark));
        assert!(
            text.starts_with("[[template]]\nid = \"new\"\nmodel = \"demo\"\nhardware = \"l4\"\n"),
            "{text}"
        );
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_template_of_ours_is_copied_with_its_settings() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("models.toml");
        let ours = NewTemplate {
            id: "DEMO-cpu".into(),
            model: None,
            hardware: None,
        };
        for requests in [1, 2] {
            append(&path, &ours, &[benchmark(requests)]).unwrap();
        }
        let catalog = Catalog::with_file(&path).unwrap();
        let found = catalog.find_template("demo-cpu").unwrap();
        let built_in = Catalog::built_in().unwrap();
        let before = built_in.find_template("demo-cpu").unwrap();
        assert_eq!(found.benchmarks, [1, 2].map(benchmark));
        assert!(before.benchmarks.is_empty() && !before.settings.is_empty());
        assert_eq!(found.settings, before.settings);
        assert_eq!(catalog.templates().len(), built_in.templates().len());
    }

    #[test]
    fn a_template_that_names_no_card_is_not_written() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("models.toml");
        let stray = NewTemplate {
            hardware: Some("abacus".into()),
            ..template("new")
        };
        let error = append(&path, &stray, &[benchmark(1)])
            .unwrap_err()
            .to_string();
        assert!(error.contains("hardware is `abacus`"), "{error}");
        assert!(!path.exists());
    }

    #[test]
    fn what_is_not_right_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("models.toml");
        for wrong in [
            "template = 5\n",
            "[[template]\n",
            "[[template]]\nid = \"a\"\nbenchmark = 1\n",
        ] {
            std::fs::write(&path, wrong).unwrap();
            let error = append(&path, &template("a"), &[benchmark(1)]).unwrap_err();
            assert!(error.to_string().contains("models.toml"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), wrong);
        }
    }
}

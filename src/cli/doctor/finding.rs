//! What a check found, and how findings are shown: lines for a person, JSON with keys that stay for programs.

use serde::Serialize;
use serde_json::{Map, Value};

/// How bad it is; the worst comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be, or a fact that is neither good nor bad.
    Ok,
    /// Works, but not as one would expect.
    Warning,
    /// Will not work.
    Problem,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// What it is about: gpu, libraries, limits, disk, network, credentials, platform.
    pub group: &'static str,
    /// What was looked at.
    pub check: String,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What would mend it, where something is to be mended.
    pub remedy: Option<String>,
    /// The same as values, for programs.
    pub data: Map<String, Value>,
}

impl Finding {
    fn new(group: &'static str, check: impl Into<String>, level: Level, found: String) -> Self {
        Self {
            group,
            check: check.into(),
            level,
            found,
            remedy: None,
            data: Map::new(),
        }
    }

    /// A fact.
    pub fn ok(group: &'static str, check: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(group, check, Level::Ok, found.into())
    }

    /// Something that works, but not as one would expect.
    pub fn warning(
        group: &'static str,
        check: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::new(group, check, Level::Warning, found.into())
    }

    /// Something that will not work.
    pub fn problem(
        group: &'static str,
        check: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::new(group, check, Level::Problem, found.into())
    }

    /// What would mend it.
    #[must_use]
    pub fn mended_by(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Makes a problem a warning, and says why it is no more than that.
    #[must_use]
    pub fn at_worst_a_warning(mut self, why: &str) -> Self {
        if self.level == Level::Problem {
            self.level = Level::Warning;
            self.found = format!("{} ({why})", self.found);
        }
        self
    }

    /// A value for programs; what is not known is left out.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Serialize) -> Self {
        match serde_json::to_value(value) {
            Ok(Value::Null) | Err(_) => {}
            Ok(value) => {
                self.data.insert(key.to_owned(), value);
            }
        }
        self
    }
}

/// All findings.
#[derive(Debug, Serialize)]
pub struct Report {
    /// This program's version.
    pub version: &'static str,
    /// The worst of all.
    pub status: Level,
    /// How many are problems.
    pub problems: usize,
    /// How many are warnings.
    pub warnings: usize,
    /// Each of them.
    pub checks: Vec<Finding>,
}

impl Report {
    pub fn new(version: &'static str, checks: Vec<Finding>) -> Self {
        let count = |level| {
            checks
                .iter()
                .filter(|finding| finding.level == level)
                .count()
        };
        Self {
            version,
            status: checks
                .iter()
                .map(|finding| finding.level)
                .max()
                .unwrap_or(Level::Ok),
            problems: count(Level::Problem),
            warnings: count(Level::Warning),
            checks,
        }
    }

    /// For a person: a heading for each group, a line for each finding, and the remedy below what is to be mended.
    pub fn as_text(&self) -> String {
        let width = self.checks.iter().map(|finding| finding.check.len()).max();
        let width = width.unwrap_or(0).min(24);
        let mut text = String::new();
        let mut group = "";
        for finding in &self.checks {
            if finding.group != group {
                group = finding.group;
                text.push_str(&format!("{group}\n"));
            }
            let level = finding.level.as_str();
            text.push_str(&format!(
                "  {level:8} {:width$}  {}\n",
                finding.check, finding.found
            ));
            if let Some(remedy) = &finding.remedy {
                text.push_str(&format!("  {:8} {:width$}  -> {remedy}\n", "", ""));
            }
        }
        text.push_str(&match (self.problems, self.warnings) {
            (0, 0) => "all is well\n".to_owned(),
            (problems, warnings) => {
                let counted = |count: usize, name: &str| match count {
                    1 => format!("1 {name}"),
                    many => format!("{many} {name}s"),
                };
                format!(
                    "{}, {}\n",
                    counted(problems, "problem"),
                    counted(warnings, "warning")
                )
            }
        });
        text
    }
}

/// Bytes as people read them.
pub fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let checks = vec![
            Finding::ok("disk", "hub cache", "12 GiB are free").with("free_bytes", 12u64 << 30),
            Finding::problem("network", "hub", "no answer").mended_by("set HTTPS_PROXY"),
            Finding::warning("network", "bucket", "slow").with("status", None::<u16>),
        ];
        Report::new("1.2.3", checks)
    }

    #[test]
    fn the_worst_finding_is_the_reports() {
        let report = report();
        assert_eq!(
            (report.status, report.problems, report.warnings),
            (Level::Problem, 1, 1)
        );
        assert_eq!(Report::new("1", Vec::new()).status, Level::Ok);
    }

    #[test]
    fn what_is_not_needed_is_no_problem() {
        let finding =
            Finding::problem("network", "hub", "no answer").at_worst_a_warning("not needed");
        assert_eq!(
            (finding.level, finding.found.as_str()),
            (Level::Warning, "no answer (not needed)")
        );
        let finding = Finding::ok("network", "hub", "answers").at_worst_a_warning("not needed");
        assert_eq!(
            (finding.level, finding.found.as_str()),
            (Level::Ok, "answers")
        );
    }

    #[test]
    fn a_person_reads_groups_lines_and_remedies() {
        let expected = "disk\n  ok       hub cache  12 GiB are free\n\
                        network\n  problem  hub        no answer\n                      -> set HTTPS_PROXY\n  \
                        warning  bucket     slow\n1 problem, 1 warning\n";
        assert_eq!(report().as_text(), expected);
    }

    #[test]
    fn the_keys_of_the_json_stay() {
        let expected = serde_json::json!({
            "version": "1.2.3", "status": "problem", "problems": 1, "warnings": 1,
            "checks": [
                {"group": "disk", "check": "hub cache", "level": "ok", "found": "12 GiB are free", "remedy": null,
                 "data": {"free_bytes": 12884901888u64}},
                {"group": "network", "check": "hub", "level": "problem", "found": "no answer", "remedy": "set HTTPS_PROXY",
                 "data": {}},
                {"group": "network", "check": "bucket", "level": "warning", "found": "slow", "remedy": null, "data": {}},
            ],
        });
        assert_eq!(serde_json::to_value(report()).unwrap(), expected);
    }
}

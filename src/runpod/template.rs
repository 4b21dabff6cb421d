//! The platform's addresses: templates with placeholders and, mostly, a query already. Apart from the rest because every
//! trap of the real templates is here: which `$ID` is whose, `?` or `&`, and a `+` that must stay one.

use std::fmt::Write;

/// An address with the worker already in it, and places for a job's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    /// What stands between the places.
    parts: Vec<String>,
}

/// Who the worker is, as the templates name it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) worker: &'a str,
    pub(super) gpu: Option<&'a str>,
}

impl Template {
    /// A template in which `$ID` is a job.
    pub(super) fn of_jobs(text: &str, place: Place<'_>) -> Self {
        let text = place.put_into(text);
        Self {
            parts: text.split("$ID").map(str::to_owned).collect(),
        }
    }

    /// A template in which `$ID` is the worker.
    pub(super) fn of_worker(text: &str, place: Place<'_>) -> Self {
        let text = place.put_into(text);
        Self {
            parts: vec![text.replace("$ID", &encoded(place.worker))],
        }
    }

    /// The sister address whose path has another segment; `None` when this one has no such segment.
    pub(super) fn with_segment(&self, from: &str, to: &str) -> Option<Self> {
        let (first, rest) = self.parts.split_first()?;
        let path_end = first.find('?').unwrap_or(first.len());
        let (path, query) = first.split_at(path_end);
        path.contains(from).then(|| Self {
            parts: [path.replacen(from, to, 1) + query]
                .into_iter()
                .chain(rest.iter().cloned())
                .collect(),
        })
    }

    /// The address for a job, with more in its query.
    pub(super) fn url(&self, id: &str, query: &[(&str, &str)]) -> String {
        let id = encoded(id);
        let mut url = self.parts.join(&id);
        for (key, value) in query {
            match url.find('?') {
                None => url.push('?'),
                Some(_) if url.ends_with(['?', '&']) => {}
                Some(_) => url.push('&'),
            }
            url.push_str(key);
            url.push('=');
            url.push_str(&encoded(value));
        }
        url
    }
}

impl Place<'_> {
    fn put_into(self, text: &str) -> String {
        let text = text.trim().replace("$RUNPOD_POD_ID", &encoded(self.worker));
        match self.gpu {
            // In a query, and as the platform itself writes it: `NVIDIA+RTX+A5000`.
            Some(gpu) => text.replace("$RUNPOD_GPU_TYPE_ID", &encoded(gpu).replace("%20", "+")),
            None => text,
        }
    }
}

/// A value as a path segment or a query value can hold it. Ids are letters, digits and dashes, so that this mostly copies.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Why ignored: writing into a String does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place {
        worker: "w1",
        gpu: Some("NVIDIA RTX A5000"),
    };

    #[test]
    fn the_id_is_the_workers_when_taking_and_the_jobs_when_answering() {
        let take = Template::of_worker("https://h/v2/e/job-take/$ID?gpu=A+B", PLACE);
        assert_eq!(
            take.url("", &[("job_in_progress", "0")]),
            "https://h/v2/e/job-take/w1?gpu=A+B&job_in_progress=0"
        );
        let done = Template::of_jobs(
            "https://h/v2/e/job-done/$RUNPOD_POD_ID/$ID?gpu=$RUNPOD_GPU_TYPE_ID",
            PLACE,
        );
        assert_eq!(
            done.url("j-u1", &[("isStream", "false")]),
            "https://h/v2/e/job-done/w1/j-u1?gpu=NVIDIA+RTX+A5000&isStream=false"
        );
    }

    #[test]
    fn a_query_is_begun_where_there_is_none_and_continued_where_there_is() {
        for (text, url) in [
            ("http://h/p/$ID", "http://h/p/j?a=1&b=2"),
            ("http://h/p/$ID?", "http://h/p/j?a=1&b=2"),
            ("http://h/p/$ID?x=y", "http://h/p/j?x=y&a=1&b=2"),
            ("http://h/p/$ID?x=y&", "http://h/p/j?x=y&a=1&b=2"),
            ("http://h/p?job=$ID", "http://h/p?job=j&a=1&b=2"),
        ] {
            let template = Template::of_jobs(text, PLACE);
            assert_eq!(template.url("j", &[("a", "1"), ("b", "2")]), url);
        }
        let plain = Template::of_worker("http://h/$ID", Place { gpu: None, ..PLACE });
        assert_eq!(plain.url("", &[]), "http://h/w1");
    }

    #[test]
    fn an_odd_id_stays_one_segment_and_a_plus_stays_a_plus() {
        let template = Template::of_jobs("http://h/$ID?gpu=A+B", PLACE);
        let url = template.url("a/b c?d", &[("reason", "x & y")]);
        assert_eq!(url, "http://h/a%2Fb%20c%3Fd?gpu=A+B&reason=x%20%26%20y");
        let parsed = reqwest::Url::parse(&url).unwrap();
        assert_eq!(parsed.as_str(), url);
    }

    #[test]
    fn only_the_paths_segment_is_exchanged() {
        let take = Template::of_worker("http://h/job-take/$ID?next=/job-take/", PLACE);
        let batch = take.with_segment("/job-take/", "/job-take-batch/").unwrap();
        assert_eq!(
            batch.url("", &[("n", "2")]),
            "http://h/job-take-batch/w1?next=/job-take/&n=2"
        );
        let other = Template::of_worker("http://h/take/$ID?next=/job-take/", PLACE);
        assert_eq!(other.with_segment("/job-take/", "/job-stop/"), None);
    }

    #[test]
    fn a_placeholder_that_nobody_can_fill_is_left_alone() {
        let template = Template::of_worker(
            "http://h/$ID?gpu=$RUNPOD_GPU_TYPE_ID",
            Place { gpu: None, ..PLACE },
        );
        assert_eq!(template.url("", &[]), "http://h/w1?gpu=$RUNPOD_GPU_TYPE_ID");
    }
}

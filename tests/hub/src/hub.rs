//! The hub's JSON: who am I, model info, trees in pages, paths, refs; and who may see what.

use std::collections::BTreeSet;

use axum::http::request::Parts;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::answer::Answer;
use crate::content::Content;
use crate::double::{State, User};
use crate::faults::Fault;
use crate::record::text;
use crate::repo::{Access, Files, Kept, Repo, RepoFile};
use crate::resolve;
use crate::route::{Route, fields, is_set};

/// Who asks.
pub enum Who<'a> {
    Anonymous,
    User(&'a User),
}

impl Who<'_> {
    pub fn belongs_to(&self, repo: &Repo) -> bool {
        match self {
            Self::Anonymous => false,
            Self::User(user) => repo.allowed.contains(&user.name),
        }
    }
}

pub struct Asked<'a> {
    pub parts: &'a Parts,
    pub body: &'a Bytes,
    pub fault: Option<&'a Fault>,
}

impl Asked<'_> {
    fn query(&self) -> &str {
        self.parts.uri.query().unwrap_or_default()
    }
}

pub fn answer(state: &State, route: Route, asked: &Asked<'_>) -> Answer {
    let who = match who(state, asked.parts) {
        Ok(who) => who,
        Err(refused) => return *refused,
    };
    let answered = match route {
        Route::WhoAmI => Ok(whoami(&who)),
        Route::Info { repo, revision } => info(state, (&repo, revision.as_deref()), &who, asked),
        Route::Tree {
            repo,
            revision,
            under,
        } => visible(state, &repo, &who, asked)
            .and_then(|repo| tree(state, &repo, (&revision, &under), asked)),
        Route::PathsInfo { repo, revision } => {
            visible(state, &repo, &who, asked).and_then(|repo| {
                let (_, files) = commit(&repo, &revision)?;
                Ok(paths_info(&repo, files, asked))
            })
        }
        Route::Refs { repo } => visible(state, &repo, &who, asked).map(|repo| refs(&repo)),
        Route::XetToken { repo, revision } => visible(state, &repo, &who, asked).and_then(|repo| {
            commit(&repo, &revision)?;
            Ok(xet_token(state))
        }),
        Route::Resolve {
            repo,
            revision,
            path,
        } => visible(state, &repo, &who, asked)
            .and_then(|repo| resolve::answer(state, &repo, (&revision, &path), (&who, asked))),
        Route::ResolveCache { repo, commit, path } => visible(state, &repo, &who, asked)
            .and_then(|repo| resolve::cached(&repo, (&commit, &path), (&who, asked))),
        Route::Control(_) | Route::Unknown => Err(Box::new(Answer::error(
            404,
            None,
            "Sorry, we can't find the page you are looking for.",
        ))),
    };
    answered.unwrap_or_else(|refused| *refused)
}

/// Boxed, since an answer is large and a refusal rare.
pub type Refusal = Box<Answer>;

fn refuse(status: u16, code: &str, message: &str) -> Refusal {
    Box::new(Answer::error(status, Some(code), message))
}

fn who<'a>(state: &'a State, parts: &Parts) -> Result<Who<'a>, Refusal> {
    let Some(sent) = text(&parts.headers, "authorization") else {
        return Ok(Who::Anonymous);
    };
    let token = sent.strip_prefix("Bearer ");
    let user = state
        .options
        .users
        .iter()
        .find(|user| Some(user.token.as_str()) == token);
    user.map(Who::User).ok_or_else(|| {
        Box::new(Answer::error(
            401,
            None,
            "Invalid credentials in Authorization header",
        ))
    })
}

fn whoami(who: &Who<'_>) -> Answer {
    match who {
        Who::Anonymous => Answer::error(401, None, "Invalid username or password."),
        Who::User(user) => Answer::json(&json!({
            "type": "user",
            "name": user.name,
            "auth": {"type": "access_token", "accessToken": {"displayName": "test", "role": "read"}},
            "orgs": [],
        })),
    }
}

/// The repository, if there is one that this user may know of.
fn visible(state: &State, id: &str, who: &Who<'_>, asked: &Asked<'_>) -> Result<Repo, Refusal> {
    let repo = state.repos().get(id).cloned();
    let hidden = |repo: &Repo| repo.access == Access::Private && !who.belongs_to(repo);
    let Some(repo) = repo.filter(|repo| !hidden(repo)) else {
        // Existence is hidden: who shows no token could lack one, who shows one has the wrong one or the wrong name. Always
        // with a code, though production may leave it out under /api/: the official client reads a bare 401 as "no such
        // repository" only over https.
        return Err(match who {
            Who::Anonymous => refuse(401, "RepoNotFound", "Invalid username or password."),
            Who::User(_) => refuse(404, "RepoNotFound", "Repository not found"),
        });
    };
    if let Some(new) = &repo.renamed_to {
        let uri = &asked.parts.uri;
        let path = uri.path_and_query().map_or(uri.path(), |all| all.as_str());
        return Err(Box::new(Answer::redirect(307, &path.replacen(id, new, 1))));
    }
    if repo.access == Access::Disabled {
        return Err(Box::new(Answer::error(
            403,
            None,
            "Access to this resource is disabled.",
        )));
    }
    Ok(repo)
}

/// A commit's id and files.
pub fn commit<'a>(repo: &'a Repo, revision: &str) -> Result<(&'a str, &'a Files), Refusal> {
    let found = repo.find(revision);
    let found = found.and_then(|id| Some((id, repo.commits.get(id)?.as_ref())));
    found.ok_or_else(|| {
        refuse(
            404,
            "RevisionNotFound",
            &format!("Invalid rev id: {revision}"),
        )
    })
}

fn info(
    state: &State,
    (id, revision): (&str, Option<&str>),
    who: &Who<'_>,
    asked: &Asked<'_>,
) -> Result<Answer, Refusal> {
    let repo = visible(state, id, who, asked)?;
    let (sha, files) = commit(&repo, revision.unwrap_or("main"))?;
    let blobs = is_set(asked.query(), "blobs");
    let siblings: Vec<Value> = files
        .iter()
        .map(|(path, file)| sibling(path, file, blobs))
        .collect();
    let gated = if repo.access == Access::Gated {
        json!("auto")
    } else {
        json!(false)
    };
    Ok(Answer::json(&json!({
        "_id": &Content::from(repo.id.clone()).git_sha1()[..24],
        "id": repo.id,
        "modelId": repo.id,
        "author": repo.id.split_once('/').map(|(author, _)| author),
        "sha": sha,
        "private": repo.access == Access::Private,
        "disabled": false,
        "gated": gated,
        "tags": ["transformers", "safetensors"],
        "pipeline_tag": "text-generation",
        "library_name": "transformers",
        "lastModified": "2026-11-01T12:00:00.000Z",
        "createdAt": "2026-10-01T12:00:00.000Z",
        "downloads": 1,
        "likes": 0,
        "usedStorage": files.values().map(|file| file.content.size()).sum::<u64>(),
        "siblings": siblings,
    })))
}

/// A file as model info has it: here the digest of LFS is called `sha256`.
fn sibling(path: &str, file: &RepoFile, blobs: bool) -> Value {
    let mut sibling = Map::from_iter([("rfilename".to_owned(), json!(path))]);
    if blobs {
        sibling.insert("size".into(), json!(file.content.size()));
        sibling.insert("blobId".into(), json!(file.oid()));
        if file.kept == Kept::Lfs {
            let lfs = json!({"sha256": file.content.sha256(), "size": file.content.size(), "pointerSize": file.pointer().len()});
            sibling.insert("lfs".into(), lfs);
        }
    }
    Value::Object(sibling)
}

/// A file as the tree has it: here the digest of LFS is called `oid`.
fn entry(repo: &Repo, path: &str, file: &RepoFile) -> Value {
    let mut entry =
        json!({"type": "file", "oid": file.oid(), "size": file.content.size(), "path": path});
    if file.kept == Kept::Lfs {
        entry["lfs"] = json!({"oid": file.content.sha256(), "size": file.content.size(), "pointerSize": file.pointer().len()});
        if repo.xet {
            entry["xetHash"] = json!(file.xet_hash());
        }
    }
    entry
}

/// The entries below a directory, in the order of their paths, directories among them.
fn entries(repo: &Repo, files: &Files, under: &str, recursive: bool) -> Vec<Value> {
    let prefix = if under.is_empty() {
        String::new()
    } else {
        format!("{under}/")
    };
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (path, file) in files {
        let Some(rest) = path.strip_prefix(&prefix) else {
            continue;
        };
        let depth = if recursive { usize::MAX } else { 1 };
        for (at, _) in rest.match_indices('/').take(depth) {
            let directory = &path[..prefix.len() + at];
            if seen.insert(directory.to_owned()) {
                let oid = Content::from(format!("tree {directory}"));
                found.push(json!({"type": "directory", "oid": oid.git_sha1(), "size": 0, "path": directory}));
            }
        }
        if recursive || !rest.contains('/') {
            found.push(entry(repo, path, file));
        }
    }
    found
}

fn tree(
    state: &State,
    repo: &Repo,
    (revision, under): (&str, &str),
    asked: &Asked<'_>,
) -> Result<Answer, Refusal> {
    let (_, files) = commit(repo, revision)?;
    let all = entries(repo, files, under, is_set(asked.query(), "recursive"));
    if all.is_empty() && !under.is_empty() {
        let message = format!("{under} does not exist on \"{revision}\"");
        return Err(refuse(404, "EntryNotFound", &message));
    }
    let number = |name| {
        fields(asked.query(), name)
            .next()
            .and_then(|value| value.parse::<usize>().ok())
    };
    let from = number("cursor").unwrap_or(0).min(all.len());
    let most = number("limit")
        .unwrap_or(usize::MAX)
        .min(state.page_size())
        .max(1);
    let page = &all[from..all.len().min(from + most)];
    let answer = Answer::json(&json!(page));
    if from + page.len() == all.len() {
        return Ok(answer);
    }
    let kept = asked
        .query()
        .split('&')
        .filter(|pair| !pair.starts_with("cursor=") && !pair.is_empty());
    let query: Vec<&str> = kept.collect();
    let next = format!(
        "<{}{}?{}&cursor={}>; rel=\"next\"",
        state.hub_url,
        asked.parts.uri.path(),
        query.join("&"),
        from + page.len()
    );
    Ok(answer.with("link", next))
}

fn paths_info(repo: &Repo, files: &Files, asked: &Asked<'_>) -> Answer {
    let form = String::from_utf8_lossy(asked.body);
    let all = entries(repo, files, "", true);
    let wanted: BTreeSet<String> = fields(&form, "paths").collect();
    let found = all.into_iter().filter(|entry| {
        entry["path"]
            .as_str()
            .is_some_and(|path| wanted.contains(path))
    });
    Answer::json(&Value::Array(found.collect()))
}

fn refs(repo: &Repo) -> Answer {
    let (tags, branches): (Vec<_>, Vec<_>) = repo
        .refs
        .iter()
        .partition(|(name, _)| name.starts_with('v'));
    let listed = |of: Vec<(&String, &String)>, kind: &str| -> Vec<Value> {
        let one = |(name, commit): (&String, &String)| json!({"name": name, "ref": format!("refs/{kind}/{name}"), "targetCommit": commit});
        of.into_iter().map(one).collect()
    };
    Answer::json(
        &json!({"branches": listed(branches, "heads"), "tags": listed(tags, "tags"), "converts": []}),
    )
}

/// Python reads headers, Rust reads the body. What it leads to is not there: nothing here speaks Xet.
fn xet_token(state: &State) -> Answer {
    let until = 4_102_444_800_u64; // the year 2100
    let answer = Answer::json(
        &json!({"casUrl": format!("{}/cas", state.cdn_url), "accessToken": "xet-token", "exp": until}),
    );
    answer
        .with("x-xet-cas-url", format!("{}/cas", state.cdn_url))
        .with("x-xet-access-token", "xet-token")
        .with("x-xet-token-expiration", until.to_string())
}

//! `/{repo}/resolve/{revision}/{path}`: a file of git's from the hub, a file in LFS by a redirect to the CDN.

use crate::answer::Answer;
use crate::double::State;
use crate::hub::{Asked, Refusal, Who, commit};
use crate::repo::{Access, Kept, Repo, RepoFile};

pub fn answer(
    state: &State,
    repo: &Repo,
    (revision, path): (&str, &str),
    (who, asked): (&Who<'_>, &Asked<'_>),
) -> Result<Answer, Refusal> {
    let (id, file) = entry(repo, (revision, path), who)?;
    let quoted = format!("\"{}\"", file.etag());
    if file.kept == Kept::Git && !repo.resolve_cache {
        let answer = Answer::file(&file.content, &quoted, &asked.parts.headers, asked.fault);
        return Ok(answer.with("x-repo-commit", id));
    }
    let location = match file.kept {
        Kept::Lfs => format!(
            "{}{}",
            state.cdn_url,
            state.links().issue(&repo.id, &file.content)
        ),
        Kept::Git => format!(
            "/api/resolve-cache/models/{}/{id}/{}?etag={}",
            repo.id,
            path.replace(' ', "%20"),
            file.etag()
        ),
    };
    let status = if file.kept == Kept::Lfs { 302 } else { 307 };
    let mut answer = Answer::redirect(status, &location)
        .with("x-repo-commit", id)
        .with("x-linked-size", file.content.size().to_string())
        .with("x-linked-etag", quoted)
        .with("accept-ranges", "bytes");
    if repo.xet && file.kept == Kept::Lfs {
        let route = format!(
            "{}/api/models/{}/xet-read-token/{id}",
            state.hub_url, repo.id
        );
        answer = answer
            .with("x-xet-hash", file.xet_hash())
            .with("link", format!("<{route}>; rel=\"xet-auth\""));
    }
    Ok(answer)
}

/// Where a relative redirect leads.
pub fn cached(
    repo: &Repo,
    place: (&str, &str),
    (who, asked): (&Who<'_>, &Asked<'_>),
) -> Result<Answer, Refusal> {
    let (id, file) = entry(repo, place, who)?;
    let etag = format!("\"{}\"", file.etag());
    let answer = Answer::file(&file.content, &etag, &asked.parts.headers, asked.fault);
    Ok(answer.with("x-repo-commit", id))
}

fn entry<'a>(
    repo: &'a Repo,
    (revision, path): (&str, &str),
    who: &Who<'_>,
) -> Result<(&'a str, &'a RepoFile), Refusal> {
    if repo.access == Access::Gated && !who.belongs_to(repo) {
        let id = &repo.id;
        let (status, message) = match who {
            Who::Anonymous => (
                401,
                format!(
                    "Access to model {id} is restricted. You must have access to it and be authenticated to access it. Please log in."
                ),
            ),
            Who::User(_) => (
                403,
                format!(
                    "Access to model {id} is restricted and you are not in the authorized list. Visit https://huggingface.co/{id} to ask for access."
                ),
            ),
        };
        return Err(Box::new(Answer::error(status, Some("GatedRepo"), &message)));
    }
    let (id, files) = commit(repo, revision)?;
    let file = files.get(path).ok_or_else(|| {
        let missing = Answer::error(404, Some("EntryNotFound"), "Entry not found");
        Box::new(missing.with("x-repo-commit", id))
    })?;
    Ok((id, file))
}

//! The double on the wire: what its own promises are, apart from the official client, which proves the hub's
//! (`tests/conformance/hub_double.py`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use hub_double::{Access, Content, Double, Fault, Kind, LinkRules, Options, Rates, Repo, Side};
use reqwest::header::{AUTHORIZATION, CONTENT_RANGE, LOCATION, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};

const SIZE: u64 = 3_000_000;

fn started() -> (Double, Client, Content) {
    let double = Double::start(Options::default()).unwrap();
    let weights = Content::synthetic(5, SIZE);
    double.put(
        Repo::new("org/m")
            .git("config.json", "{}")
            .lfs("model.safetensors", weights.clone())
            .tag("v1"),
    );
    let client = Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .build()
        .unwrap();
    (double, client, weights)
}

async fn link(double: &Double, client: &Client) -> String {
    let asked = format!("{}/org/m/resolve/main/model.safetensors", double.url());
    let answer = client.head(asked).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FOUND);
    let location = answer.headers()[LOCATION].to_str().unwrap().to_owned();
    assert!(location.starts_with(double.cdn_url()), "{location}");
    location
}

async fn part(client: &Client, link: &str, range: &str) -> Response {
    client.get(link).header(RANGE, range).send().await.unwrap()
}

#[tokio::test]
async fn a_range_gives_its_bytes_and_a_token_is_refused() {
    let (double, client, weights) = started();
    let link = link(&double, &client).await;
    let answer = part(&client, &link, "bytes=1048570-1048599").await;
    assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(
        answer.headers()[CONTENT_RANGE].to_str().unwrap(),
        format!("bytes 1048570-1048599/{SIZE}")
    );
    let all = weights.bytes().unwrap();
    assert_eq!(
        answer.bytes().await.unwrap(),
        all.slice(1_048_570..1_048_600)
    );
    let beyond = part(&client, &link, "bytes=3000000-").await;
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    let token = client.get(&link).header(AUTHORIZATION, "Bearer hf_alice");
    assert_eq!(
        token.send().await.unwrap().status(),
        StatusCode::BAD_REQUEST
    );
    let seen = double.seen_by(Side::Cdn);
    assert_eq!(seen[2].authorization.as_deref(), Some("Bearer hf_alice"));
    assert_eq!(seen[0].range.as_deref(), Some("bytes=1048570-1048599"));
    assert_eq!((seen[0].status, seen[0].sent()), (206, 30));
}

#[tokio::test]
async fn links_end_by_uses_by_time_and_by_command() {
    let (double, client, _) = started();
    let status = async |link: &str| part(&client, link, "bytes=0-9").await.status();
    double.link_rules(LinkRules {
        uses: Some(2),
        seconds: None,
    });
    let twice = link(&double, &client).await;
    assert_eq!(status(&twice).await, StatusCode::PARTIAL_CONTENT);
    assert_eq!(status(&twice).await, StatusCode::PARTIAL_CONTENT);
    assert_eq!(status(&twice).await, StatusCode::FORBIDDEN);
    double.link_rules(LinkRules {
        uses: None,
        seconds: Some(0.05),
    });
    let short = link(&double, &client).await;
    tokio::time::sleep(std::time::Duration::from_millis(80)).await;
    assert_eq!(status(&short).await, StatusCode::FORBIDDEN);
    double.link_rules(LinkRules::default());
    let long = link(&double, &client).await;
    assert_eq!(status(&long).await, StatusCode::PARTIAL_CONTENT);
    double.expire_links();
    assert_eq!(status(&long).await, StatusCode::FORBIDDEN);
    let forged = long.replace("X-Amz-Signature=", "X-Amz-Signature=0");
    assert_eq!(status(&forged).await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn each_fault_breaks_what_it_says() {
    let (double, client, weights) = started();
    let all = weights.bytes().unwrap();
    let link = link(&double, &client).await;
    let script = |fault| double.script_for(Kind::Cdn, weights.sha256(), [fault]);
    let asked = async || part(&client, &link, "bytes=100-199").await;

    for (fault, come) in [(Fault::Cut(7), 7), (Fault::Short(10), 90)] {
        script(fault);
        let mut answer = asked().await;
        assert_eq!(answer.content_length(), Some(100));
        let mut got = 0;
        let error = loop {
            match answer.chunk().await {
                Ok(Some(bytes)) => got += bytes.len(),
                Ok(None) => panic!("the body ended well"),
                Err(error) => break error,
            }
        };
        assert!(error.is_body() || error.is_decode(), "{error:?}");
        assert_eq!(got, come);
    }
    for (fault, length) in [(Fault::Less(3), 97), (Fault::Longer(3), 103)] {
        script(fault);
        let answer = asked().await;
        assert_eq!(
            answer.headers()[CONTENT_RANGE],
            format!("bytes 100-199/{SIZE}").as_str()
        );
        assert_eq!(answer.bytes().await.unwrap().len(), length);
    }
    script(Fault::Flip(5));
    let flipped = asked().await.bytes().await.unwrap();
    assert_ne!(flipped[5], all[105]);
    assert_eq!(flipped[6..], all[106..200]);
    script(Fault::Whole);
    let whole = asked().await;
    assert_eq!(whole.status(), StatusCode::OK);
    assert_eq!(whole.bytes().await.unwrap(), all);
    script(Fault::WrongRange);
    let other = asked().await;
    assert_eq!(
        other.headers()[CONTENT_RANGE],
        format!("bytes 99-199/{SIZE}").as_str()
    );
    for (fault, status) in [
        (Fault::Expired, 403),
        (Fault::Status(503), 503),
        (Fault::Page, 200),
    ] {
        script(fault);
        assert_eq!(asked().await.status().as_u16(), status);
    }
    script(Fault::CutBefore);
    assert!(client.get(&link).send().await.is_err());
    script(Fault::TooMany {
        retry_after: Some(3),
        reset: Some(4),
    });
    let limited = asked().await;
    assert_eq!(limited.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(limited.headers()["retry-after"], "3");
    assert_eq!(limited.headers()["ratelimit"], "\"api\";r=0;t=4");
    let began = std::time::Instant::now();
    script(Fault::Stall { after: 10, ms: 120 });
    assert_eq!(asked().await.bytes().await.unwrap(), all.slice(100..200));
    assert!(began.elapsed().as_millis() >= 120);
    assert_eq!(double.injected()["cut"], 1);
    double.rates(Rates {
        flip: 1.0,
        within: 10,
        ..Rates::default()
    });
    assert_ne!(asked().await.bytes().await.unwrap(), all.slice(100..200));
    double.heal();
    assert_eq!(asked().await.bytes().await.unwrap(), all.slice(100..200));
}

#[tokio::test]
async fn a_throttled_answer_takes_its_time() {
    let (double, client, _) = started();
    let link = link(&double, &client).await;
    double.throttle(1 << 20);
    let began = std::time::Instant::now();
    let answer = part(&client, &link, "bytes=0-262143").await;
    assert_eq!(answer.bytes().await.unwrap().len(), 262_144);
    let took = began.elapsed().as_secs_f64();
    assert!((0.2..2.0).contains(&took), "{took}");
}

#[tokio::test]
async fn who_may_not_see_is_told_in_the_hubs_codes() {
    let (double, client, _) = started();
    double.put(
        Repo::new("org/gated")
            .git("a", "a")
            .access(Access::Gated)
            .allow("alice"),
    );
    double.put(
        Repo::new("org/private")
            .git("a", "a")
            .access(Access::Private)
            .allow("alice"),
    );
    double.put(
        Repo::new("org/closed")
            .git("a", "a")
            .access(Access::Disabled),
    );
    double.put(Repo::renamed("org/old", "org/m"));
    let cases = [
        ("org/gated", None, 401, "GatedRepo"),
        ("org/gated", Some("hf_bob"), 403, "GatedRepo"),
        ("org/gated", Some("hf_alice"), 200, ""),
        ("org/private", None, 401, "RepoNotFound"),
        ("org/private", Some("hf_bob"), 404, "RepoNotFound"),
        ("org/private", Some("hf_alice"), 200, ""),
        ("org/none", Some("hf_alice"), 404, "RepoNotFound"),
        ("org/closed", None, 403, ""),
        ("org/m", Some("wrong"), 401, ""),
        ("org/m", None, 404, "EntryNotFound"),
    ];
    for (repo, token, status, code) in cases {
        let mut asked = client.head(format!("{}/{repo}/resolve/main/a", double.url()));
        if let Some(token) = token {
            asked = asked.bearer_auth(token);
        }
        let answer = asked.send().await.unwrap();
        let said = answer
            .headers()
            .get("x-error-code")
            .map_or("", |code| code.to_str().unwrap());
        assert_eq!(
            (answer.status().as_u16(), said),
            (status, code),
            "{repo} {token:?}"
        );
    }
    let old = client.get(format!("{}/api/models/org/old/revision/v1", double.url()));
    let old = old.send().await.unwrap();
    assert_eq!(old.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(old.headers()[LOCATION], "/api/models/org/m/revision/v1");
}

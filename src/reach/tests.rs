//! The rule about addresses: tables, and a server that tries to lead astray.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request};
use axum::http::{Response, StatusCode};
use axum::routing::get;
use reqwest::dns::Resolve;
use reqwest::header::HeaderMap;

use super::resolver::{Filter, Lookup};
use super::{Allowed, AllowedHosts, Client, Limits, ReachError, is_public};

const LIMITS: Limits = Limits {
    bytes: 1000,
    time: Duration::from_secs(5),
};

fn allowing(entries: &[&str]) -> AllowedHosts {
    let entries = entries.iter().map(|text| text.parse::<Allowed>().unwrap());
    AllowedHosts {
        entries: entries.collect(),
        everything: false,
    }
}

/// Names lead where the test says.
fn leading(addresses: &'static [&'static [&'static str]]) -> (Lookup, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let lookup: Lookup = Arc::new(move |_| {
        let turn = counter.fetch_add(1, Ordering::SeqCst);
        let found = addresses[turn.min(addresses.len() - 1)].iter();
        let found = found.map(|address| SocketAddr::new(address.parse().unwrap(), 0));
        let found: Vec<SocketAddr> = found.collect();
        Box::pin(async move { Ok(found) })
    });
    (lookup, asked)
}

#[test]
fn only_the_public_internet_is_public() {
    let private = [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "3fff::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "4000::1",
    ];
    for text in private {
        assert!(!is_public(text.parse().unwrap()), "{text}");
    }
    let public = [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "128.0.0.1",
        "168.63.129.17",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.1",
        "192.167.255.255",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
        "2606:4700:4700::1111",
        "2a00:1450:4001:801::200e",
    ];
    for text in public {
        assert!(is_public(text.parse().unwrap()), "{text}");
    }
}

#[test]
fn what_is_no_address_for_the_outside_is_refused_before_anything_is_sent() {
    let client = Client::new(AllowedHosts::default(), LIMITS);
    let private = [
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0177.0.0.1:8080/x",
        "http://[::1]/",
        "http://[::ffff:169.254.169.254]/latest/meta-data",
        "https://169.254.169.254/latest/meta-data",
        "http://10.1/",
        " http://127.0.0.1/ ",
    ];
    for url in private {
        let error = client.check(url).unwrap_err();
        assert!(
            matches!(error, ReachError::Private { .. }),
            "{url}: {error}"
        );
        assert!(error.to_string().contains("--allow-hosts"), "{error}");
    }
    let bad = [
        "",
        "example.com/x",
        "file:///etc/passwd",
        "ftp://example.com/x",
        "gopher://127.0.0.1:70/",
        "data:text/plain,x",
        "http://user@example.com/",
        "https://user:hush@example.com/",
    ];
    for url in bad {
        let error = client.check(url).unwrap_err();
        assert!(matches!(error, ReachError::BadUrl { .. }), "{url}: {error}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
    assert!(client.check("https://example.com/a?b=c").is_ok());
    assert!(client.check("http://8.8.8.8:8080/").is_ok());
}

#[test]
fn an_allowed_host_is_that_host_on_that_port() {
    let client = Client::new(
        allowing(&["127.0.0.1:9000", "Minio.Internal.", "10.0.0.0/8"]),
        LIMITS,
    );
    assert!(client.check("http://127.0.0.1:9000/a").is_ok());
    assert!(client.check("http://127.0.0.1:9001/a").is_err());
    assert!(client.check("http://10.9.8.7/").is_ok());
    assert!(client.check("http://[::ffff:10.9.8.7]/").is_ok());
    assert!(client.check("http://11.0.0.1/").is_ok());
    assert!(client.check("http://192.168.0.1/").is_err());
    assert!(client.check("http://minio.internal:9000/").is_ok());
    let everything = AllowedHosts {
        everything: true,
        ..AllowedHosts::default()
    };
    assert!(
        Client::new(everything.clone(), LIMITS)
            .check("http://127.0.0.1/")
            .is_ok()
    );
    assert!(
        Client::new(everything, LIMITS)
            .check("file:///etc/passwd")
            .is_err()
    );
}

#[tokio::test]
async fn private_addresses_of_a_name_are_dropped_and_a_name_with_no_others_is_refused() {
    let (lookup, _) = leading(&[&["10.0.0.1", "8.8.8.8", "::1"]]);
    let filter = Filter {
        allowed: Arc::new(AllowedHosts::default()),
        lookup,
    };
    let found: Vec<IpAddr> = filter
        .resolve("mixed.example".parse().unwrap())
        .await
        .unwrap()
        .map(|address| address.ip())
        .collect();
    assert_eq!(found, ["8.8.8.8".parse::<IpAddr>().unwrap()]);

    let (lookup, asked) = leading(&[&["127.0.0.1", "::1", "169.254.169.254"]]);
    let client = Client::with_lookup(AllowedHosts::default(), LIMITS, lookup);
    let error = client
        .get("http://inside.example:8080/p?token=hush")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ReachError::Private { host } if host == "inside.example:8080"),
        "{error}"
    );
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let post = client.post(
        "http://inside.example/",
        HeaderMap::new(),
        "x".into(),
        LIMITS.time,
    );
    assert!(matches!(post.await, Err(ReachError::Private { .. })));
}

/// A server that redirects, lies about lengths and takes its time.
async fn server() -> u16 {
    async fn answer(Path(what): Path<String>, request: Request) -> Response<Body> {
        let to = |status: u16, target: &str| {
            let response = Response::builder()
                .status(status)
                .header("location", target);
            response.body(Body::empty()).unwrap()
        };
        let port = request.headers()["host"].to_str().unwrap();
        let port = port.rsplit_once(':').unwrap().1.to_owned();
        match what.as_str() {
            "file" => Response::builder()
                .header("content-type", "image/png")
                .header("connection", "close")
                .body(Body::from("a file"))
                .unwrap(),
            "there" => to(302, "file"),
            "private" => to(302, &format!("http://127.0.0.2:{port}/file")),
            "named" => to(307, &format!("http://elsewhere.example:{port}/file")),
            "local-file" => to(301, "file:///etc/passwd"),
            "loop" => to(302, "loop"),
            "nowhere" => Response::builder().status(302).body(Body::empty()).unwrap(),
            "huge" => Response::new(Body::from(vec![0; 1001])),
            "endless" => {
                let chunks =
                    futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![0; 100]));
                Response::new(Body::from_stream(chunks))
            }
            "slow" => {
                let chunks = futures_util::stream::unfold((), |()| async {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Some((Ok::<_, std::io::Error>("x"), ()))
                });
                Response::new(Body::from_stream(chunks))
            }
            _ => Response::builder()
                .status(StatusCode::NOT_FOUND)
                .body(Body::empty())
                .unwrap(),
        }
    }
    let app = Router::new().route("/{what}", get(answer).post(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, app).await });
    port
}

#[tokio::test]
async fn what_was_checked_is_what_is_connected_to() {
    let port = server().await;
    // The name changes its mind after the first answer: a check that resolves by itself would see the first, and the
    // connection the second.
    let (lookup, asked) = leading(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let client = Client::with_lookup(allowing(&["127.0.0.1/32"]), LIMITS, lookup);
    let url = format!("http://rebind.example:{port}/file");
    let first = client.get(&url).await.unwrap();
    assert_eq!(&first.body[..], b"a file");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let second = client.get(&url).await.unwrap_err();
    assert!(matches!(second, ReachError::Private { .. }), "{second}");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn each_redirect_is_checked_like_a_first_address() {
    let port = server().await;
    let (lookup, _) = leading(&[&["127.0.0.2"]]);
    let client = Client::with_lookup(allowing(&[&format!("127.0.0.1:{port}")]), LIMITS, lookup);
    let get = |what: &str| {
        let (client, url) = (client.clone(), format!("http://127.0.0.1:{port}/{what}"));
        async move { client.get(&url).await }
    };
    let file = get("there").await.unwrap();
    assert_eq!(file.content_type.as_deref(), Some("image/png"));
    for astray in ["private", "named"] {
        let error = get(astray).await.unwrap_err();
        assert!(
            matches!(error, ReachError::Private { .. }),
            "{astray}: {error}"
        );
    }
    assert!(matches!(
        get("local-file").await,
        Err(ReachError::BadUrl { .. })
    ));
    assert!(matches!(
        get("loop").await,
        Err(ReachError::Redirects { .. })
    ));
    assert!(matches!(
        get("nowhere").await,
        Err(ReachError::Failed { .. })
    ));
    assert!(matches!(
        get("gone").await,
        Err(ReachError::Status { status: 404, .. })
    ));
    // A message is delivered where it was sent to, or not at all.
    let url = format!("http://127.0.0.1:{port}/there");
    let post = client
        .post(&url, HeaderMap::new(), "x".into(), LIMITS.time)
        .await;
    assert!(matches!(post, Err(ReachError::Status { status: 302, .. })));
}

#[tokio::test]
async fn a_download_ends_at_its_size_and_its_time() {
    let port = server().await;
    let client = Client::new(allowing(&["127.0.0.0/8"]), LIMITS);
    let url = |what: &str| format!("http://127.0.0.1:{port}/{what}?signature=hush");
    for what in ["huge", "endless"] {
        let error = client.get(&url(what)).await.unwrap_err();
        assert!(
            matches!(error, ReachError::TooLarge { limit: 1000, .. }),
            "{error}"
        );
        assert!(!error.to_string().contains("hush"), "{error}");
    }
    let limits = Limits {
        time: Duration::from_millis(300),
        ..LIMITS
    };
    let quick = Client::new(allowing(&["127.0.0.0/8"]), limits);
    let began = std::time::Instant::now();
    let error = quick.get(&url("slow")).await.unwrap_err();
    assert!(matches!(error, ReachError::TimedOut { .. }), "{error}");
    assert!(
        error.is_transient() && !error.to_string().contains("hush"),
        "{error}"
    );
    assert!(began.elapsed() < Duration::from_secs(2));
    let nobody = client.get("http://127.0.0.1:1/?hush").await.unwrap_err();
    assert!(
        nobody.is_transient() && !nobody.to_string().contains("hush"),
        "{nobody}"
    );
}

//! Hands a request on to a real worker, as a platform's front does.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::{Reply, Request};

/// The worker's answer; 502 without one. Of the headers only the worker's own key goes along: the login is the platform's.
pub fn forward(worker: &str, request: &Request, path: &str) -> Reply {
    match ask(worker, request, path) {
        Ok(reply) => reply,
        Err(error) => Reply::bytes(502, "text/plain", error.to_string()),
    }
}

fn ask(worker: &str, request: &Request, path: &str) -> std::io::Result<Reply> {
    let mut stream = TcpStream::connect(worker)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let key = request.header("x-api-key");
    let key = key.map(|key| format!("X-API-Key: {key}\r\n"));
    // HTTP/1.0: the answer ends with the connection, and comes in no chunks.
    let head = format!(
        "{} {path} HTTP/1.0\r\nHost: {worker}\r\nContent-Type: application/json\r\n{}Content-Length: {}\r\n\r\n",
        request.method,
        key.unwrap_or_default(),
        request.bytes.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(&request.bytes)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or_else(|| std::io::Error::other("the worker's answer has no head"))?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let body = answer[end + 4..].to_vec();
    Ok(Reply::bytes(
        status.unwrap_or(502),
        "application/json",
        body,
    ))
}

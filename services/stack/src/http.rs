//! The few HTTP requests that a supervisor makes: small, on loopback, one per connection.
//!
//! HTTP/1.0 on purpose: the answer ends where the connection does, so nothing has to be parsed
//! that a client of a dozen lines could get wrong. It blocks, as its callers are threads.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// The most bytes of an answer that are read.
const ANSWER_LIMIT: u64 = 64 << 20;

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// 200 and the like.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// What follows the headers.
    pub body: String,
}

impl Response {
    /// The value of a header; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        Some(value)
    }

    /// The body of an answer of status 2xx.
    ///
    /// # Errors
    /// A sentence with the status and the beginning of the body.
    pub fn success(self) -> Result<String, String> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        let text: String = self.body.trim().chars().take(300).collect();
        Err(format!("status {}: {text}", self.status))
    }
}

/// One request to a port on loopback.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// GET, POST, PUT.
    pub method: &'a str,
    /// The port.
    pub port: u16,
    /// Path and query, encoded.
    pub path: &'a str,
    /// Headers.
    pub headers: &'a [(&'a str, &'a str)],
    /// Body, empty for none.
    pub body: &'a str,
    /// Longest wait for the connection, and for each piece of the answer.
    pub timeout: Duration,
}

impl Request<'_> {
    /// Sends it.
    ///
    /// # Errors
    /// There is no connection, or what came is no HTTP.
    pub fn send(&self) -> io::Result<Response> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let mut stream = TcpStream::connect_timeout(&address, self.timeout)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        let mut head = format!(
            "{} {} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n",
            self.method,
            self.path,
            self.body.len()
        );
        for (name, value) in self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n{}", self.body).as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_LIMIT).read_to_end(&mut answer)?;
        parse(&answer)
            .ok_or_else(|| io::Error::other(format!("port {} does not answer in HTTP", self.port)))
    }
}

/// A GET without headers.
///
/// # Errors
/// As [`Request::send`].
pub fn get(port: u16, path: &str, timeout: Duration) -> io::Result<Response> {
    Request {
        method: "GET",
        port,
        path,
        headers: &[],
        body: "",
        timeout,
    }
    .send()
}

fn parse(answer: &[u8]) -> Option<Response> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    let headers = head.lines().filter_map(|line| line.split_once(':'));
    Some(Response {
        status: status.parse().ok()?,
        headers: headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect(),
        body: body.to_owned(),
    })
}

/// Encodes text for a query: all but letters, digits and `-._~` as `%XX` (RFC 3986, 2.3).
pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_others_refused() {
        let response = parse(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nOk.\n").unwrap();
        assert_eq!((response.status, response.body.as_str()), (200, "Ok.\n"));
        assert_eq!(response.header("a"), Some("b"));
        assert!(parse(b"SSH-2.0-OpenSSH\r\n\r\n").is_none());
        let refused = parse(b"HTTP/1.0 503 No\r\n\r\nkafka is away")
            .unwrap()
            .success();
        assert_eq!(refused.unwrap_err(), "status 503: kafka is away");
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(encode("a b&c=\u{e9}"), "a%20b%26c%3D%C3%A9");
    }
}

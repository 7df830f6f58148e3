//! Asks a broker for its metadata, to know that it serves and not only listens.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Metadata request of version 4, the last with the plain encoding of lists and strings.
const METADATA: (i16, i16) = (3, 4);

/// The most bytes of an answer that are taken.
const ANSWER_LIMIT: usize = 1 << 20;

/// Asks the broker on a port of loopback which brokers it knows; it is ready when it knows itself.
///
/// # Errors
/// It does not answer, or knows no broker: it is starting.
pub fn probe(port: u16, timeout: Duration) -> io::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.write_all(&request())?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let size = u32::from_be_bytes(size) as usize;
    if size > ANSWER_LIMIT {
        return Err(io::Error::other(format!(
            "port {port} does not answer as Kafka does"
        )));
    }
    let mut answer = vec![0; size];
    stream.read_exact(&mut answer)?;
    match brokers(&answer) {
        Some(count) if count > 0 => Ok(()),
        Some(_) => Err(io::Error::other(
            "the broker has not joined its cluster yet",
        )),
        None => Err(io::Error::other(format!(
            "port {port} does not answer as Kafka does"
        ))),
    }
}

/// Size, then header (api key, version, correlation id, no client id), then no topics, and no
/// wish to create any.
fn request() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(METADATA.0.to_be_bytes());
    body.extend(METADATA.1.to_be_bytes());
    body.extend(CORRELATION.to_be_bytes());
    body.extend((-1_i16).to_be_bytes());
    body.extend(0_i32.to_be_bytes());
    body.push(0);
    let mut request = (body.len() as u32).to_be_bytes().to_vec();
    request.extend(body);
    request
}

const CORRELATION: i32 = 7;

/// The number of brokers in an answer: correlation id, throttle time, length of the list.
fn brokers(answer: &[u8]) -> Option<i32> {
    let number = |at: usize| {
        let bytes = answer.get(at..at + 4)?;
        Some(i32::from_be_bytes(bytes.try_into().ok()?))
    };
    (number(0)? == CORRELATION).then_some(())?;
    number(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answered_by(answer: Vec<u8>) -> io::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 19];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(&answer).unwrap();
            request
        });
        let result = probe(port, Duration::from_secs(2));
        let request = server.join().unwrap();
        assert_eq!(u32::from_be_bytes(request[..4].try_into().unwrap()), 15);
        result
    }

    fn metadata(count: i32) -> Vec<u8> {
        let mut answer = 12_u32.to_be_bytes().to_vec();
        for number in [CORRELATION, 0, count] {
            answer.extend(number.to_be_bytes());
        }
        answer
    }

    #[test]
    fn a_broker_that_knows_itself_is_ready_and_no_other() {
        answered_by(metadata(1)).unwrap();
        let message = answered_by(metadata(0)).unwrap_err().to_string();
        assert!(message.contains("not joined"), "{message}");
        let message = answered_by(b"HTTP/1.0 200 OK\r\n\r\n".to_vec())
            .unwrap_err()
            .to_string();
        assert!(message.contains("as Kafka does"), "{message}");
    }
}

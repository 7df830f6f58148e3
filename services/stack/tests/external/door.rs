//! TLS before a server that speaks plain HTTP, with basic authentication if wanted.

use std::net::SocketAddr;

use native_tls::{Identity, TlsAcceptor};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use super::authority::Issued;

/// A door that is open until it is dropped.
pub struct Door {
    pub address: SocketAddr,
    _runtime: Runtime,
}

impl Door {
    /// Opens a door before a port of loopback. `authorization`: the header that each connection must
    /// begin with.
    pub fn open(port: u16, issued: &Issued, authorization: Option<&'static str>) -> Self {
        let identity =
            Identity::from_pkcs8(issued.certificate.as_bytes(), issued.key.as_bytes()).unwrap();
        let acceptor = TlsAcceptor::new(identity).unwrap();
        let acceptor = tokio_native_tls::TlsAcceptor::from(acceptor);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Whoever does not trust us goes away.
                    let _ = pass(stream, &acceptor, port, authorization).await;
                });
            }
        });
        Self {
            address,
            _runtime: runtime,
        }
    }
}

async fn pass(
    stream: TcpStream,
    acceptor: &tokio_native_tls::TlsAcceptor,
    port: u16,
    authorization: Option<&str>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut stream = acceptor.accept(stream).await?;
    let mut inside = TcpStream::connect(("127.0.0.1", port)).await?;
    if let Some(wanted) = authorization {
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let text = String::from_utf8_lossy(&head).to_lowercase();
        if !text.contains(&format!("authorization: {}\r\n", wanted.to_lowercase())) {
            let answer =
                "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await?;
            return Ok(());
        }
        inside.write_all(&head).await?;
    }
    copy_bidirectional(&mut stream, &mut inside).await?;
    Ok(())
}

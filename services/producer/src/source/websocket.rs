//! The source over its WebSocket: it sends what was granted, and grants follow commits.

use std::convert::Infallible;

use bytes::Bytes;
use flight::source::{ClientFrame, Frame, ServerFrame, WEBSOCKET_PATH, parse_frame};
use flight::tls;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config,
};

use super::{CONNECT_TIMEOUT, MAX_FRAME_BYTES, Reader, SourceError};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Reads one connection until it ends.
pub(super) async fn read(reader: &mut Reader) -> Result<Infallible, SourceError> {
    let mut connection = Connection::open(reader).await?;
    let idle = reader.settings.idle_timeout();
    let mut pings = interval(idle / 4);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            biased;
            changed = reader.acknowledged.changed() => {
                if changed.is_err() {
                    return Err(SourceError::Closed(": the session is over".into()));
                }
                let next = *reader.acknowledged.borrow_and_update();
                connection.acknowledge(next).await?;
            }
            message = connection.socket.next() => {
                connection.take(reader, message).await?;
                // Waiting for room in the queue is not the source's silence.
                heard = Instant::now();
            }
            _ = pings.tick() => {
                if heard.elapsed() > idle {
                    return Err(SourceError::Silent(idle.as_secs()));
                }
                connection.send(Message::Ping(Bytes::new())).await?;
            }
        }
    }
}

struct Connection {
    socket: Socket,
    url: String,
    /// Everything below has been acknowledged, and its credit granted again.
    acknowledged: i64,
    greeted: bool,
}

impl Connection {
    async fn open(reader: &mut Reader) -> Result<Self, SourceError> {
        let url = reader.settings.address("ws", WEBSOCKET_PATH);
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MAX_FRAME_BYTES))
            .max_frame_size(Some(MAX_FRAME_BYTES));
        let connector = reader
            .settings
            .tls
            .connector("source.tls")
            .map(Connector::NativeTls)
            .map_err(SourceError::Tls)?;
        let connect = connect_async_tls_with_config(&url, Some(limits), true, Some(connector));
        let (socket, _) = timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(|_| SourceError::Silent(CONNECT_TIMEOUT.as_secs()))?
            .map_err(|error| away(&url, &error))?;
        let acknowledged = *reader.acknowledged.borrow_and_update();
        let mut connection = Self {
            socket,
            url,
            acknowledged,
            greeted: false,
        };
        // What an earlier connection brought and is not committed counts against the credit still.
        let waiting = u64::try_from(reader.expected - acknowledged).unwrap_or(0);
        connection
            .say(&ClientFrame::Start {
                from: Some(reader.expected),
                credit: reader.settings.credit.saturating_sub(waiting),
                max_batch: reader.settings.max_batch,
            })
            .await?;
        Ok(connection)
    }

    async fn acknowledge(&mut self, next: i64) -> Result<(), SourceError> {
        let events = u64::try_from(next - self.acknowledged).unwrap_or(0);
        if events == 0 {
            return Ok(());
        }
        self.acknowledged = next;
        self.say(&ClientFrame::Ack { next }).await?;
        self.say(&ClientFrame::Credit { events }).await
    }

    async fn take(
        &mut self,
        reader: &mut Reader,
        message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
    ) -> Result<(), SourceError> {
        match message {
            None | Some(Ok(Message::Close(None))) => Err(SourceError::Closed(String::new())),
            Some(Ok(Message::Close(Some(frame)))) => Err(SourceError::Closed(format!(
                ": {} {}",
                frame.code, frame.reason
            ))),
            Some(Ok(Message::Text(text))) => self.frame(reader, Bytes::from(text)).await,
            Some(Ok(Message::Binary(_))) => Err(SourceError::Protocol(
                "a binary frame, where all frames are text".into(),
            )),
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(away(&self.url, &error)),
        }
    }

    async fn frame(&mut self, reader: &mut Reader, frame: Bytes) -> Result<(), SourceError> {
        match parse_frame(&frame)? {
            Frame::Control(ServerFrame::Hello { source, from }) => {
                reader.check_name(&source.name)?;
                if from != reader.expected {
                    return Err(SourceError::Protocol(format!(
                        "it greets with offset {from}, asked for {}",
                        reader.expected
                    )));
                }
                self.greeted = true;
                reader.connected();
                Ok(())
            }
            Frame::Control(ServerFrame::Error { code, message }) => {
                Err(SourceError::Refused { code, message })
            }
            Frame::Control(ServerFrame::Batch(_)) => {
                Err(SourceError::Protocol("a batch without its events".into()))
            }
            Frame::Batch(..) if !self.greeted => {
                Err(SourceError::Protocol("a batch before the greeting".into()))
            }
            Frame::Batch(header, lines) => reader.deliver(header, &frame, &lines).await,
        }
    }

    async fn say(&mut self, frame: &ClientFrame) -> Result<(), SourceError> {
        let text = serde_json::to_string(frame).expect("a client frame is always JSON");
        self.send(Message::text(text)).await
    }

    async fn send(&mut self, message: Message) -> Result<(), SourceError> {
        self.socket
            .send(message)
            .await
            .map_err(|error| away(&self.url, &error))
    }
}

fn away(url: &str, error: &tokio_tungstenite::tungstenite::Error) -> SourceError {
    SourceError::Away {
        url: url.to_owned(),
        reason: tls::explain(error, url, "source.tls.ca_file"),
    }
}

//! `Content-Encoding` and `Accept-Encoding`: gzip, deflate, br, zstd and lz4.

use std::collections::VecDeque;
use std::io::{Read, Write};

use axum::http::{HeaderMap, HeaderName, header};
use bytes::{Buf, Bytes};
use lz4_flex::frame::{FrameDecoder, FrameEncoder};

use super::blocks::{self, Method};
use crate::exception::{Exception, code};

/// zstd's own limit for windows, 128 MiB, would be memory that nobody accounts for.
const ZSTD_WINDOW_LOG_MAX: u32 = 24;
/// Buffer of brotli's streams.
const BROTLI_BUFFER: usize = 64 << 10;

/// A compression of HTTP's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// `br`
    Brotli,
    /// `lz4`: frames.
    Lz4,
    /// `gzip`
    Gzip,
    /// `deflate`: zlib.
    Deflate,
    /// `zstd`
    Zstd,
}

impl Coding {
    /// In the order in which ClickHouse prefers them.
    const ALL: [Self; 5] = [
        Self::Brotli,
        Self::Lz4,
        Self::Gzip,
        Self::Deflate,
        Self::Zstd,
    ];

    /// Its name in HTTP.
    pub fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Lz4 => "lz4",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }

    /// The one that a body has.
    ///
    /// # Errors
    /// 779: another one, or several.
    pub fn of_body(headers: &HeaderMap) -> Result<Option<Self>, Exception> {
        let names = listed(headers, &header::CONTENT_ENCODING);
        let named: Vec<&str> = names
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| !name.is_empty() && *name != "identity")
            .collect();
        let known = |name: &str| Self::ALL.into_iter().find(|coding| coding.name() == name);
        match named.as_slice() {
            [] => Ok(None),
            [name] if known(name).is_some() => Ok(known(name)),
            several => Err(Exception::new(
                code::UNSUPPORTED_MEDIA_TYPE,
                "UNSUPPORTED_MEDIA_TYPE",
                &format!(
                    "Content-Encoding {} is not supported; one of {} is",
                    several.join(", "),
                    Self::ALL.map(Self::name).join(", ")
                ),
            )),
        }
    }

    /// The one that ClickHouse would choose of those that a client takes.
    pub fn accepted(headers: &HeaderMap) -> Option<Self> {
        let names = listed(headers, &header::ACCEPT_ENCODING);
        let taken = |coding: &Self| {
            names
                .iter()
                .any(|(name, refused)| name == coding.name() && !refused)
        };
        Self::ALL.into_iter().find(taken)
    }

    /// Reads what pieces of this coding hold.
    ///
    /// # Errors
    /// The decoder cannot begin.
    pub fn reader(self, pieces: Pieces) -> std::io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Brotli => Box::new(brotli::Decompressor::new(pieces, BROTLI_BUFFER)),
            Self::Lz4 => {
                // The decoder takes the end of the body for the end of a frame.
                pieces.clone().whole_lz4_frames().ok_or_else(|| {
                    std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it is cut off")
                })?;
                Box::new(FrameDecoder::new(pieces))
            }
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(pieces)),
            Self::Deflate => Box::new(flate2::read::ZlibDecoder::new(pieces)),
            Self::Zstd => {
                let mut decoder = zstd::Decoder::new(pieces)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
        })
    }
}

/// Names of a header, in lower case, and whether `q=0` refuses them.
fn listed(headers: &HeaderMap, name: &HeaderName) -> Vec<(String, bool)> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|coding| {
            let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
            let quality = parameters.trim().strip_prefix("q=");
            let refused = quality
                .and_then(|quality| quality.trim().parse::<f32>().ok())
                .is_some_and(|quality| quality <= 0.0);
            (name.trim().to_ascii_lowercase(), refused)
        })
        .collect()
}

/// Pieces of a body, read one after the other and freed when they have been read.
#[derive(Debug, Clone)]
pub struct Pieces(VecDeque<Bytes>);

impl Pieces {
    fn next_bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.read_exact(&mut bytes).ok().map(|()| bytes)
    }

    fn skip(&mut self, mut length: usize) -> Option<()> {
        while length > 0 {
            let piece = self.0.front_mut()?;
            let skipped = length.min(piece.len());
            piece.advance(skipped);
            length -= skipped;
            if piece.is_empty() {
                self.0.pop_front();
            }
        }
        Some(())
    }

    /// Walks over LZ4 frames from one block to the next; None if the last one has no end.
    fn whole_lz4_frames(mut self) -> Option<()> {
        const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
        const UNCOMPRESSED: u32 = 1 << 31;
        while self.0.iter().any(|piece| !piece.is_empty()) {
            if self.next_bytes()? != MAGIC {
                // The decoder knows better what this is.
                return Some(());
            }
            let [flags, _] = self.next_bytes()?;
            let has = |bit: u8| flags & (1 << bit) != 0;
            // Size of the content, dictionary, checksum of this header.
            self.skip(usize::from(has(3)) * 8 + usize::from(has(0)) * 4 + 1)?;
            loop {
                let size = u32::from_le_bytes(self.next_bytes()?);
                if size == 0 {
                    break;
                }
                let length = usize::try_from(size & !UNCOMPRESSED).ok()?;
                self.skip(length + usize::from(has(4)) * 4)?;
            }
            self.skip(usize::from(has(2)) * 4)?;
        }
        Some(())
    }
}

impl From<Vec<Bytes>> for Pieces {
    fn from(pieces: Vec<Bytes>) -> Self {
        Self(pieces.into())
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while let Some(piece) = self.0.front_mut() {
            if piece.is_empty() {
                self.0.pop_front();
                continue;
            }
            let length = piece.len().min(buffer.len());
            piece.copy_to_slice(&mut buffer[..length]);
            return Ok(length);
        }
        Ok(0)
    }
}

type Sink = Vec<u8>;

enum Stream {
    Brotli(Box<brotli::CompressorWriter<Sink>>),
    Lz4(Box<FrameEncoder<Sink>>),
    Gzip(flate2::write::GzEncoder<Sink>),
    Deflate(flate2::write::ZlibEncoder<Sink>),
    Zstd(zstd::Encoder<'static, Sink>),
}

impl Stream {
    fn new(coding: Coding, level: u32) -> std::io::Result<Self> {
        let flate_level = flate2::Compression::new(level.min(9));
        Ok(match coding {
            Coding::Brotli => Self::Brotli(Box::new(brotli::CompressorWriter::new(
                Sink::new(),
                BROTLI_BUFFER,
                level.min(11),
                22,
            ))),
            Coding::Lz4 => Self::Lz4(Box::new(FrameEncoder::new(Sink::new()))),
            Coding::Gzip => Self::Gzip(flate2::write::GzEncoder::new(Sink::new(), flate_level)),
            Coding::Deflate => {
                Self::Deflate(flate2::write::ZlibEncoder::new(Sink::new(), flate_level))
            }
            Coding::Zstd => {
                let level = i32::try_from(level.min(22)).unwrap_or(3);
                Self::Zstd(zstd::Encoder::new(Sink::new(), level)?)
            }
        })
    }

    fn write(&mut self, piece: &[u8]) -> std::io::Result<Sink> {
        macro_rules! write {
            ($encoder:expr) => {{
                $encoder.write_all(piece)?;
                $encoder.flush()?;
                Ok(std::mem::take($encoder.get_mut()))
            }};
        }
        match self {
            Self::Brotli(encoder) => write!(encoder),
            Self::Lz4(encoder) => write!(encoder),
            Self::Gzip(encoder) => write!(encoder),
            Self::Deflate(encoder) => write!(encoder),
            Self::Zstd(encoder) => write!(encoder),
        }
    }

    fn finish(self) -> std::io::Result<Sink> {
        match self {
            Self::Brotli(encoder) => Ok(encoder.into_inner()),
            Self::Lz4(encoder) => encoder.finish().map_err(std::io::Error::from),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Deflate(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

/// Compresses an answer, in ClickHouse's blocks, in a coding of HTTP's, in both, or not at all.
#[derive(Default)]
pub struct Encoder {
    blocks: Option<Method>,
    coding: Option<Stream>,
}

impl Encoder {
    /// An encoder; `level` is for codings.
    ///
    /// # Errors
    /// The compressor cannot begin.
    pub fn new(
        blocks: Option<Method>,
        coding: Option<Coding>,
        level: u32,
    ) -> std::io::Result<Self> {
        Ok(Self {
            blocks,
            coding: coding
                .map(|coding| Stream::new(coding, level))
                .transpose()?,
        })
    }

    /// Compresses a piece so that the client can have all of it at once.
    ///
    /// # Errors
    /// The compressor fails.
    pub fn encode(&mut self, piece: Bytes) -> std::io::Result<Bytes> {
        let piece = match self.blocks {
            Some(method) => blocks::encode(&piece, method)?,
            None => piece,
        };
        match &mut self.coding {
            Some(stream) => Ok(stream.write(&piece)?.into()),
            None => Ok(piece),
        }
    }

    /// What ends the answer.
    ///
    /// # Errors
    /// The compressor fails.
    pub fn finish(&mut self) -> std::io::Result<Bytes> {
        match self.coding.take() {
            Some(stream) => Ok(stream.finish()?.into()),
            None => Ok(Bytes::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(coding: Coding, body: &[u8], step: usize) -> std::io::Result<Vec<u8>> {
        let pieces: Vec<Bytes> = body.chunks(step).map(Bytes::copy_from_slice).collect();
        let mut content = Vec::new();
        coding
            .reader(pieces.into())?
            .take(64 << 20)
            .read_to_end(&mut content)?;
        Ok(content)
    }

    fn encode(coding: Coding, parts: &[Vec<u8>]) -> Vec<u8> {
        let mut encoder = Encoder::new(None, Some(coding), 3).unwrap();
        let mut body = Vec::new();
        for part in parts {
            body.extend_from_slice(&encoder.encode(part.clone().into()).unwrap());
        }
        body.extend_from_slice(&encoder.finish().unwrap());
        body
    }

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn names_are_read() {
        let accepted = |value| Coding::accepted(&with(header::ACCEPT_ENCODING, value));
        assert_eq!(accepted("gzip, deflate, br"), Some(Coding::Brotli));
        assert_eq!(accepted("GZIP;q=0.5"), Some(Coding::Gzip));
        assert_eq!(accepted("gzip;q=0, zstd"), Some(Coding::Zstd));
        assert_eq!(accepted("identity"), None);
        let body = |value| Coding::of_body(&with(header::CONTENT_ENCODING, value));
        assert_eq!(body("zstd"), Ok(Some(Coding::Zstd)));
        assert_eq!(body("identity"), Ok(None));
        for value in ["xz", "gzip, gzip", "snappy"] {
            assert_eq!(body(value).unwrap_err().status(), 415, "{value}");
        }
    }

    #[test]
    fn what_is_cut_off_is_noticed() {
        for coding in Coding::ALL {
            let body = encode(coding, &[vec![7; 1000], (0..255).collect()]);
            for length in 1..body.len() {
                assert!(
                    decode(coding, &body[..length], 50).is_err(),
                    "{} of {} bytes of {}",
                    length,
                    body.len(),
                    coding.name()
                );
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn bodies_come_back_piece_by_piece(
            parts in proptest::collection::vec(proptest::collection::vec(0_u8..4, 0..3000), 0..4),
            step in 1_usize..5000,
        ) {
            for coding in Coding::ALL {
                let body = encode(coding, &parts);
                prop_assert_eq!(decode(coding, &body, step).unwrap(), parts.concat());
            }
        }

        #[test]
        fn any_bytes_are_an_error_or_content(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
            at in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            for coding in Coding::ALL {
                let _ = decode(coding, &bytes, 64);
                let mut body = encode(coding, &[bytes.clone()]);
                let at = at.index(body.len());
                body[at] ^= 1 << bit;
                let _ = decode(coding, &body, 64);
            }
            bytes.clear();
        }
    }
}

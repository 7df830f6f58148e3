//! ClickHouse's compressed blocks (`compress=1`, `decompress=1`).
//!
//! A block is a checksum of 16 bytes (CityHash128 of version 1.0.2) over what follows: the method,
//! one byte; the length from the method on, four; the length decompressed, four; the data.

use bytes::{Buf, Bytes, BytesMut};
use lz4_flex::block;

use crate::exception::{Exception, code};

const CHECKSUM: usize = 16;
const HEADER: usize = 9;
const METHOD_LZ4: u8 = 0x82;
const METHOD_ZSTD: u8 = 0x90;
const METHOD_NONE: u8 = 0x02;
/// ClickHouse's own limit for one block.
const MAX_BLOCK: usize = 1 << 30;
/// LZ4 cannot do better than 255 to 1.
const MAX_RATIO: usize = 255;
/// What this server puts into one block.
const BLOCK: usize = 1 << 20;

/// How the blocks of an answer are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Fast.
    Lz4,
    /// Small, at this level.
    Zstd(i32),
}

fn checksum(data: &[u8]) -> [u8; CHECKSUM] {
    cityhash_rs::cityhash_102_128(data)
        .rotate_right(64)
        .to_le_bytes()
}

/// Turns a body of blocks, which arrives in any pieces, into its content.
#[derive(Debug, Default)]
pub struct BlockDecoder {
    pending: BytesMut,
}

impl BlockDecoder {
    /// Takes bytes as they come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// How many bytes the next block will have, decompressed, and how many it has now; None before
    /// its header is there.
    ///
    /// # Errors
    /// The header cannot be true.
    pub fn next_size(&self) -> Result<Option<(usize, usize)>, Exception> {
        let Some(header) = self.pending.get(CHECKSUM..CHECKSUM + HEADER) else {
            return Ok(None);
        };
        let number = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
                as usize
        };
        let (compressed, plain) = (number(1), number(5));
        let too_large = |what: &str, size: usize| {
            Exception::new(
                code::TOO_LARGE_SIZE_COMPRESSED,
                "TOO_LARGE_SIZE_COMPRESSED",
                &format!("Too large {what}: {size}. Most likely corrupted data"),
            )
        };
        if compressed > MAX_BLOCK {
            return Err(too_large("size_compressed_without_checksum", compressed));
        }
        if compressed < HEADER {
            return Err(cannot_decompress(
                "size_compressed_without_checksum is less than the header",
            ));
        }
        let bounded = header[0] == METHOD_LZ4;
        if plain > MAX_BLOCK || bounded && plain > (compressed - HEADER).saturating_mul(MAX_RATIO) {
            return Err(too_large("size_decompressed", plain));
        }
        Ok(Some((plain, compressed)))
    }

    /// The next block's content, if all of it is here.
    ///
    /// # Errors
    /// 40 where the checksum does not match, 89 for a method other than LZ4 and ZSTD, 271 where the data
    /// cannot be decompressed.
    pub fn next_block(&mut self) -> Result<Option<Bytes>, Exception> {
        let Some((plain, compressed)) = self.next_size()? else {
            return Ok(None);
        };
        if self.pending.len() < CHECKSUM + compressed {
            return Ok(None);
        }
        let mut whole = self.pending.split_to(CHECKSUM + compressed).freeze();
        let expected = whole.split_to(CHECKSUM);
        if expected[..] != checksum(&whole) {
            return Err(Exception::new(
                code::CHECKSUM_DOESNT_MATCH,
                "CHECKSUM_DOESNT_MATCH",
                "Checksum doesn't match: corrupted data in the compressed body",
            ));
        }
        let method = whole[0];
        whole.advance(HEADER);
        match method {
            METHOD_LZ4 => {
                let mut content = vec![0; plain];
                match block::decompress_into(&whole, &mut content) {
                    Ok(length) if length == plain => Ok(Some(content.into())),
                    _ => Err(cannot_decompress("Cannot decompress LZ4-encoded data")),
                }
            }
            METHOD_ZSTD => match zstd::bulk::decompress(&whole, plain) {
                Ok(content) if content.len() == plain => Ok(Some(content.into())),
                _ => Err(cannot_decompress("Cannot decompress ZSTD-encoded data")),
            },
            METHOD_NONE if whole.len() == plain => Ok(Some(whole)),
            METHOD_NONE => Err(cannot_decompress(
                "a block without compression has two lengths",
            )),
            other => Err(Exception::new(
                code::UNKNOWN_COMPRESSION_METHOD,
                "UNKNOWN_COMPRESSION_METHOD",
                &format!(
                    "Compression method 0x{other:02x} is not supported; LZ4 (0x82), ZSTD (0x90) and \
                     none (0x02) are: set one in the client"
                ),
            )),
        }
    }

    /// Sees that nothing is left over.
    ///
    /// # Errors
    /// 33: the body ends within a block.
    pub fn finish(&self) -> Result<(), Exception> {
        if self.pending.is_empty() {
            return Ok(());
        }
        Err(Exception::new(
            code::CANNOT_READ_ALL_DATA,
            "CANNOT_READ_ALL_DATA",
            "Cannot read all data: the compressed body ends within a block",
        ))
    }
}

fn cannot_decompress(what: &str) -> Exception {
    Exception::new(code::CANNOT_DECOMPRESS, "CANNOT_DECOMPRESS", what)
}

/// Compresses a piece of an answer into blocks.
///
/// # Errors
/// The compressor fails.
pub fn encode(data: &[u8], method: Method) -> std::io::Result<Bytes> {
    let mut encoded = BytesMut::new();
    for part in data.chunks(BLOCK) {
        let start = encoded.len();
        let data_start = start + CHECKSUM + HEADER;
        let room = match method {
            Method::Lz4 => block::get_maximum_output_size(part.len()),
            Method::Zstd(_) => zstd::zstd_safe::compress_bound(part.len()),
        };
        encoded.resize(data_start + room, 0);
        let target = &mut encoded[data_start..];
        let length = match method {
            Method::Lz4 => block::compress_into(part, target).map_err(std::io::Error::other)?,
            Method::Zstd(level) => zstd::bulk::compress_to_buffer(part, target, level)?,
        };
        encoded.truncate(data_start + length);
        let sizes = [HEADER + length, part.len()].map(|size| (size as u32).to_le_bytes());
        encoded[start + CHECKSUM] = match method {
            Method::Lz4 => METHOD_LZ4,
            Method::Zstd(_) => METHOD_ZSTD,
        };
        encoded[start + CHECKSUM + 1..start + CHECKSUM + 5].copy_from_slice(&sizes[0]);
        encoded[start + CHECKSUM + 5..data_start].copy_from_slice(&sizes[1]);
        let sum = checksum(&encoded[start + CHECKSUM..]);
        encoded[start..start + CHECKSUM].copy_from_slice(&sum);
    }
    Ok(encoded.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const METHODS: [Method; 2] = [Method::Lz4, Method::Zstd(1)];

    fn decode(body: &[u8], step: usize) -> Result<Vec<u8>, Exception> {
        let mut decoder = BlockDecoder::default();
        let mut content = Vec::new();
        for part in body.chunks(step) {
            decoder.push(part);
            while let Some(block) = decoder.next_block()? {
                content.extend_from_slice(&block);
            }
        }
        decoder.finish()?;
        Ok(content)
    }

    fn sample(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * at / 7) as u8).collect()
    }

    #[test]
    fn blocks_come_back_as_they_went() {
        for method in METHODS {
            for length in [0, 1, 1000, BLOCK, BLOCK + 1, 3 * BLOCK + 17] {
                let content = sample(length);
                let body = encode(&content, method).unwrap();
                assert_eq!(decode(&body, 65_537).unwrap(), content);
            }
            let body = encode(&sample(100), method).unwrap();
            assert_eq!(decode(&body, 1).unwrap(), sample(100));
        }
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        for method in METHODS {
            let body = encode(&sample(300), method).unwrap().to_vec();
            damage(&body);
        }
    }

    fn damage(body: &[u8]) {
        for at in 0..body.len() {
            let mut damaged = body.to_vec();
            damaged[at] ^= 0x41;
            assert!(decode(&damaged, 100).is_err(), "byte {at}");
        }
        for length in 1..body.len() {
            assert_eq!(decode(&body[..length], 100).unwrap_err().code(), 33);
        }
        let mut damaged = body.to_vec();
        damaged[40] ^= 1;
        assert_eq!(decode(&damaged, 100).unwrap_err().code(), 40);
    }

    #[test]
    fn a_block_that_lies_about_its_size_is_refused_before_memory_is_taken() {
        for (method, code) in METHODS.into_iter().zip([39, 271]) {
            let mut lie = encode(&sample(300), method).unwrap().to_vec();
            lie[CHECKSUM + 5..CHECKSUM + 9].copy_from_slice(&(900_u32 << 20).to_le_bytes());
            let sum = checksum(&lie[CHECKSUM..]);
            lie[..CHECKSUM].copy_from_slice(&sum);
            assert_eq!(decode(&lie, 1000).unwrap_err().code(), code);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn any_bytes_are_an_error_or_content(
            header in proptest::collection::vec(any::<u8>(), 0..40),
            method in prop::sample::select(vec![0x02_u8, 0x82, 0x90, 0x91, 0x00]),
            compressed in 0_u32..200,
            plain in any::<u32>(),
            data in proptest::collection::vec(any::<u8>(), 0..200),
            step in 1_usize..50,
        ) {
            let _ = decode(&header, step);
            // With a true checksum, so that the sizes and the data are looked at.
            let mut block = vec![method];
            block.extend_from_slice(&compressed.to_le_bytes());
            block.extend_from_slice(&(plain >> (plain % 32)).to_le_bytes());
            block.extend_from_slice(&data);
            let end = (compressed as usize).min(block.len());
            let sum = checksum(&block[..end]);
            let _ = decode(&[&sum[..], &block].concat(), step);
        }
    }
}

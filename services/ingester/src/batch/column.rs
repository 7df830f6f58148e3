//! Columns in chunks of a fixed number of rows.
//!
//! A batch may have half a million rows. In chunks it takes the memory that its rows need and no more:
//! nothing is copied when it grows, and what is sent are the chunks themselves.

use bytes::Bytes;

/// Rows of a chunk.
pub(super) const CHUNK_ROWS: usize = 1 << 14;

/// What all columns of a batch can do.
pub(super) trait Column {
    /// Begins the next chunk: the last one has [`CHUNK_ROWS`] rows.
    fn next_chunk(&mut self);

    /// Puts the rows into an order: at each place stands where the row was.
    fn reorder(&mut self, order: &[u32]);

    /// Appends these rows as the Native format has them, or all.
    fn write(&self, chosen: Option<&[usize]>, out: &mut Pieces);

    /// Forgets all rows; what was kept for a large batch is given back.
    fn clear(&mut self);
}

/// A column of numbers, all of one width, little-endian.
#[derive(Debug, Default)]
pub(super) struct Numbers<const WIDTH: usize> {
    full: Vec<Bytes>,
    /// The rows after the full chunks.
    last: Vec<u8>,
}

impl<const WIDTH: usize> Numbers<WIDTH> {
    #[inline]
    pub(super) fn push(&mut self, number: [u8; WIDTH]) {
        self.last.extend_from_slice(&number);
    }

    #[inline]
    pub(super) fn at(&self, row: usize) -> [u8; WIDTH] {
        let (chunk, row) = match self.full.get(row / CHUNK_ROWS) {
            Some(chunk) => (&chunk[..], row % CHUNK_ROWS),
            None => (&self.last[..], row - self.full.len() * CHUNK_ROWS),
        };
        let mut number = [0; WIDTH];
        number.copy_from_slice(&chunk[row * WIDTH..][..WIDTH]);
        number
    }

    pub(super) fn len(&self) -> usize {
        self.full.len() * CHUNK_ROWS + self.last.len() / WIDTH
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = [u8; WIDTH]> {
        let full = self.full.iter().map(|chunk| &chunk[..]);
        let chunks = full.chain([&self.last[..]]);
        chunks.flat_map(|chunk| chunk.as_chunks::<WIDTH>().0.iter().copied())
    }

    /// The same numbers, each as `change` makes it.
    pub(super) fn map<const OTHER: usize>(
        &self,
        change: impl Fn([u8; WIDTH]) -> [u8; OTHER],
    ) -> Numbers<OTHER> {
        let changed = |chunk: &[u8]| -> Vec<u8> {
            let (numbers, _) = chunk.as_chunks::<WIDTH>();
            numbers.iter().flat_map(|number| change(*number)).collect()
        };
        Numbers {
            full: self.full.iter().map(|full| changed(full).into()).collect(),
            last: changed(&self.last),
        }
    }
}

impl<const WIDTH: usize> Column for Numbers<WIDTH> {
    fn next_chunk(&mut self) {
        let next = Vec::with_capacity(CHUNK_ROWS * WIDTH);
        let full = std::mem::replace(&mut self.last, next);
        self.full.push(full.into());
    }

    fn reorder(&mut self, order: &[u32]) {
        let sorted = |order: &[u32]| {
            let mut chunk = Vec::with_capacity(order.len() * WIDTH);
            for row in order {
                chunk.extend_from_slice(&self.at(*row as usize));
            }
            chunk
        };
        let (full, last) = order.split_at(self.full.len() * CHUNK_ROWS);
        let full = full.chunks(CHUNK_ROWS).map(|rows| sorted(rows).into());
        *self = Self {
            full: full.collect(),
            last: sorted(last),
        };
    }

    fn write(&self, chosen: Option<&[usize]>, out: &mut Pieces) {
        match chosen {
            None => {
                self.full.iter().for_each(|chunk| out.share(chunk));
                out.copy(&self.last);
            }
            Some(rows) => {
                for rows in rows.chunks(CHUNK_ROWS) {
                    let numbers = rows.iter().flat_map(|row| self.at(*row));
                    out.share(&numbers.collect::<Vec<u8>>().into());
                }
            }
        }
    }

    fn clear(&mut self) {
        self.full = Vec::new();
        self.last.clear();
    }
}

/// A column of numbers some of which are absent: a byte each that says whether it is, and the numbers.
#[derive(Debug, Default)]
pub(super) struct Optional<const WIDTH: usize> {
    nulls: Numbers<1>,
    numbers: Numbers<WIDTH>,
}

impl<const WIDTH: usize> Optional<WIDTH> {
    #[inline]
    pub(super) fn push(&mut self, number: Option<[u8; WIDTH]>) {
        self.nulls.push([u8::from(number.is_none())]);
        self.numbers.push(number.unwrap_or([0; WIDTH]));
    }
}

impl<const WIDTH: usize> Column for Optional<WIDTH> {
    fn next_chunk(&mut self) {
        self.nulls.next_chunk();
        self.numbers.next_chunk();
    }

    fn reorder(&mut self, order: &[u32]) {
        self.nulls.reorder(order);
        self.numbers.reorder(order);
    }

    fn write(&self, chosen: Option<&[usize]>, out: &mut Pieces) {
        self.nulls.write(chosen, out);
        self.numbers.write(chosen, out);
    }

    fn clear(&mut self) {
        self.nulls.clear();
        self.numbers.clear();
    }
}

/// Chunks below this size are copied next to their neighbours: each piece costs a call.
const SHARED_BYTES: usize = CHUNK_ROWS;
/// What is copied becomes a piece when it has this size.
const COPIED_BYTES: usize = 256 << 10;

/// What is being encoded, in pieces.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    done: Vec<Bytes>,
    copied: Vec<u8>,
}

impl Pieces {
    /// Appends bytes.
    pub(super) fn copy(&mut self, bytes: &[u8]) {
        self.copied.extend_from_slice(bytes);
        if self.copied.len() >= COPIED_BYTES {
            self.close();
        }
    }

    /// Appends a chunk, without a copy if it is large.
    pub(super) fn share(&mut self, chunk: &Bytes) {
        if chunk.len() < SHARED_BYTES {
            return self.copy(chunk);
        }
        self.close();
        self.done.push(chunk.clone());
    }

    /// Appends a word of the Native format.
    pub(super) fn word(&mut self, word: u64) {
        self.copy(&word.to_le_bytes());
    }

    /// Appends a number as LEB128.
    pub(super) fn varint(&mut self, number: u64) {
        varint(number, &mut self.copied);
    }

    /// Appends a text with its length before it.
    pub(super) fn text(&mut self, text: &str) {
        self.varint(text.len() as u64);
        self.copy(text.as_bytes());
    }

    fn close(&mut self) {
        if !self.copied.is_empty() {
            self.done.push(std::mem::take(&mut self.copied).into());
        }
    }

    /// All of it.
    pub(super) fn finish(mut self) -> Vec<Bytes> {
        self.close();
        self.done
    }
}

/// Appends a number as LEB128.
pub(super) fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: usize = 2 * CHUNK_ROWS + 5;

    fn column(rows: usize) -> Numbers<4> {
        let mut column = Numbers::default();
        for row in 0..rows {
            if row > 0 && row % CHUNK_ROWS == 0 {
                column.next_chunk();
            }
            column.push((row as u32).to_le_bytes());
        }
        column
    }

    fn written(column: &impl Column, chosen: Option<&[usize]>) -> Vec<u8> {
        let mut out = Pieces::default();
        column.write(chosen, &mut out);
        out.finish().concat()
    }

    fn bytes(numbers: impl Iterator<Item = usize>) -> Vec<u8> {
        numbers
            .flat_map(|number| (number as u32).to_le_bytes())
            .collect()
    }

    #[test]
    fn rows_are_found_in_whatever_chunk_they_are() {
        for rows in [0, 1, CHUNK_ROWS - 1, CHUNK_ROWS, CHUNK_ROWS + 1, ROWS] {
            let column = column(rows);
            assert_eq!(column.len(), rows);
            let found: Vec<u8> = (0..rows).flat_map(|row| column.at(row)).collect();
            assert_eq!(found, bytes(0..rows));
            assert!(column.iter().flatten().eq(found.iter().copied()));
            assert_eq!(written(&column, None), found);
        }
    }

    #[test]
    fn some_rows_are_written_in_the_order_that_was_asked_for() {
        let column = column(ROWS);
        let chosen = [ROWS - 1, 0, CHUNK_ROWS, CHUNK_ROWS - 1];
        assert_eq!(
            written(&column, Some(&chosen)),
            bytes(chosen.iter().copied())
        );
        let most: Vec<usize> = (0..ROWS).rev().skip(1).collect();
        assert_eq!(written(&column, Some(&most)), bytes(most.iter().copied()));
    }

    #[test]
    fn an_order_is_kept_over_chunks_and_more_rows_may_follow() {
        let mut column = column(ROWS);
        let order: Vec<u32> = (0..ROWS as u32).rev().collect();
        column.reorder(&order);
        column.push(7u32.to_le_bytes());
        assert_eq!(
            written(&column, None),
            bytes((0..ROWS).rev().chain([7])),
            "reversed"
        );
        column.clear();
        assert_eq!((column.len(), written(&column, None).len()), (0, 0));
    }

    #[test]
    fn full_chunks_are_sent_and_not_copied() {
        let column = column(ROWS);
        let mut out = Pieces::default();
        out.text("before");
        column.write(None, &mut out);
        let pieces = out.finish();
        let sizes: Vec<usize> = pieces.iter().map(Bytes::len).collect();
        assert_eq!(sizes, [7, 4 * CHUNK_ROWS, 4 * CHUNK_ROWS, 4 * 5]);
        assert_eq!(pieces[1].as_ptr(), column.full[0].as_ptr());
    }

    #[test]
    fn lengths_are_leb128() {
        let mut out = Pieces::default();
        out.text(&"x".repeat(300));
        assert_eq!(out.finish().concat()[..3], [0xac, 0x02, b'x']);
    }
}

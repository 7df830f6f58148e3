//! The indexes of a dictionary-encoded column: two bytes a row as long as that is enough.

use super::column::{Column, Numbers, Pieces};

/// Indexes, a row each.
#[derive(Debug)]
pub(super) enum Indexes {
    /// Of at most 65,536 keys.
    Narrow(Numbers<2>),
    /// Of more.
    Wide(Numbers<4>),
}

impl Default for Indexes {
    fn default() -> Self {
        Self::Narrow(Numbers::default())
    }
}

impl Indexes {
    /// Appends an index.
    #[inline]
    pub(super) fn push(&mut self, index: u32) {
        match self {
            Self::Narrow(rows) => match u16::try_from(index) {
                Ok(index) => rows.push(index.to_le_bytes()),
                Err(_) => {
                    let mut wide = rows.map(|index| widened(index).to_le_bytes());
                    wide.push(index.to_le_bytes());
                    *self = Self::Wide(wide);
                }
            },
            Self::Wide(rows) => rows.push(index.to_le_bytes()),
        }
    }

    /// The index of a row.
    #[inline]
    pub(super) fn at(&self, row: usize) -> u32 {
        match self {
            Self::Narrow(rows) => widened(rows.at(row)),
            Self::Wide(rows) => u32::from_le_bytes(rows.at(row)),
        }
    }

    /// Hands out all of them in their order, until `each` says no.
    pub(super) fn all(&self, mut each: impl FnMut(u32) -> bool) -> bool {
        match self {
            Self::Narrow(rows) => rows.iter().all(|index| each(widened(index))),
            Self::Wide(rows) => rows.iter().all(|index| each(u32::from_le_bytes(index))),
        }
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Narrow(rows) => rows.len(),
            Self::Wide(rows) => rows.len(),
        }
    }

    /// Bytes of a row.
    #[inline]
    pub(super) fn row_bytes(&self) -> usize {
        match self {
            Self::Narrow(_) => size_of::<u16>(),
            Self::Wide(_) => size_of::<u32>(),
        }
    }

    fn column(&self) -> &dyn Column {
        match self {
            Self::Narrow(rows) => rows,
            Self::Wide(rows) => rows,
        }
    }

    fn column_mut(&mut self) -> &mut dyn Column {
        match self {
            Self::Narrow(rows) => rows,
            Self::Wide(rows) => rows,
        }
    }
}

fn widened(index: [u8; 2]) -> u32 {
    u32::from(u16::from_le_bytes(index))
}

impl Column for Indexes {
    fn next_chunk(&mut self) {
        self.column_mut().next_chunk();
    }

    fn reorder(&mut self, order: &[u32]) {
        self.column_mut().reorder(order);
    }

    fn write(&self, chosen: Option<&[usize]>, out: &mut Pieces) {
        self.column().write(chosen, out);
    }

    fn clear(&mut self) {
        match self {
            Self::Narrow(rows) => rows.clear(),
            Self::Wide(_) => *self = Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::column::CHUNK_ROWS;

    fn found(indexes: &Indexes) -> Vec<u32> {
        (0..indexes.len()).map(|row| indexes.at(row)).collect()
    }

    #[test]
    fn indexes_become_wide_when_they_have_to() {
        let mut indexes = Indexes::default();
        let all = [0, 65_535, 65_536, 7, 4_000_000_000];
        for (row, index) in all.into_iter().enumerate() {
            indexes.push(index);
            assert_eq!(indexes.row_bytes(), if row < 2 { 2 } else { 4 });
        }
        assert_eq!(found(&indexes), all);
        indexes.reorder(&[4, 0, 3, 1, 2]);
        assert_eq!(found(&indexes), [4_000_000_000, 0, 7, 65_535, 65_536]);
        indexes.clear();
        assert_eq!((indexes.len(), indexes.row_bytes()), (0, 2));
    }

    #[test]
    fn they_become_wide_in_all_chunks() {
        let mut indexes = Indexes::default();
        let all: Vec<u32> = (0..CHUNK_ROWS as u32 + 3).chain([70_000, 1]).collect();
        for (row, index) in all.iter().enumerate() {
            if row == CHUNK_ROWS {
                indexes.next_chunk();
            }
            indexes.push(*index);
        }
        assert_eq!((found(&indexes), indexes.row_bytes()), (all.clone(), 4));
        let mut seen = Vec::new();
        assert!(indexes.all(|index| {
            seen.push(index);
            true
        }));
        assert_eq!(seen, all);
        assert!(!indexes.all(|index| index < 5));
    }
}

//! The indexes of a dictionary-encoded column: two bytes a row as long as that is enough.

/// Indexes, a row each.
#[derive(Debug)]
pub(super) enum Indexes {
    /// Of at most 65,536 keys.
    Narrow(Vec<u16>),
    /// Of more.
    Wide(Vec<u32>),
}

impl Default for Indexes {
    fn default() -> Self {
        Self::Narrow(Vec::new())
    }
}

impl Indexes {
    /// Appends an index.
    #[inline]
    pub(super) fn push(&mut self, index: u32) {
        match self {
            Self::Narrow(rows) => match u16::try_from(index) {
                Ok(index) => rows.push(index),
                Err(_) => {
                    let mut wide: Vec<u32> = Vec::with_capacity(rows.capacity());
                    wide.extend(rows.iter().map(|index| u32::from(*index)));
                    wide.push(index);
                    *self = Self::Wide(wide);
                }
            },
            Self::Wide(rows) => rows.push(index),
        }
    }

    /// The index of a row.
    #[inline]
    pub(super) fn at(&self, row: usize) -> u32 {
        match self {
            Self::Narrow(rows) => u32::from(rows[row]),
            Self::Wide(rows) => rows[row],
        }
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = u32> {
        (0..self.len()).map(|row| self.at(row))
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Narrow(rows) => rows.len(),
            Self::Wide(rows) => rows.len(),
        }
    }

    /// Bytes of a row.
    pub(super) fn width(&self) -> usize {
        match self {
            Self::Narrow(_) => size_of::<u16>(),
            Self::Wide(_) => size_of::<u32>(),
        }
    }

    /// Forgets all rows; narrow indexes keep their memory.
    pub(super) fn clear(&mut self) {
        match self {
            Self::Narrow(rows) => rows.clear(),
            Self::Wide(_) => *self = Self::default(),
        }
    }

    /// Puts the rows into an order: at each place stands where the row was.
    pub(super) fn reorder(&mut self, order: &[u32]) {
        fn gather<T: Copy>(rows: &mut Vec<T>, order: &[u32]) {
            // As much as there was: it will fill up again.
            let mut sorted = Vec::with_capacity(rows.capacity());
            sorted.extend(order.iter().map(|row| rows[*row as usize]));
            *rows = sorted;
        }
        match self {
            Self::Narrow(rows) => gather(rows, order),
            Self::Wide(rows) => gather(rows, order),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_become_wide_when_they_have_to() {
        let mut indexes = Indexes::default();
        let all = [0, 65_535, 65_536, 7, 4_000_000_000];
        for (row, index) in all.into_iter().enumerate() {
            indexes.push(index);
            assert_eq!(indexes.width(), if row < 2 { 2 } else { 4 });
        }
        assert!(indexes.iter().eq(all));
        indexes.reorder(&[4, 0, 3, 1, 2]);
        assert!(indexes.iter().eq([4_000_000_000, 0, 7, 65_535, 65_536]));
        indexes.clear();
        assert_eq!((indexes.len(), indexes.width()), (0, 2));
    }
}

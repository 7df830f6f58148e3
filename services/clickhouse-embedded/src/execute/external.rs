//! Tables that come with a query, as parts of a form: temporary tables for this one request.

use bytes::Bytes;

use super::insert;
use super::prepare::Restore;
use crate::engine::Connection;
use crate::exception::{Exception, code};
use crate::sql;

/// One table, with the rows that came for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExternalTable {
    /// Its name.
    pub name: String,
    /// The format of its rows; TabSeparated where none was given.
    pub format: Option<String>,
    /// Columns and types.
    pub structure: Option<String>,
    /// Types, of columns that are called `_1`, `_2`, …
    pub types: Option<String>,
    /// Rows.
    pub rows: Bytes,
}

impl ExternalTable {
    fn columns(&self) -> Result<String, Exception> {
        match (&self.structure, &self.types) {
            (Some(structure), _) => Ok(structure.clone()),
            (None, Some(types)) => Ok(sql::split_list(types)
                .iter()
                .enumerate()
                .map(|(at, kind)| format!("_{} {}", at + 1, kind.trim()))
                .collect::<Vec<_>>()
                .join(", ")),
            (None, None) => Err(Exception::new(
                code::BAD_ARGUMENTS,
                "BAD_ARGUMENTS",
                &format!(
                    "Neither structure nor types have not been provided for external table {0}. \
                     Use fields {0}_structure or {0}_types to do so.",
                    self.name
                ),
            )),
        }
    }
}

/// Makes the tables and fills them.
pub(super) fn create(
    connection: &Connection,
    tables: &[ExternalTable],
    restore: &mut Restore,
) -> Result<(), Exception> {
    for table in tables {
        let name = sql::quote_identifier(&table.name);
        let columns = table.columns()?;
        let what = format!("the structure of external table {}", table.name);
        insert::create(connection, &name, &columns, &what)?;
        restore.then(format!("DROP TEMPORARY TABLE {name}"));
        let format = table.format.as_deref().unwrap_or("TabSeparated");
        let mut stream =
            connection.insert(format!("INSERT INTO {name}").as_bytes(), format, &[])?;
        stream.append(&table.rows)?;
        stream.commit()?;
    }
    Ok(())
}

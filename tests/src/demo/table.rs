//! Reads the tables that `backstayctl get` prints: a header, then a row per resource, columns aligned.

use anyhow::{Context, Result};

/// A printed table.
pub struct Table<'a> {
    columns: Vec<(&'a str, usize)>,
    rows: Vec<&'a str>,
}

impl<'a> Table<'a> {
    pub fn parse(text: &'a str) -> Result<Self> {
        let mut lines = text.lines();
        let header = lines.next().context("nothing was printed where a table should be")?;
        let names = header.split("   ").map(str::trim).filter(|name| !name.is_empty());
        let at = |name: &'a str| (name, name.as_ptr() as usize - header.as_ptr() as usize);
        Ok(Self { columns: names.map(at).collect(), rows: lines.collect() })
    }

    /// The cells of one column, top down.
    pub fn column(&self, name: &str) -> Result<Vec<&'a str>> {
        let index = self.columns.iter().position(|(column, _)| *column == name);
        let index = index.with_context(|| format!("the table has no column {name}"))?;
        let start = self.columns[index].1;
        let end = self.columns.get(index + 1).map(|(_, start)| *start);
        let cell = |row: &&'a str| row.get(start..end.unwrap_or(row.len()).min(row.len())).unwrap_or_default().trim();
        Ok(self.rows.iter().map(cell).collect())
    }

    /// The cell of the only row.
    pub fn cell(&self, name: &str) -> Result<&'a str> {
        match self.column(name)?.as_slice() {
            [cell] => Ok(cell),
            cells => anyhow::bail!("the table has {} rows instead of one", cells.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_found_where_others_are_empty() {
        let row = |cells: [&str; 4]| format!("{:8}{:10}{:13}{}\n", cells[0], cells[1], cells[2], cells[3]);
        let rows = [["ID", "VERSION", "LAST ERROR", "TIME"], ["alpha", "1", "", "5"], ["b", "22", "not yet", ""]];
        let text: String = rows.map(row).concat().replace(" \n", "\n");
        let table = Table::parse(&text).expect("a table");
        assert_eq!(table.column("VERSION").expect("there"), ["1", "22"]);
        assert_eq!(table.column("LAST ERROR").expect("there"), ["", "not yet"]);
        assert_eq!(table.column("TIME").expect("there"), ["5", ""]);
        assert!(table.column("NAME").is_err() && table.cell("ID").is_err());
    }

    #[test]
    fn an_empty_list_has_no_cells() {
        let table = Table::parse("ID   VERSION\n").expect("a table");
        assert!(table.column("ID").expect("there").is_empty());
        assert!(Table::parse("").is_err());
    }
}

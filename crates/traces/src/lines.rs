//! Lists with a header, line by line, in CSV or Parquet; every error names line, field and value.

use std::fmt;

use csv::{ReaderBuilder, StringRecord, Trim};

/// What every Parquet file begins with.
const PARQUET: &[u8] = b"PAR1";

/// Where something stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In this line of a CSV, from 1.
    Line(u64),
    /// In this row of a Parquet file, from 1.
    Row(u64),
    /// Nowhere in particular.
    File,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(number) => write!(f, "line {number}: "),
            Place::Row(number) => write!(f, "row {number}: "),
            Place::File => Ok(()),
        }
    }
}

/// Something in a list that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    place: Place,
    field: String,
    value: String,
    problem: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}: {}: {}", self.place, self.field, self.value, self.problem)
    }
}

impl std::error::Error for BadLine {}

/// All lines of a list below its header.
pub(crate) struct Lines {
    header: StringRecord,
    records: Vec<StringRecord>,
    is_parquet: bool,
}

impl Lines {
    /// Tells CSV from Parquet by how the file begins.
    pub(crate) fn read(file: &[u8], needed: &[&str]) -> Result<Self, BadLine> {
        let lines = if file.starts_with(PARQUET) { Lines::of_parquet(file)? } else { Lines::of_csv(file)? };
        let header = &lines.header;
        if let Some(missing) = needed.iter().find(|needed| !header.iter().any(|column| column == **needed)) {
            let columns = header.iter().collect::<Vec<_>>().join(",");
            let problem = format!("there must be a column {missing}");
            let place = if lines.is_parquet { Place::File } else { Place::Line(1) };
            return Err(BadLine { place, field: "header".to_owned(), value: columns, problem });
        }
        Ok(lines)
    }

    fn of_csv(file: &[u8]) -> Result<Lines, BadLine> {
        let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(file);
        let header = reader.headers().map_err(|error| unreadable(&error))?.clone();
        let records = reader.records().collect::<Result<_, _>>().map_err(|error| unreadable(&error))?;
        Ok(Lines { header, records, is_parquet: false })
    }

    fn of_parquet(file: &[u8]) -> Result<Lines, BadLine> {
        let unreadable =
            |problem| BadLine { place: Place::File, field: "file".into(), value: "Parquet".into(), problem };
        let (header, mut records) = read_parquet(file).map_err(unreadable)?;
        for (row, record) in (1..).zip(&mut records) {
            let mut position = csv::Position::new();
            position.set_line(row);
            record.set_position(Some(position));
        }
        Ok(Lines { header, records, is_parquet: true })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Line<'_>> {
        self.records.iter().map(|record| Line { header: &self.header, record, is_parquet: self.is_parquet })
    }
}

#[cfg(feature = "parquet")]
use crate::parquet::read as read_parquet;

#[cfg(not(feature = "parquet"))]
fn read_parquet(_file: &[u8]) -> Result<(StringRecord, Vec<StringRecord>), String> {
    Err("this program was built without the feature `parquet`: make it a CSV, or build without --no-default-features"
        .into())
}

/// One line.
#[derive(Copy, Clone)]
pub(crate) struct Line<'a> {
    header: &'a StringRecord,
    record: &'a StringRecord,
    is_parquet: bool,
}

impl<'a> Line<'a> {
    /// Empty if there is no such column.
    pub(crate) fn text(self, field: &str) -> &'a str {
        let column = self.header.iter().position(|column| column == field);
        column.and_then(|column| self.record.get(column)).unwrap_or_default()
    }

    pub(crate) fn number(self, field: &str) -> Result<u32, BadLine> {
        let problem = format!("must be a whole number from 0 to {}", u32::MAX);
        self.text(field).parse().map_err(|_| self.bad(field, problem))
    }

    /// A number of at least 0; what the field is missing for is `missing`.
    pub(crate) fn amount(self, field: &str, missing: f64) -> Result<f64, BadLine> {
        match self.text(field) {
            "" => Ok(missing),
            text => match text.parse::<f64>() {
                Ok(amount) if amount.is_finite() && amount >= 0.0 => Ok(amount),
                _ => Err(self.bad(field, "must be a number of 0 or more")),
            },
        }
    }

    /// Names of all columns.
    pub(crate) fn columns(self) -> impl Iterator<Item = &'a str> {
        self.header.iter()
    }

    pub(crate) fn bad(self, field: &str, problem: impl fmt::Display) -> BadLine {
        let number = self.record.position().map_or(0, csv::Position::line);
        BadLine {
            place: if self.is_parquet { Place::Row(number) } else { Place::Line(number) },
            field: field.to_owned(),
            value: self.text(field).to_owned(),
            problem: problem.to_string(),
        }
    }
}

/// What is no CSV at all.
fn unreadable(error: &csv::Error) -> BadLine {
    let line = error.position().map_or(1, csv::Position::line);
    let (field, value, problem) = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            ("fields", len.to_string(), format!("must be as many as in the header, {expected_len}"))
        }
        csv::ErrorKind::Utf8 { err, .. } => ("field", (err.field() + 1).to_string(), "must be UTF-8".to_owned()),
        _ => ("text", error.to_string(), "must be CSV".to_owned()),
    };
    BadLine { place: Place::Line(line), field: field.to_owned(), value, problem }
}

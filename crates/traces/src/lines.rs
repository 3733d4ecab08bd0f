//! Lists with a header, line by line; every error names line, field and value.

use std::fmt;

use csv::{ReaderBuilder, StringRecord, Trim};

/// Something in a list that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    line: u64,
    field: String,
    value: String,
    problem: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {}: {}", self.line, self.field, self.value, self.problem)
    }
}

impl std::error::Error for BadLine {}

/// All lines of a list below its header.
pub(crate) struct Lines {
    header: StringRecord,
    records: Vec<StringRecord>,
}

impl Lines {
    pub(crate) fn read(csv: &[u8], needed: &[&str]) -> Result<Self, BadLine> {
        let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(csv);
        let header = reader.headers().map_err(|error| unreadable(&error))?.clone();
        if let Some(missing) = needed.iter().find(|needed| !header.iter().any(|column| column == **needed)) {
            let columns = header.iter().collect::<Vec<_>>().join(",");
            let problem = format!("there must be a column {missing}");
            return Err(BadLine { line: 1, field: "header".to_owned(), value: columns, problem });
        }
        let records = reader.records().collect::<Result<_, _>>().map_err(|error| unreadable(&error))?;
        Ok(Lines { header, records })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Line<'_>> {
        self.records.iter().map(|record| Line { header: &self.header, record })
    }
}

/// One line.
#[derive(Copy, Clone)]
pub(crate) struct Line<'a> {
    header: &'a StringRecord,
    record: &'a StringRecord,
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
        BadLine {
            line: self.record.position().map_or(0, csv::Position::line),
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
    BadLine { line, field: field.to_owned(), value, problem }
}

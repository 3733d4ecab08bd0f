//! Lists in Apache Parquet, cell by cell as a list in CSV has them.
//!
//! A file that is cut off is an error. One that is damaged within can make the library panic.

use std::sync::Arc;

use chrono::DateTime;
use csv::StringRecord;
use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as PhysicalType};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::{Type, TypePtr};

/// What every Parquet file begins with.
pub(crate) const MAGIC: &[u8] = b"PAR1";

/// How the values of a column become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// As they are.
    Plain,
    /// Times since 1970, so many in a second.
    Time(i64),
    /// Days since 1970.
    Date,
}

/// Header and rows of a file, in the order of the file. Columns that are no single text, number, date or time stay unread: in
/// their cells stands what they are.
///
/// # Errors
/// Why it can't be read, in words.
pub(crate) fn read(file: &[u8]) -> Result<(StringRecord, Vec<StringRecord>), String> {
    let in_words = |error: parquet::errors::ParquetError| error.to_string();
    let reader = SerializedFileReader::new(bytes::Bytes::copy_from_slice(file)).map_err(in_words)?;
    let schema = reader.metadata().file_metadata().schema();
    let columns = schema.get_fields();
    let readings: Vec<Result<Reading, String>> = columns.iter().map(reading).collect();
    let read: Vec<TypePtr> = columns
        .iter()
        .zip(&readings)
        .filter(|(_, reading)| reading.is_ok())
        .map(|(column, _)| Arc::clone(column))
        .collect();
    if read.is_empty() {
        return Err("no column holds texts, numbers, dates or times".to_owned());
    }
    let read = Type::group_type_builder(schema.name()).with_fields(read).build().map_err(in_words)?;
    let mut rows = Vec::new();
    for (number, row) in (1..).zip(reader.get_row_iter(Some(read)).map_err(in_words)?) {
        let row = row.map_err(|error| format!("row {number}: {error}"))?;
        let mut fields = row.get_column_iter().map(|(_, field)| field);
        let cell = |reading: &Result<Reading, String>| match reading {
            Ok(reading) => fields.next().map_or_else(String::new, |field| text(field, *reading)),
            Err(what) => what.clone(),
        };
        rows.push(readings.iter().map(cell).collect());
    }
    Ok((columns.iter().map(|column| column.name()).collect(), rows))
}

/// How a column is read, or what it is instead.
fn reading(column: &TypePtr) -> Result<Reading, String> {
    let info = column.get_basic_info();
    if column.is_group() || (info.has_repetition() && info.repetition() == parquet::basic::Repetition::REPEATED) {
        return Err("(a list, or columns in a column)".to_owned());
    }
    let physical = column.get_physical_type();
    let logical = info.logical_type_ref();
    if let Some(LogicalType::Timestamp(time)) = logical {
        return Ok(Reading::Time(match time.unit {
            TimeUnit::MILLIS => 1_000,
            TimeUnit::MICROS => 1_000_000,
            TimeUnit::NANOS => 1_000_000_000,
        }));
    }
    match (physical, info.converted_type()) {
        (PhysicalType::INT64, ConvertedType::TIMESTAMP_MILLIS) => Ok(Reading::Time(1_000)),
        (PhysicalType::INT64, ConvertedType::TIMESTAMP_MICROS) => Ok(Reading::Time(1_000_000)),
        (PhysicalType::INT32, ConvertedType::DATE) => Ok(Reading::Date),
        (
            PhysicalType::BOOLEAN
            | PhysicalType::INT32
            | PhysicalType::INT64
            | PhysicalType::FLOAT
            | PhysicalType::DOUBLE
            | PhysicalType::BYTE_ARRAY,
            ConvertedType::NONE
            | ConvertedType::UTF8
            | ConvertedType::ENUM
            | ConvertedType::INT_8
            | ConvertedType::INT_16
            | ConvertedType::INT_32
            | ConvertedType::INT_64
            | ConvertedType::UINT_8
            | ConvertedType::UINT_16
            | ConvertedType::UINT_32
            | ConvertedType::UINT_64,
        ) => Ok(Reading::Plain),
        (physical, ConvertedType::NONE) => Err(format!("(of type {physical})")),
        (_, converted) => Err(format!("(of type {converted})")),
    }
}

fn text(field: &Field, reading: Reading) -> String {
    let unix_s = match (field, reading) {
        (Field::Null, _) => return String::new(),
        (Field::Long(time) | Field::TimestampMillis(time) | Field::TimestampMicros(time), Reading::Time(a_second)) => {
            time.div_euclid(a_second)
        }
        (Field::Date(days) | Field::Int(days), Reading::Date) => i64::from(*days) * 86_400,
        (Field::Str(text), _) => return text.trim().to_owned(),
        (Field::Bytes(bytes), _) => return String::from_utf8_lossy(bytes.data()).trim().to_owned(),
        // What pandas makes of whole numbers where some are missing.
        (Field::Float(number), _) if number.is_nan() => return String::new(),
        (Field::Double(number), _) if number.is_nan() => return String::new(),
        (Field::Float(number), _) => return number.to_string(),
        (Field::Double(number), _) => return number.to_string(),
        (other, _) => return other.to_string(),
    };
    // All forms know times to the second.
    DateTime::from_timestamp(unix_s, 0)
        .map_or_else(|| format!("{unix_s} s since 1970"), |time| time.format("%Y-%m-%d %H:%M:%S").to_string())
}

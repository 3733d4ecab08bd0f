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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ::parquet::basic::Compression;
    use ::parquet::column::writer::ColumnWriter;
    use ::parquet::data_type::ByteArray;
    use ::parquet::file::properties::WriterProperties;
    use ::parquet::file::writer::SerializedFileWriter;
    use ::parquet::schema::parser::parse_message_type;

    use crate::jobs::{Form, read};
    use crate::lines::Lines;

    /// As pandas writes it: columns that may be missing, and a compression.
    fn parquet(schema: &str, write: impl Fn(&mut ColumnWriter<'_>, usize)) -> Vec<u8> {
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut file = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        for column in 0.. {
            let Some(mut open) = group.next_column().unwrap() else { break };
            write(open.untyped(), column);
            open.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
        file
    }

    #[test]
    fn parquet_is_read_as_csv_is() {
        let schema = "message trace { required double arrival_s; required int64 duration_s; optional int32 gpu;
            optional binary strategy (UTF8); }";
        let file = parquet(schema, |column, number| {
            let written = match (column, number) {
                (ColumnWriter::DoubleColumnWriter(column), 0) => column.write_batch(&[2.5, 0.0], None, None),
                (ColumnWriter::Int64ColumnWriter(column), 1) => column.write_batch(&[60, 1], None, None),
                (ColumnWriter::Int32ColumnWriter(column), 2) => column.write_batch(&[8, 1], Some(&[1, 1]), None),
                (ColumnWriter::ByteArrayColumnWriter(column), 3) => {
                    column.write_batch(&["spread".into()], Some(&[1, 0]), None)
                }
                _ => panic!("no such column"),
            };
            assert!(written.unwrap() > 0);
        });
        let csv = "arrival_s,duration_s,gpu,strategy\n2.5,60,8,spread\n0,1,1,\n";
        assert_eq!(read(Form::Mobula, &file).unwrap(), read(Form::Mobula, csv.as_bytes()).unwrap());
        let broken = read(Form::Mobula, &file[..file.len() - 9]).unwrap_err().to_string();
        assert!(broken.starts_with("file: Parquet: "), "{broken}");
        assert!(read(Form::Openb, &file).unwrap_err().to_string().contains("there must be a column cpu_milli"));
    }

    #[test]
    fn an_error_in_parquet_names_row_and_column() {
        let file = parquet("message trace { required double arrival_s; required double duration_s; }", |column, _| {
            if let ColumnWriter::DoubleColumnWriter(column) = column {
                column.write_batch(&[1.0, 2.0], None, None).unwrap();
            }
        });
        let error = read(Form::Mobula, &file).unwrap_err().to_string();
        assert_eq!(error, "row 1: cpu: : a job must need something");
    }

    #[test]
    fn times_in_parquet_are_read_in_every_unit_and_what_can_be_no_value_is_named() {
        let schema = "message trace { required int64 timestamp (TIMESTAMP(UNIT,true)); required double duration;
            required int32 num_gpus; required binary cluster (UTF8); required int32 day (DATE);
            required fixed_len_byte_array(12) odd (INTERVAL); }";
        let write = |a_second: i64| {
            move |column: &mut ColumnWriter<'_>, _: usize| {
                let written = match column {
                    ColumnWriter::Int64ColumnWriter(column) => {
                        column.write_batch(&[1_507_532_515 * a_second], None, None)
                    }
                    ColumnWriter::DoubleColumnWriter(column) => column.write_batch(&[66.0], None, None),
                    ColumnWriter::Int32ColumnWriter(column) => column.write_batch(&[1], None, None),
                    ColumnWriter::ByteArrayColumnWriter(column) => column.write_batch(&["b".into()], None, None),
                    ColumnWriter::FixedLenByteArrayColumnWriter(column) => {
                        column.write_batch(&[ByteArray::from(vec![0; 12]).into()], None, None)
                    }
                    _ => panic!("no such column"),
                };
                assert_eq!(written.unwrap(), 1);
            }
        };
        for (unit, a_second) in [("MILLIS", 1_000), ("MICROS", 1_000_000), ("NANOS", 1_000_000_000)] {
            let file = parquet(&schema.replace("UNIT", unit), write(a_second));
            let lines = Lines::read(&file, &[]).unwrap();
            let line = lines.iter().next().unwrap();
            assert_eq!(
                (line.text("timestamp"), line.text("day")),
                ("2017-10-09 07:01:55", "1970-01-02 00:00:00"),
                "{unit}"
            );
            assert_eq!(line.bad("odd", "is odd").to_string(), "row 1: odd: (of type INTERVAL): is odd");
            assert_eq!(read(Form::Philly, &file).unwrap()[0].duration_ms, 66_000);
        }
        let far = parquet(&schema.replace("UNIT", "MILLIS"), write(i64::MAX / 1_507_532_515));
        assert!(read(Form::Philly, &far).unwrap_err().to_string().starts_with("row 1: timestamp: 9223372"));
    }
}

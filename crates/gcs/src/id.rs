//! Ids: bytes on the wire, lower-case hex everywhere else.

use std::fmt::Write as _;

/// Length of a node id. The GCS asserts it: an id of another length must never be sent.
pub const NODE_ID_BYTES: usize = 28;

/// Lower-case hex of whatever is there.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// The bytes of an id that is to be sent, which has to be exactly `length` bytes long.
pub fn parse(kind: &'static str, text: &str, length: usize) -> Result<Vec<u8>, IdError> {
    let problem = || IdError { kind, text: text.to_owned(), digits: length * 2 };
    if text.len() != length * 2 || !text.is_ascii() {
        return Err(problem());
    }
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let digits = digits.ok_or_else(problem)?;
    Ok(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8)).collect())
}

/// A node id as it is sent.
pub fn parse_node(text: &str) -> Result<Vec<u8>, IdError> {
    parse("node id", text, NODE_ID_BYTES)
}

/// An id that can't be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} is not {digits} hex digits")]
pub struct IdError {
    kind: &'static str,
    text: String,
    digits: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_and_back() {
        let bytes: Vec<u8> = (0..28).map(|i| i * 9).collect();
        assert_eq!(parse_node(&hex(&bytes)).unwrap(), bytes);
        assert_eq!(parse_node(&hex(&bytes).to_uppercase()).unwrap(), bytes);
        assert_eq!(hex(&[]), "");
    }

    #[test]
    fn only_whole_ids_are_sent() {
        for bad in ["", "00", &"0".repeat(55), &"0".repeat(57), &"g".repeat(56), &"é".repeat(28), "+1"] {
            assert!(parse_node(bad).is_err(), "{bad}");
        }
        let error = parse_node("xyz").unwrap_err().to_string();
        assert_eq!(error, "node id \"xyz\" is not 56 hex digits");
    }
}

//! Ids: bytes on the wire, lower-case hex everywhere else.

/// Length of a node id. The GCS asserts it: an id of another length must never be sent.
pub const NODE_ID_BYTES: usize = 28;

/// Lower-case hex of whatever is there.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or_default();
    let mut text = String::with_capacity(bytes.len() * 2);
    text.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]));
    text
}

/// The bytes of an id that is to be sent, which has to be exactly `length` bytes long.
pub fn parse(kind: &'static str, text: &str, length: usize) -> Result<Vec<u8>, IdError> {
    let problem = || IdError { kind, text: text.to_owned(), digits: length * 2 };
    if text.len() != length * 2 || !text.is_ascii() {
        return Err(problem());
    }
    let digit = |character: u8| char::from(character).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| pair.iter().try_fold(0, |byte, character| Some(byte << 4 | digit(*character)?));
    text.as_bytes().chunks_exact(2).map(byte).collect::<Option<_>>().ok_or_else(problem)
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

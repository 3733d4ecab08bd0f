//! Small files that people write: one document of YAML or JSON.

use mobula_api::FieldError;
use serde_json::Value;

/// The document in a text.
///
/// # Errors
/// Says where it is no YAML, or that it is not one document.
pub(crate) fn one_document(text: &str) -> Result<Value, FieldError> {
    let whole = |problem: String| FieldError::missing("", problem);
    let mut documents = documents(text)?;
    match (documents.pop(), documents.len()) {
        (Some(document), 0) => Ok(document),
        (None, _) => Err(whole("is empty".to_owned())),
        (Some(_), others) => Err(whole(format!("holds {} documents: must be one", others + 1))),
    }
}

/// All documents in a text.
///
/// # Errors
/// Says where it is no YAML.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>, FieldError> {
    if let Ok(document) = serde_json::from_str(text) {
        return Ok(vec![document]);
    }
    let options = serde_saphyr::options! { with_snippet: false, };
    serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| FieldError::missing("", format!("not YAML: {error}")))
}

/// An error about one value of a document.
pub(crate) fn error(path: &str, value: &Value, problem: &str) -> FieldError {
    let shown = match value {
        Value::String(text) => text.clone(),
        Value::Null => "nothing".to_owned(),
        other => other.to_string(),
    };
    FieldError::new(path, shown, problem)
}

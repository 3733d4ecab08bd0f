//! The one error of this crate: a field that says something we can't use.

use serde_json::Value;

/// A field of a manifest that can't be used: which, what it holds, and what to do about it.
///
/// Not retryable: the same document gives the same error until somebody changes it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FieldError {
    /// JSON path, for example `spec.workerGroupSpecs[1].template.spec.containers[0].resources.limits.cpu`.
    pub field: String,
    /// What it holds, shortened; empty if it is missing.
    pub value: String,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

/// Longest part of a value that an error repeats, in characters.
const SHOWN_CHARS: usize = 80;

impl FieldError {
    /// An error about `field`, which holds `value`.
    pub fn new(field: impl Into<String>, value: impl AsRef<str>, problem: impl Into<String>) -> Self {
        FieldError { field: field.into(), value: shortened(value.as_ref()), problem: problem.into() }
    }

    /// An error about `field`, which should be there and is not.
    pub fn missing(field: impl Into<String>, problem: impl Into<String>) -> Self {
        FieldError::new(field, "", problem)
    }

    pub(crate) fn of_value(field: impl Into<String>, value: &Value, problem: impl Into<String>) -> Self {
        match value {
            Value::String(text) => FieldError::new(field, text, problem),
            Value::Array(_) => FieldError::new(field, "[…]", problem),
            Value::Object(_) => FieldError::new(field, "{…}", problem),
            scalar => FieldError::new(field, scalar.to_string(), problem),
        }
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let field = if self.field.is_empty() { "the document" } else { self.field.as_str() };
        if self.value.is_empty() {
            write!(f, "{field}: {}", self.problem)
        } else {
            write!(f, "{field}: {}: {}", self.value, self.problem)
        }
    }
}

fn shortened(text: &str) -> String {
    let mut chars = text.chars();
    let mut shown: String = chars.by_ref().take(SHOWN_CHARS).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::FieldError;

    #[test]
    fn says_field_value_and_problem() {
        let error = FieldError::new("spec.workerGroupSpecs[1].minReplicas", "-3", "must be 0 or more");
        assert_eq!(error.to_string(), "spec.workerGroupSpecs[1].minReplicas: -3: must be 0 or more");
        assert_eq!(FieldError::missing("spec", "is required").to_string(), "spec: is required");
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let error = FieldError::new("f", "é".repeat(1000), "is too long");
        assert_eq!(error.value.chars().count(), 81);
    }
}

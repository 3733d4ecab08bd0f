//! Label and field selectors.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::kind::Kind;
use crate::refusal::Refusal;

/// What a list, a watch or a collective delete is about.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<FieldRequirement>,
}

#[derive(Clone, Debug, PartialEq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Exists,
    Absent,
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Above(i64),
    Below(i64),
}

#[derive(Clone, Debug, PartialEq)]
struct FieldRequirement {
    path: String,
    value: String,
    is_equal: bool,
}

impl Selector {
    /// Reads both selectors of a query. Refuses fields that the kind can't be selected by.
    pub(crate) fn parse(kind: &Kind, labels: &str, fields: &str) -> Result<Selector, Refusal> {
        let labels = parse_labels(labels).map_err(|why| {
            Refusal::bad_request(format!("unable to parse requirement of label selector `{labels}`: {why}"))
        })?;
        let fields = parse_fields(fields)
            .map_err(|why| Refusal::bad_request(format!("invalid field selector `{fields}`: {why}")))?;
        for requirement in &fields {
            let path = requirement.path.as_str();
            let is_metadata = path == "metadata.name" || path == "metadata.namespace" && kind.namespaced;
            if !is_metadata && !kind.selectable_fields.iter().any(|field| field == path) {
                return Err(Refusal::bad_request(format!("field label not supported: {path}")));
            }
        }
        Ok(Selector { labels, fields })
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// A label, and the only value of it with which an object may match.
    pub(crate) fn pinned_label(&self) -> Option<(&str, &str)> {
        self.labels.iter().find_map(|requirement| match &requirement.test {
            Test::In(values) if values.len() == 1 => Some((requirement.key.as_str(), values.first()?.as_str())),
            _ => None,
        })
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        if self.is_everything() {
            return true;
        }
        let metadata = &object["metadata"];
        let labels = &metadata["labels"];
        self.labels.iter().all(|requirement| requirement.test.passes(labels[&requirement.key].as_str()))
            && self.fields.iter().all(|field| (field_of(object, &field.path) == field.value) == field.is_equal)
    }
}

impl Test {
    fn passes(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match self {
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::In(values) => value.is_some_and(|value| values.contains(value)),
            // Also true of what has no such label.
            Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Test::Above(bound) => number().is_some_and(|number| number > *bound),
            Test::Below(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

/// The text that a field selector compares with. What is absent is the zero value of its type.
fn field_of(object: &Value, path: &str) -> String {
    let mut value = object;
    for part in path.split('.') {
        value = &value[part];
    }
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        // The source of an event is a structure of which the component counts.
        Value::Object(source) if path == "source" => {
            source.get("component").and_then(Value::as_str).unwrap_or_default().to_owned()
        }
        _ if matches!(path, "spec.hostNetwork" | "spec.unschedulable") => "false".to_owned(),
        _ if path == "status.successful" => "0".to_owned(),
        _ => String::new(),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Symbol(&'static str),
}

/// `k`, `!k`, `k=v`, `k==v`, `k!=v`, `k in (a,b)`, `k notin (a,b)`, `k>1`, `k<1`, joined by commas.
fn parse_labels(text: &str) -> Result<Vec<Requirement>, String> {
    let tokens = tokens(text);
    let mut rest = tokens.as_slice();
    let mut requirements = Vec::new();
    while !rest.is_empty() {
        let (requirement, after) = requirement(rest)?;
        requirements.push(requirement);
        rest = match after {
            [] => after,
            [Token::Symbol(","), more @ ..] if !more.is_empty() => more,
            [token, ..] => return Err(format!("found {token:?}, expected: ',' and a further requirement")),
        };
    }
    Ok(requirements)
}

fn tokens(text: &str) -> Vec<Token> {
    const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", ",", "(", ")", ">", "<"];
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let symbol = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol));
        let length = match symbol {
            Some(symbol) => {
                tokens.push(Token::Symbol(symbol));
                symbol.len()
            }
            None => {
                let is_end = |letter: char| letter.is_whitespace() || "=!,()<>".contains(letter);
                let end = rest.find(is_end).unwrap_or(rest.len());
                tokens.push(Token::Word(rest[..end].to_owned()));
                end
            }
        };
        rest = rest[length..].trim_start();
    }
    tokens
}

fn requirement(tokens: &[Token]) -> Result<(Requirement, &[Token]), String> {
    let (key, is_negated, rest) = match tokens {
        [Token::Symbol("!"), Token::Word(key), rest @ ..] => (key, true, rest),
        [Token::Word(key), rest @ ..] => (key, false, rest),
        _ => return Err(format!("found {:?}, expected: a key", tokens.first())),
    };
    let (test, rest) = match rest {
        _ if is_negated => (Test::Absent, rest),
        [Token::Symbol("=" | "=="), rest @ ..] => {
            let (value, rest) = word_or_nothing(rest);
            (Test::In([value].into()), rest)
        }
        [Token::Symbol("!="), rest @ ..] => {
            let (value, rest) = word_or_nothing(rest);
            (Test::NotIn([value].into()), rest)
        }
        [Token::Symbol(">"), Token::Word(bound), rest @ ..] => (Test::Above(number(bound)?), rest),
        [Token::Symbol("<"), Token::Word(bound), rest @ ..] => (Test::Below(number(bound)?), rest),
        [Token::Word(word), rest @ ..] if word == "in" => {
            let (values, rest) = values(rest)?;
            (Test::In(values), rest)
        }
        [Token::Word(word), rest @ ..] if word == "notin" => {
            let (values, rest) = values(rest)?;
            (Test::NotIn(values), rest)
        }
        [] | [Token::Symbol(","), ..] => (Test::Exists, rest),
        [token, ..] => return Err(format!("found {token:?}, expected: an operator")),
    };
    Ok((Requirement { key: key.clone(), test }, rest))
}

fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("`{text}` is compared with, but is no integer"))
}

fn word_or_nothing(tokens: &[Token]) -> (String, &[Token]) {
    match tokens {
        [Token::Word(word), rest @ ..] => (word.clone(), rest),
        _ => (String::new(), tokens),
    }
}

fn values(tokens: &[Token]) -> Result<(BTreeSet<String>, &[Token]), String> {
    let [Token::Symbol("("), rest @ ..] = tokens else { return Err("expected: '('".into()) };
    let mut rest = rest;
    let mut values = BTreeSet::new();
    loop {
        let (value, after) = word_or_nothing(rest);
        values.insert(value);
        match after {
            [Token::Symbol(","), more @ ..] => rest = more,
            [Token::Symbol(")"), more @ ..] => return Ok((values, more)),
            _ => return Err("expected: ',' or ')'".into()),
        }
    }
}

/// `a=b`, `a==b`, `a!=b`, joined by commas; a backslash takes away the meaning of `,`, `=` and itself.
fn parse_fields(text: &str) -> Result<Vec<FieldRequirement>, String> {
    let mut requirements = Vec::new();
    for term in split_unescaped(text).into_iter().filter(|term| !term.is_empty()) {
        let Some(at) = term.find('=') else { return Err(format!("`{term}` has no operator")) };
        let (path, value) = (&term[..at], &term[at + 1..]);
        let (path, is_equal) = match path.strip_suffix('!') {
            Some(path) => (path, false),
            None => (path, true),
        };
        let value = if is_equal { value.strip_prefix('=').unwrap_or(value) } else { value };
        requirements.push(FieldRequirement { path: path.to_owned(), value: unescaped(value), is_equal });
    }
    Ok(requirements)
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut is_escaped) = (Vec::new(), 0, false);
    for (at, letter) in text.char_indices() {
        if letter == ',' && !is_escaped {
            terms.push(&text[start..at]);
            start = at + 1;
        }
        is_escaped = letter == '\\' && !is_escaped;
    }
    terms.push(&text[start..]);
    terms
}

fn unescaped(text: &str) -> String {
    let mut letters = text.chars();
    let mut plain = String::with_capacity(text.len());
    while let Some(letter) = letters.next() {
        plain.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    plain
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pods() -> Kind {
        Kind::built_in().into_iter().find(|kind| kind.plural == "pods").unwrap()
    }

    fn labels_match(selector: &str, labels: &Value) -> bool {
        let object = json!({"metadata": {"labels": labels}});
        Selector::parse(&pods(), selector, "").unwrap().matches(&object)
    }

    #[test]
    fn the_grammar_of_labels() {
        let labels = json!({"a": "1", "b.io/c": "x", "e": ""});
        for fits in [
            "",
            "a",
            "a=1",
            "a==1",
            "a in (1, 2)",
            "a notin (2)",
            "!z",
            "z!=1",
            "z notin (1)",
            "a>0",
            "a<2",
            "e=",
            "e in ()",
            "a=1,b.io/c in (x,y) , !z",
        ] {
            assert!(labels_match(fits, &labels), "{fits}");
        }
        for not in ["z", "!a", "a=2", "a!=1", "a in (2)", "a notin (1,2)", "a>1", "a<1", "z>0", "a=1,z", "a="] {
            assert!(!labels_match(not, &labels), "{not}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in ["a b", "a in 1", "a in (1", "=1", "a=1,", "a>x", "!", "a=1 b=2"] {
            assert_eq!(Selector::parse(&pods(), text, "").unwrap_err().code, 400, "{text}");
        }
        assert_eq!(Selector::parse(&pods(), "", "metadata.name").unwrap_err().code, 400);
        let unknown = Selector::parse(&pods(), "", "spec.priority=1").unwrap_err();
        assert_eq!((unknown.code, unknown.message.as_str()), (400, "field label not supported: spec.priority"));
    }

    #[test]
    fn fields() {
        let pod = json!({"metadata": {"name": "a,b"}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}});
        let fits = |text: &str| Selector::parse(&pods(), "", text).unwrap().matches(&pod);
        assert!(fits("spec.nodeName=n,status.phase!=Pending"));
        assert!(fits("metadata.name==a\\,b"));
        assert!(fits("spec.hostNetwork=false"));
        assert!(fits("status.podIP="));
        assert!(!fits("spec.nodeName!=n"));
        assert!(!fits("metadata.name=a"));
    }
}

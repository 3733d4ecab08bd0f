//! What goes wrong between a client and the server, and when.

use std::time::Duration;

use crate::refusal::Refusal;
use crate::request::{Asked, Verb};

/// What becomes of one request.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// So long the request is on its way.
    pub request_latency: Duration,
    /// Whether it is served.
    pub outcome: Outcome,
    /// So long the answer is on its way.
    pub answer_latency: Duration,
    /// If the request opens a watch: its events arrive so long after they happened. So a cache becomes stale.
    pub watch_lag: Duration,
}

/// Whether a request is served.
#[derive(Clone, Debug, Default)]
pub enum Outcome {
    /// It is.
    #[default]
    Serve,
    /// The server says no, and does nothing.
    Refuse(Refusal),
    /// No answer ever comes, and nothing is done.
    Hang,
    /// The connection breaks before the server has the request.
    Lose,
    /// The server does what is asked; then the connection breaks, and the client can't know.
    LoseAnswer,
}

/// Decides what goes wrong. Any `FnMut(&Asked) -> Verdict` does, for example over a seeded generator.
pub trait Faults: Send {
    /// What becomes of this request.
    fn judge(&mut self, asked: &Asked) -> Verdict;
}

impl<F: FnMut(&Asked) -> Verdict + Send> Faults for F {
    fn judge(&mut self, asked: &Asked) -> Verdict {
        self(asked)
    }
}

/// A fault by script: which requests, from which on, how often, and what.
///
/// ```
/// use mobula_apiserver::{Refusal, Rule, Verb};
/// // The third and fourth pod that is created meet a server error.
/// let rule = Rule::on(Verb::Create, "pods").after(2).times(2).refuse(Refusal::of_code(500, "etcdserver: leader changed"));
/// ```
#[derive(Clone, Debug)]
pub struct Rule {
    verb: Option<Verb>,
    resource: String,
    namespace: Option<String>,
    name: Option<String>,
    skip: usize,
    times: usize,
    verdict: Verdict,
}

impl Rule {
    /// Requests of this verb for this resource (`pods`, `pods/status`), once.
    pub fn on(verb: Verb, resource: &str) -> Rule {
        Rule { verb: Some(verb), ..Rule::on_any(resource) }
    }

    /// Requests of any verb for this resource; for all if it is empty.
    pub fn on_any(resource: &str) -> Rule {
        Rule {
            verb: None,
            resource: resource.to_owned(),
            namespace: None,
            name: None,
            skip: 0,
            times: 1,
            verdict: Verdict::default(),
        }
    }

    /// Only in this namespace.
    pub fn in_namespace(mut self, namespace: &str) -> Rule {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Only of this name.
    pub fn named(mut self, name: &str) -> Rule {
        self.name = Some(name.to_owned());
        self
    }

    /// So many pass first.
    pub fn after(mut self, skip: usize) -> Rule {
        self.skip = skip;
        self
    }

    /// So often.
    pub fn times(mut self, times: usize) -> Rule {
        self.times = times;
        self
    }

    /// From then on, until [`recover`](crate::Connection::recover).
    pub fn always(self) -> Rule {
        self.times(usize::MAX)
    }

    /// The server says no.
    pub fn refuse(mut self, refusal: Refusal) -> Rule {
        self.verdict.outcome = Outcome::Refuse(refusal);
        self
    }

    /// No answer ever.
    pub fn hang(mut self) -> Rule {
        self.verdict.outcome = Outcome::Hang;
        self
    }

    /// The connection breaks before the server has the request.
    pub fn lose(mut self) -> Rule {
        self.verdict.outcome = Outcome::Lose;
        self
    }

    /// The connection breaks after the server has done what is asked.
    pub fn lose_answer(mut self) -> Rule {
        self.verdict.outcome = Outcome::LoseAnswer;
        self
    }

    /// The request is on its way so long.
    pub fn delay(mut self, latency: Duration) -> Rule {
        self.verdict.request_latency = latency;
        self
    }

    /// The answer is on its way so long.
    pub fn delay_answer(mut self, latency: Duration) -> Rule {
        self.verdict.answer_latency = latency;
        self
    }

    /// A watch that is opened lags behind so long.
    pub fn lag(mut self, lag: Duration) -> Rule {
        self.verdict.watch_lag = lag;
        self
    }

    fn fits(&self, asked: &Asked) -> bool {
        self.verb.is_none_or(|verb| verb == asked.verb)
            && (self.resource.is_empty() || self.resource == asked.resource_path())
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == asked.namespace)
            && self.name.as_ref().is_none_or(|name| *name == asked.name)
    }
}

/// Rules in the order in which they were given; the first that fits and is not used up decides.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) rules: Vec<Rule>,
}

impl Script {
    pub(crate) fn judge(&mut self, asked: &Asked) -> Option<Verdict> {
        for rule in self.rules.iter_mut().filter(|rule| rule.times > 0 && rule.fits(asked)) {
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            if rule.times < usize::MAX {
                rule.times -= 1;
            }
            return Some(rule.verdict.clone());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(verb: Verb, resource: &str, name: &str) -> Asked {
        Asked {
            verb,
            group: String::new(),
            version: "v1".into(),
            resource: resource.into(),
            subresource: String::new(),
            namespace: "n".into(),
            name: name.into(),
        }
    }

    #[test]
    fn a_rule_skips_then_acts_then_is_used_up() {
        let mut script = Script { rules: vec![Rule::on(Verb::Get, "pods").named("a").after(1).times(2).lose()] };
        let mut judge = |verb, name| script.judge(&asked(verb, "pods", name)).is_some();
        assert!(!judge(Verb::Get, "b"));
        assert!(!judge(Verb::List, "a"));
        assert_eq!([(); 4].map(|()| judge(Verb::Get, "a")), [false, true, true, false]);
    }
}

//! The Kubernetes nodes of a snapshot, shared with the snapshot before where nothing has changed.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Host;

/// A list of Kubernetes nodes. A copy of it is the same list; one that is changed is copied first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hosts(Arc<Vec<Host>>);

impl PartialEq for Hosts {
    fn eq(&self, other: &Hosts) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Deref for Hosts {
    type Target = Vec<Host>;

    fn deref(&self) -> &Vec<Host> {
        &self.0
    }
}

impl DerefMut for Hosts {
    fn deref_mut(&mut self) -> &mut Vec<Host> {
        Arc::make_mut(&mut self.0)
    }
}

impl From<Vec<Host>> for Hosts {
    fn from(hosts: Vec<Host>) -> Hosts {
        Hosts(Arc::new(hosts))
    }
}

impl FromIterator<Host> for Hosts {
    fn from_iter<I: IntoIterator<Item = Host>>(hosts: I) -> Hosts {
        Hosts(Arc::new(hosts.into_iter().collect()))
    }
}

impl<'a> IntoIterator for &'a Hosts {
    type Item = &'a Host;
    type IntoIter = std::slice::Iter<'a, Host>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_is_changed_leaves_the_other_one_alone() {
        let host = |name: &str| Host { name: name.to_owned(), ..Host::default() };
        let hosts = Hosts::from(vec![host("a"), host("b")]);
        let mut copy = hosts.clone();
        assert!(copy == hosts && Arc::ptr_eq(&copy.0, &hosts.0));
        copy[0].name.push('x');
        assert!(copy != hosts && hosts[0].name == "a" && copy[1..] == hosts[1..]);
        assert_eq!(Hosts::from(hosts.to_vec()), hosts, "equal, in another place");
    }
}

//! The Kubernetes nodes of a snapshot, shared with the snapshot before where nothing has changed.

use std::hash::{BuildHasher, BuildHasherDefault};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Host;
use crate::quick_hash::{Index, QuickHasher};

/// A list of Kubernetes nodes. A copy of it is the same list; one that is changed is copied first.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Arc<Listed>);

#[derive(Debug, Default)]
struct Listed {
    hosts: Vec<Host>,
    /// What is known of their names, as long as no host has changed.
    names: OnceLock<Names>,
}

impl Clone for Listed {
    fn clone(&self) -> Listed {
        Listed { hosts: self.hosts.clone(), names: OnceLock::new() }
    }
}

#[derive(Debug)]
struct Names {
    are_in_order: bool,
    /// Place of the first of each name, by the name's hash; `None`: two names have the same.
    places: Option<Index<u64, u32>>,
}

impl Names {
    fn of(hosts: &[Host]) -> Names {
        let mut places = Index::with_capacity_and_hasher(hosts.len(), BuildHasherDefault::default());
        let mut is_clear = true;
        for (host, at) in hosts.iter().zip(0_u32..) {
            let first = *places.entry(hash(&host.name)).or_insert(at);
            is_clear &= hosts.get(first as usize).is_some_and(|first| first.name == host.name);
        }
        Names { are_in_order: hosts.is_sorted_by(|a, b| a.name <= b.name), places: is_clear.then_some(places) }
    }
}

fn hash(name: &str) -> u64 {
    BuildHasherDefault::<QuickHasher>::default().hash_one(name)
}

impl Hosts {
    /// Whether they come by name.
    pub(crate) fn are_in_order(&self) -> bool {
        self.names().are_in_order
    }

    /// Where the first of this name is.
    pub(crate) fn place_of(&self, name: &str) -> Option<usize> {
        let Some(places) = &self.names().places else { return self.iter().position(|host| host.name == name) };
        let place = *places.get(&hash(name))? as usize;
        self.get(place).filter(|host| host.name == name).map(|_| place)
    }

    fn names(&self) -> &Names {
        self.0.names.get_or_init(|| Names::of(&self.0.hosts))
    }
}

impl Serialize for Hosts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.hosts.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Hosts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hosts, D::Error> {
        Vec::deserialize(deserializer).map(Hosts::from)
    }
}

impl PartialEq for Hosts {
    fn eq(&self, other: &Hosts) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.hosts == other.0.hosts
    }
}

impl Deref for Hosts {
    type Target = Vec<Host>;

    fn deref(&self) -> &Vec<Host> {
        &self.0.hosts
    }
}

impl DerefMut for Hosts {
    fn deref_mut(&mut self) -> &mut Vec<Host> {
        let listed = Arc::make_mut(&mut self.0);
        listed.names = OnceLock::new();
        &mut listed.hosts
    }
}

impl From<Vec<Host>> for Hosts {
    fn from(hosts: Vec<Host>) -> Hosts {
        Hosts(Arc::new(Listed { hosts, names: OnceLock::new() }))
    }
}

impl FromIterator<Host> for Hosts {
    fn from_iter<I: IntoIterator<Item = Host>>(hosts: I) -> Hosts {
        Hosts::from(hosts.into_iter().collect::<Vec<_>>())
    }
}

impl<'a> IntoIterator for &'a Hosts {
    type Item = &'a Host;
    type IntoIter = std::slice::Iter<'a, Host>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.hosts.iter()
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

    #[test]
    fn a_host_is_found_by_name_also_after_a_change() {
        let host = |name: &str| Host { name: name.to_owned(), ..Host::default() };
        let mut hosts = Hosts::from(vec![host("a"), host("b"), host("b"), host("c")]);
        assert!(hosts.are_in_order());
        let places = |hosts: &Hosts| ["a", "b", "c", "d", ""].map(|name| hosts.place_of(name));
        assert_eq!(places(&hosts), [Some(0), Some(1), Some(3), None, None]);
        let before = hosts.clone();
        hosts[0].name = "d".to_owned();
        assert_eq!(places(&hosts), [None, Some(1), Some(3), Some(0), None]);
        assert!(!hosts.are_in_order());
        assert_eq!(places(&before), [Some(0), Some(1), Some(3), None, None]);
        assert!(Hosts::default().are_in_order());
    }

    #[test]
    fn names_of_one_hash_are_told_apart_by_looking() {
        let host = |name: &str| Host { name: name.to_owned(), ..Host::default() };
        // The hash fills up with zeros.
        let names = ["a", "a\0", "b"];
        assert_eq!(hash(names[0]), hash(names[1]));
        let hosts: Hosts = names.into_iter().map(host).collect();
        assert!(hosts.names().places.is_none());
        assert_eq!(names.map(|name| hosts.place_of(name)), [Some(0), Some(1), Some(2)]);
        assert_eq!(Hosts::from(vec![host("a")]).place_of("a\0"), None);
    }
}

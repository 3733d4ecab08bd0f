//! Versions of Ray.

use std::fmt;

use crate::RayCluster;

/// A version of Ray, as far as behaviour depends on it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RayVersion {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number, 0 if there is none.
    pub patch: u32,
}

impl RayVersion {
    /// The oldest Ray that Mobula scales.
    pub const OLDEST_SUPPORTED: RayVersion = RayVersion::new(2, 47, 0);

    /// A version from its numbers.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        RayVersion { major, minor, patch }
    }

    /// Reads a version as leniently as KubeRay: an optional `v`, two or more numbers with dots between, then anything
    /// (`2.53.0rc1`, `v2.9`, `3.0.0.dev0`). `None` for what has no such start (`nightly`).
    pub fn parse(text: &str) -> Option<RayVersion> {
        let text = text.trim();
        let mut rest = text.strip_prefix('v').unwrap_or(text);
        let mut numbers = [0_u32; 3];
        let mut count = 0;
        for number in &mut numbers {
            let end = rest.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
            let (digits, after) = rest.split_at(end);
            let Ok(parsed) = digits.parse() else { break };
            *number = parsed;
            count += 1;
            match after.strip_prefix('.') {
                Some(next) => rest = next,
                None => break,
            }
        }
        let [major, minor, patch] = numbers;
        (count >= 2).then_some(RayVersion { major, minor, patch })
    }

    /// Whether Mobula scales clusters of this version.
    pub fn is_supported(self) -> bool {
        self >= Self::OLDEST_SUPPORTED
    }
}

impl fmt::Display for RayVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl RayCluster {
    /// The version that `spec.rayVersion` claims; `None` if it says nothing that can be read as one. The running head knows
    /// better: images and `rayVersion` may disagree.
    pub fn ray_version(&self) -> Option<RayVersion> {
        self.spec.ray_version.as_deref().and_then(RayVersion::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::RayVersion;

    #[test]
    fn reads_what_kuberay_reads() {
        let read = [
            ("2.60.0", Some((2, 60, 0))),
            ("v2.9", Some((2, 9, 0))),
            ("2.53.0rc1", Some((2, 53, 0))),
            ("3.0.0.dev0", Some((3, 0, 0))),
            ("2.52", Some((2, 52, 0))),
            ("2.x", None),
            ("nightly", None),
            ("2", None),
            ("", None),
            (".5", None),
            ("99999999999.1", None),
        ];
        for (text, expected) in read {
            let expected = expected.map(|(major, minor, patch)| RayVersion::new(major, minor, patch));
            assert_eq!(RayVersion::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn older_than_2_47_is_not_supported() {
        assert!(!RayVersion::new(2, 46, 9).is_supported());
        assert!(RayVersion::new(2, 47, 0).is_supported());
        assert!(RayVersion::new(3, 0, 0).is_supported());
    }
}

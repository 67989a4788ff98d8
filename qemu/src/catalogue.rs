//! The scenarios that come with this program.

use crate::error::{Error, Result};
use crate::scenario::Scenario;

macro_rules! scenarios {
    ($($kind:literal / $name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../scenarios/", $kind, "/", $name, ".toml")))),*]
    };
}

/// Name and text of each.
const SCENARIOS: &[(&str, &str)] = scenarios![
    "debian" / "refused-releases",
    "debian" / "upgrade",
    "debian" / "service-dies",
    "debian" / "kernel-panics",
    "debian" / "orderly-reboot",
    "debian" / "condemned",
    "debian" / "three-endings",
    "debian" / "network-down",
    "debian" / "deadline-passes",
    "debian" / "brings",
    "debian" / "services",
    "debian" / "over-the-bus",
    "light" / "changes-travel",
    "light" / "refused",
    "light" / "cut-receive",
    "light" / "cut-stage",
    "light" / "cut-activation",
    "light" / "cut-bless",
    "light" / "tampered",
    "light" / "overlay-unusable",
    "light" / "record-damaged",
    "light" / "store-missing",
    "light" / "store-full",
    "light" / "store-read-only",
    "light" / "media-errors",
    "light" / "both-altered",
    "light" / "both-unhealthy",
];

/// Their names, in a sensible order.
pub fn names() -> impl Iterator<Item = &'static str> {
    SCENARIOS.iter().map(|(name, _)| *name)
}

/// The scenario `name`.
pub fn find(name: &str) -> Result<Scenario> {
    let (name, text) = SCENARIOS
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| {
            Error::Scenario(format!(
                "no scenario '{name}'; `op-dbus-vm list` names them; a file of your own needs its path with a slash"
            ))
        })?;
    Scenario::parse(name, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_can_be_read() {
        for name in names() {
            let scenario = find(name).unwrap();
            assert!(!scenario.steps.is_empty(), "{name}");
        }
        assert!(find("nonesuch").is_err());
    }
}

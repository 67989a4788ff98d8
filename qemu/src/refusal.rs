//! How a device stands, taken before and after a release that it must refuse.

use std::time::Duration;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::guest::Guest;

/// What of the store a receive could leave something in.
const PLACES: &[&str] = &[
    "/run/op-dbus/store/deploy",
    "/run/op-dbus/store/incoming",
    "/run/op-dbus/store/manifests",
    "/run/op-dbus/store/overlays",
];

/// A device at a moment.
#[derive(Debug)]
pub struct Standing {
    store: String,
    status: Value,
    log_lines: u64,
}

impl Standing {
    /// Asks the guest.
    pub fn of(guest: &mut Guest, within: Duration) -> Result<Self> {
        let store = guest.list(PLACES, within)?;
        let status = guest.check(&["op-dbus-stage", "status", "--json"], within)?;
        Self::parse(store, &status)
    }

    fn parse(store: String, status: &str) -> Result<Self> {
        let mut status: Value = serde_json::from_str(status)
            .map_err(|error| Error::Expectation(format!("status is no JSON ({error})")))?;
        let log_lines = status.pointer("/audit/lines").and_then(Value::as_u64);
        if let Some(fields) = status.as_object_mut() {
            // The log gains a line, and the record holds the log's length.
            fields.remove("audit");
            fields.remove("record");
            // So do the attempts that the record kept for it: this boot's gets a time.
            let boots = fields.get_mut("boots").and_then(Value::as_array_mut);
            for boot in boots.into_iter().flatten().filter_map(Value::as_object_mut) {
                boot.remove("logged");
                boot.remove("time");
            }
        }
        Ok(Self {
            store,
            status,
            log_lines: log_lines
                .ok_or_else(|| Error::Expectation("status counts no log lines".into()))?,
        })
    }

    /// An error unless `after` differs in the audit log alone, and there.
    pub fn kept(&self, after: &Self) -> Result<()> {
        let changed = |what: &str, before: &dyn ToString, after: &dyn ToString| {
            Err(Error::Expectation(format!(
                "the refused release changed {what}; before: {}; after: {}",
                before.to_string(),
                after.to_string()
            )))
        };
        if self.store != after.store {
            return changed("the store", &self.store, &after.store);
        }
        if self.status != after.status {
            return changed("the status", &self.status, &after.status);
        }
        if after.log_lines <= self.log_lines {
            return Err(Error::Expectation(
                "the refusal is not in the audit log".into(),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(store: &str, good: &str, lines: u64) -> Standing {
        let status =
            format!(r#"{{"good":"{good}","audit":{{"lines":{lines}}},"record":{{"sequence":1}}}}"#);
        Standing::parse(store.to_owned(), &status).unwrap()
    }

    #[test]
    fn a_boot_may_come_into_the_log_and_may_not_change() {
        let standing = |lines: u64, logged: &str, verdict: &str| {
            let status = format!(
                r#"{{"audit":{{"lines":{lines}}},"boots":[{{"logged":{logged},"time":{logged},"verdict":{verdict}}}]}}"#
            );
            Standing::parse(String::new(), &status).unwrap()
        };
        let before = standing(4, "null", "null");
        assert!(before.kept(&standing(6, r#""now""#, "null")).is_ok());
        assert!(
            before
                .kept(&standing(6, r#""now""#, r#""condemned""#))
                .is_err()
        );
    }

    #[test]
    fn only_the_log_may_grow_and_must() {
        let before = standing("deploy/v1\n", "v1", 4);
        assert!(before.kept(&standing("deploy/v1\n", "v1", 5)).is_ok());
        for other in [
            standing("deploy/v1\nincoming/x\n", "v1", 5),
            standing("deploy/v1\n", "v2", 5),
            standing("deploy/v1\n", "v1", 4),
        ] {
            assert!(before.kept(&other).is_err(), "{other:?}");
        }
    }
}

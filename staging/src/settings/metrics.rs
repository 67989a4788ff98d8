//! `[metrics]` of the configuration.

use std::path::PathBuf;

use op_dbus_activator::config::one_line;
use serde::Deserialize;

use super::{is_plain_absolute, section};
use crate::context::Context;
use crate::error::Result;

/// `[metrics]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Metrics {
    /// The file that is written for Prometheus' node exporter; none: none is.
    pub(crate) textfile: Option<PathBuf>,
}

/// The file, as far as it matters here.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    metrics: Metrics,
}

impl Metrics {
    /// Reads the section; without a file, its defaults.
    pub(crate) fn load(context: &Context) -> Result<Self> {
        section(context, Self::parse)
    }

    /// Parses the section out of a configuration. The error is one line.
    pub(crate) fn parse(text: &str) -> std::result::Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|why| one_line(text, &why))?;
        file.metrics.check()?;
        Ok(file.metrics)
    }

    fn check(&self) -> std::result::Result<(), String> {
        let Some(path) = &self.textfile else {
            return Ok(());
        };
        let wrong = |why| Err(format!("metrics.textfile = \"{}\": {why}", path.display()));
        if !is_plain_absolute(path) {
            return wrong("must be an absolute path in its shortest form");
        }
        // The collector's own rule; a name without a stem is one it passes over, too.
        if path.extension().is_none_or(|extension| extension != "prom") {
            return wrong("must end in .prom: node_exporter reads no other");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_may_be_left_out() {
        for text in ["", "[metrics]\n", "[store]\ndevice = 5\n"] {
            assert_eq!(Metrics::parse(text).unwrap(), Metrics::default(), "{text}");
        }
        let text = "[metrics]\ntextfile = \"/var/lib/prometheus/node-exporter/op-dbus.prom\"\n";
        assert!(Metrics::parse(text).unwrap().textfile.is_some());
    }

    #[test]
    fn mistakes_name_their_place() {
        for (line, words) in [
            ("file = \"/x.prom\"", "line 2: unknown field"),
            ("textfile = 5", "line 2: "),
            (
                "textfile = \"x.prom\"",
                "metrics.textfile = \"x.prom\": must be an absolute",
            ),
            ("textfile = \"/a/../x.prom\"", "must be an absolute"),
            ("textfile = \"/a/x.txt\"", "must end in .prom"),
            ("textfile = \"/a/.prom\"", "must end in .prom"),
        ] {
            let why = Metrics::parse(&format!("[metrics]\n{line}\n")).unwrap_err();
            assert!(why.contains(words) && !why.contains('\n'), "{line}: {why}");
        }
    }
}

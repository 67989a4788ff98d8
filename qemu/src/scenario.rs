//! Scenarios: what is done to a machine and what must be true then, as data.
//!
//! A scenario is a TOML file of steps. A step that needs a running guest boots
//! it; so `[[step]] reboot = true` ends a boot and the next step starts one.
//! `${name}` in any string stands for a value of `[with]` or of the case, and
//! `${case}` for the case's name.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::expect::Expect;
use crate::guest::Ending;

/// One scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// One sentence.
    pub summary: String,
    /// On which kind of guest it is played.
    pub guest: Kind,
    /// Values for `${name}`.
    #[serde(default)]
    pub with: BTreeMap<String, String>,
    /// Variants: each is played by itself, with values of its own.
    #[serde(default, rename = "case")]
    pub cases: BTreeMap<String, BTreeMap<String, String>>,
    /// What is done.
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
}

/// A kind of guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A whole Debian.
    Debian,
    /// Kernel, our init and the programs.
    Light,
}

/// One step; exactly one of the actions, by its key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// Says something in the timeline.
    Note(String),
    /// Receives and stages a release from the release disk.
    Stage(String),
    /// Receives a release that must be refused without a trace but a log line.
    Refused(Refused),
    /// Runs a program in the guest.
    Run(Run),
    /// A user writes a file, and waits until it is on the medium.
    Keep(Keep),
    /// Runs a program and cuts the power at a moment.
    Cut(Cut),
    /// Boots with something changed.
    Boot(Boot),
    /// Restarts or switches off in good order, crashes, is bitten by its watchdog or
    /// loses its power: the host's doing.
    Leave(Ending),
    /// Waits until the guest ends by itself, and how.
    Ends(Ending),
    /// Waits until the boot is finished (Debian: every job done).
    Settled(bool),
    /// Boots so often, and crashes the kernel as soon as the guest answers.
    Crash(u32),
    /// What must be true now.
    Expect(Expect),
    /// Damages the store while the machine is off.
    Damage(Damage),
}

/// [`Step::Run`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Its exit code.
    #[serde(default)]
    pub code: i32,
    /// What its output (both streams) must contain.
    #[serde(default)]
    pub says: Option<String>,
}

/// [`Step::Keep`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Absolute path in the guest.
    pub path: String,
    /// All that the file holds from then on.
    pub text: String,
}

/// [`Step::Refused`]: afterwards the store holds what it held, status tells
/// what it told, and the audit log has grown.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Manifest or stream, from the top of the release disk.
    pub release: String,
    /// Exit code of `op-dbus-stage receive`: a text, because cases differ in it.
    pub code: String,
    /// What it must say.
    pub says: String,
}

impl Refused {
    /// The receive it means, of the file `path`.
    pub fn run(&self, path: &str) -> Result<Run> {
        let code = self
            .code
            .parse()
            .map_err(|_| Error::Scenario(format!("\"{}\" is no exit code", self.code)))?;
        Ok(Run {
            argv: ["op-dbus-stage", "receive", path].map(str::to_owned).into(),
            code,
            says: Some(self.says.clone()),
        })
    }
}

/// [`Step::Cut`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// Program and arguments; left out: early activation of the next boot.
    #[serde(default)]
    pub argv: Vec<String>,
    /// The moment, see `op-dbus-vm-guest`.
    pub at: String,
}

/// [`Step::Boot`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// Added to the kernel command line.
    #[serde(default)]
    pub options: String,
    /// What the store's device is like.
    #[serde(default)]
    pub store: Store,
    /// Which of its requests fail.
    #[serde(default)]
    pub fail: Option<Fail>,
    /// Whether it is on a network (Debian only).
    #[serde(default)]
    pub network: bool,
    /// Whether it has a watchdog (Debian only). Such a machine goes on by itself:
    /// a next boot that is asked for with the same words is that one.
    #[serde(default)]
    pub watchdog: bool,
    /// Whether it keeps what the kernel said before a crash (Debian only).
    #[serde(default)]
    pub pstore: bool,
}

/// Requests to the store's disk that fail in one boot (light guest only).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fail {
    /// `read`, `write` or `flush`: a text, because cases differ in it.
    pub io: String,
    /// Only where the first block of one of these files is; paths in the store.
    #[serde(default)]
    pub files: Vec<String>,
    /// Only where the root of one of these subvolumes is; paths in the store.
    #[serde(default)]
    pub roots: Vec<String>,
    /// `EIO` or `ENOSPC`.
    #[serde(default)]
    pub error: String,
    /// `first` for only the first such request.
    #[serde(default)]
    pub which: String,
    /// Early activation's moment from which they fail; left out or empty: from
    /// power-on.
    #[serde(default)]
    pub from: String,
}

/// What the store's device is like in one boot (light guest only).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Store {
    /// As it should be.
    #[default]
    Normal,
    /// Not there.
    Missing,
    /// Refuses writes.
    ReadOnly,
}

/// [`Step::Damage`]: changes to the store, paths relative to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Damage {
    /// Overwrites each file with zeros, its length unchanged.
    #[serde(default)]
    pub zero: Vec<String>,
    /// Deletes each subvolume.
    #[serde(default)]
    pub delete: Vec<String>,
    /// Makes each subvolume writable, changes a file in it and makes it
    /// read-only again.
    #[serde(default)]
    pub alter: Vec<String>,
    /// Replaces each directory by a file.
    #[serde(default)]
    pub replace: Vec<String>,
    /// Fills the file system to the last byte.
    #[serde(default)]
    pub fill: bool,
}

impl Scenario {
    /// Reads a scenario; `name` is for messages.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let scenario: Self = toml::from_str(text)
            .map_err(|error| Error::Scenario(format!("scenario {name}: {error}")))?;
        for case in scenario.case_names() {
            scenario.steps(case, &BTreeMap::new())?;
        }
        Ok(scenario)
    }

    /// Names of its cases; one `None` when it has none.
    pub fn case_names(&self) -> Vec<Option<&str>> {
        if self.cases.is_empty() {
            return vec![None];
        }
        self.cases.keys().map(|name| Some(name.as_str())).collect()
    }

    /// The steps of a case with every `${name}` replaced; `own` wins over the
    /// case, which wins over `[with]`.
    pub fn steps(&self, case: Option<&str>, own: &BTreeMap<String, String>) -> Result<Vec<Step>> {
        let mut values = self.with.clone();
        if let Some(case) = case {
            let found = self
                .cases
                .get(case)
                .ok_or_else(|| Error::Scenario(format!("no case '{case}'")))?;
            values.extend(found.clone());
            values.insert("case".to_owned(), case.to_owned());
        }
        values.extend(own.clone());
        self.steps.iter().map(|step| step.with(&values)).collect()
    }
}

impl Step {
    fn with(&self, values: &BTreeMap<String, String>) -> Result<Self> {
        let fill = |text: &str| substitute(text, values);
        let fill_all = |texts: &[String]| -> Result<Vec<String>> {
            texts.iter().map(|text| fill(text)).collect()
        };
        // Of damages, a case may leave out some: their value is empty then.
        let fill_some = |texts: &[String]| -> Result<Vec<String>> {
            let mut filled = fill_all(texts)?;
            filled.retain(|text| !text.is_empty());
            Ok(filled)
        };
        Ok(match self {
            Self::Note(text) => Self::Note(fill(text)?),
            Self::Stage(text) => Self::Stage(fill(text)?),
            Self::Run(run) => Self::Run(Run {
                argv: fill_all(&run.argv)?,
                code: run.code,
                says: run.says.as_deref().map(fill).transpose()?,
            }),
            Self::Refused(refused) => Self::Refused(Refused {
                release: fill(&refused.release)?,
                code: fill(&refused.code)?,
                says: fill(&refused.says)?,
            }),
            Self::Keep(keep) => Self::Keep(Keep {
                path: fill(&keep.path)?,
                text: fill(&keep.text)?,
            }),
            Self::Cut(cut) => Self::Cut(Cut {
                argv: fill_all(&cut.argv)?,
                at: fill(&cut.at)?,
            }),
            Self::Boot(boot) => Self::Boot(Boot {
                options: fill(&boot.options)?,
                store: boot.store,
                fail: match &boot.fail {
                    None => None,
                    Some(fail) => Some(Fail {
                        io: fill(&fail.io)?,
                        files: fill_some(&fail.files)?,
                        roots: fill_some(&fail.roots)?,
                        error: fill(&fail.error)?,
                        which: fill(&fail.which)?,
                        from: fill(&fail.from)?,
                    }),
                },
                ..boot.clone()
            }),
            Self::Expect(expect) => Self::Expect(expect.with(values)?),
            Self::Damage(damage) => Self::Damage(Damage {
                zero: fill_some(&damage.zero)?,
                delete: fill_some(&damage.delete)?,
                alter: fill_some(&damage.alter)?,
                replace: fill_some(&damage.replace)?,
                fill: damage.fill,
            }),
            Self::Leave(_) | Self::Ends(_) | Self::Settled(_) | Self::Crash(_) => self.clone(),
        })
    }
}

pub(crate) fn fill_values(
    wanted: &BTreeMap<String, Value>,
    values: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Value>> {
    wanted
        .iter()
        .map(|(pointer, value)| {
            let value = match value {
                // TOML has no null.
                Value::String(text) if text == "null" => Value::Null,
                Value::String(text) => {
                    let filled = substitute(text, values)?;
                    // A value is text; one that stands alone may mean something else.
                    match serde_json::from_str(&filled) {
                        Ok(meant @ (Value::Number(_) | Value::Bool(_) | Value::Null))
                            if filled != *text =>
                        {
                            meant
                        }
                        _ => Value::String(filled),
                    }
                }
                other => other.clone(),
            };
            Ok((pointer.clone(), value))
        })
        .collect()
}

pub(crate) fn substitute(text: &str, values: &BTreeMap<String, String>) -> Result<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        filled.push_str(before);
        let (name, after) = after
            .split_once('}')
            .ok_or_else(|| Error::Scenario(format!("\"{text}\": ${{ without }}")))?;
        let value = values
            .get(name)
            .ok_or_else(|| Error::Scenario(format!("\"{text}\": no value for {name}")))?;
        filled.push_str(value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
summary = "x"
guest = "light"
with = { new = "v1.1.0" }
[case.early]
at = "fsync:1:entry"
[case.late]
at = "fsync:1:exit"
new = "v1.2.0"
[[step]]
stage = "${new}"
[[step]]
note = "${case}"
[[step]]
cut = { argv = ["op-dbus-stage", "bless"], at = "${at}" }
[[step]]
leave = "power-off"
[[step]]
expect = { status = { "/good/version" = "${new}", "/trial" = "null" } }
"#;

    #[test]
    fn values_of_the_case_win_and_own_ones_over_both() {
        let scenario = Scenario::parse("t", TEXT).unwrap();
        assert_eq!(scenario.case_names(), [Some("early"), Some("late")]);
        let steps = scenario.steps(Some("late"), &BTreeMap::new()).unwrap();
        assert_eq!(steps[0], Step::Stage("v1.2.0".into()));
        assert_eq!(steps[1], Step::Note("late".into()));
        assert_eq!(steps[3], Step::Leave(Ending::PowerOff));
        let Step::Expect(expect) = &steps[4] else {
            panic!()
        };
        assert_eq!(expect.status["/trial"], Value::Null);
        let own = BTreeMap::from([("new".to_owned(), "v9.0.0".to_owned())]);
        let steps = scenario.steps(Some("early"), &own).unwrap();
        assert_eq!(steps[0], Step::Stage("v9.0.0".into()));
    }

    #[test]
    fn mistakes_are_found_on_reading() {
        assert!(Scenario::parse("t", &TEXT.replace("${at}", "${when}")).is_err());
        assert!(Scenario::parse("t", &TEXT.replace("leave =", "depart =")).is_err());
        assert!(Scenario::parse("t", &TEXT.replace("${at}", "${at")).is_err());
    }
}

//! The demo's releases: real trees of the demo service, sent and signed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::bad;
use super::build_system::BuildSystem;
use super::signer::Signer;
use super::unwell::UNWELL;
use crate::cache::Key;
use crate::error::{Context, Result};
use crate::programs::Programs;
use crate::sandbox::Mounted;
use crate::tool::Tool;

/// Raise it when the recipe below changes in a way its inputs don't show.
const RECIPE: &str = "4";

/// What an early release brings and later ones do not: gone with it.
const OLD_UNIT: &str = "\
[Unit]
Description=A unit that only the first release of the demo brings

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/test -f /run/op-dbus-demo/version
";

/// New in the second release. Starts only after tmpfiles lines were carried out.
const NEW_UNIT: &str = "\
[Unit]
Description=A unit that is new in a later release of the demo

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/grep -qxF @VERSION@ /run/op-dbus-demo/version
";

const DROP_IN: &str = "\
[Service]
Environment=OP_DBUS_DEMO_DROP_IN=@VERSION@
";

const TMPFILES: &str = "\
d /run/op-dbus-demo 0755 - - -
f /run/op-dbus-demo/version 0644 - - - @VERSION@
";

/// Would outlive the version, so the host refuses it.
const TMPFILES_REFUSED: &str = "d /var/lib/op-dbus-demo 0755 - - -\n";

const SYSUSERS: &str = "u op-dbus-demo - \"Demo service of op-dbus\"\n";

const ACTIVATION: &str = "\
[D-BUS Service]
Name=org.opdbus.Demo
Exec=/bin/false
User=root
SystemdService=op-dbus-demo.service
";

/// One release of the demo.
#[derive(Debug, Clone, Copy)]
pub struct Demo {
    /// Version, and name of the subvolume.
    pub version: &'static str,
    /// What the service does: arguments of `op-dbus-demo` after the version.
    pub behaviour: &'static str,
    /// The version it has an incremental stream from, beside the full one.
    pub parent: Option<&'static str>,
    /// More of its service's section in its unit.
    pub service: &'static str,
    /// What it brings beyond what all of them do: paths in its tree, and the texts.
    pub brings: &'static [(&'static str, &'static str)],
    /// What is to be said of it in a list.
    pub note: &'static str,
}

/// A release like most: it serves.
pub(super) const PLAIN: Demo = Demo {
    version: "",
    behaviour: "serve",
    parent: None,
    service: "",
    brings: &[],
    note: "good",
};

/// All of them, in the order in which they are made.
pub fn demos() -> impl Iterator<Item = &'static Demo> {
    DEMOS.iter().chain(UNWELL)
}

/// The demo's history.
const DEMOS: &[Demo] = &[
    Demo {
        version: "v1.0.0",
        note: "good, the one a prepared disk starts with",
        ..PLAIN
    },
    Demo {
        version: "v1.1.0",
        parent: Some("v1.0.0"),
        ..PLAIN
    },
    Demo {
        version: "v1.2.0",
        behaviour: "die-after 3",
        note: "its service dies after 3 s",
        ..PLAIN
    },
    Demo {
        version: "v1.3.0",
        behaviour: "panic-after 2",
        note: "panics the kernel 2 s after its start",
        ..PLAIN
    },
    Demo {
        version: "v1.4.0",
        parent: Some("v1.1.0"),
        ..PLAIN
    },
];

const UNIT: &str = "\
[Unit]
Description=Demo service of op-dbus

[Service]
Type=dbus
BusName=org.opdbus.Demo
ExecStart=/usr/local/op-dbus/bin/op-dbus-demo --version-name @VERSION@ @BEHAVIOUR@
@SERVICE@";

const POLICY: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <policy user="root">
    <allow own="org.opdbus.Demo"/>
  </policy>
  <policy context="default">
    <allow send_destination="org.opdbus.Demo"/>
  </policy>
</busconfig>
"#;

/// What the releases are made from.
pub(super) fn key(programs: &Programs) -> Result<Key> {
    let mut key = Key::default()
        .text(RECIPE)
        .file(programs.demo())?
        .file(&programs.stage())?;
    for demo in demos() {
        key = key.text(demo.version).text(demo.parent.unwrap_or_default());
        for (path, text) in files(demo) {
            key = key.text(path).text(&text);
        }
    }
    Ok(key)
}

/// Makes the releases in `output` and writes the certificate of who signed them
/// to `certificate`. The secret key is gone afterwards.
pub(super) fn build(programs: &Programs, output: &Path, certificate: &Path) -> Result<()> {
    let scratch = tempfile::tempdir().context(|| "make a temporary directory".into())?;
    let image = scratch.path().join("build.img");
    let file = fs::File::create(&image).at("create", &image)?;
    file.set_len(1 << 30).at("size", &image)?;
    Tool::new("mkfs.btrfs").arg("--quiet").arg(&image).run()?;
    let mounted = Mounted::image(&image, "")?;
    let system = BuildSystem::new(programs.stage(), mounted.path(), Signer::new("demo")?)?;
    for demo in demos() {
        fill(&system.golden(), demo, programs)?;
        system.snapshot(demo.version)?;
        let mut streams = vec!["--full"];
        streams.extend(demo.parent.iter().flat_map(|parent| ["--parent", parent]));
        system.send(demo.version, output, &streams)?;
        system.sign(&output.join(format!("{}.json", demo.version)))?;
    }
    bad::make(&system, output)?;
    system.export_certificate(certificate)?;
    drop(system);
    mounted.close()
}

/// What a release brings beside its program.
fn files(demo: &Demo) -> Vec<(&'static str, String)> {
    let named = |text: &str| {
        text.replace("@VERSION@", demo.version)
            .replace("@BEHAVIOUR@", demo.behaviour)
            .replace("@SERVICE@", demo.service)
    };
    let mut tmpfiles = named(TMPFILES);
    if demo.version == "v1.4.0" {
        tmpfiles += TMPFILES_REFUSED;
    }
    let mut files = vec![
        ("lib/systemd/system/op-dbus-demo.service", named(UNIT)),
        (
            "lib/systemd/system/op-dbus-demo.service.d/50-demo.conf",
            named(DROP_IN),
        ),
        ("lib/tmpfiles.d/op-dbus-demo.conf", tmpfiles),
        ("lib/sysusers.d/op-dbus-demo.conf", named(SYSUSERS)),
        (
            "share/dbus-1/system.d/org.opdbus.Demo.conf",
            POLICY.to_owned(),
        ),
        ("share/op-dbus-demo/version", demo.version.to_owned()),
    ];
    if demo.version == "v1.0.0" {
        files.push((
            "lib/systemd/system/op-dbus-demo-old.service",
            named(OLD_UNIT),
        ));
    } else {
        files.push((
            "lib/systemd/system/op-dbus-demo-new.service",
            named(NEW_UNIT),
        ));
    }
    let more = demo.brings.iter().map(|(path, text)| (*path, named(text)));
    files.extend(more);
    // A service that is meant to die must not be started again by a message.
    if demo.version != "v1.0.0" && demo.behaviour == "serve" {
        files.push((
            "share/dbus-1/system-services/org.opdbus.Demo.service",
            ACTIVATION.to_owned(),
        ));
    }
    files
}

fn fill(tree: &Path, demo: &Demo, programs: &Programs) -> Result<()> {
    // What the release before brought is not in this one by itself.
    for old in ["lib", "share"].map(|old| tree.join(old)) {
        if old.exists() {
            fs::remove_dir_all(&old).at("remove", &old)?;
        }
    }
    for (path, text) in files(demo) {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap_or(tree)).at("make", &path)?;
        fs::write(&path, text).at("write", &path)?;
        if path.components().any(|part| part.as_os_str() == "health.d") {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).at("chmod", &path)?;
        }
    }
    let program = tree.join("bin/op-dbus-demo");
    if program.exists() {
        return Ok(());
    }
    fs::create_dir_all(tree.join("bin")).at("make", tree)?;
    fs::copy(programs.demo(), &program).at("copy", programs.demo())?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).at("chmod", &program)
}

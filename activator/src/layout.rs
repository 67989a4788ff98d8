//! Where things are. Every path is a function of three roots, so that every
//! program also runs in a temporary directory.

use std::path::{Path, PathBuf};

use op_dbus_bootstate::Version;
use op_dbus_bootstate::store::Copy;

/// Directory below `/run` that holds everything of ours that lasts one boot.
pub const RUN_DIR: &str = "op-dbus";
/// The configuration, in the host and in the initramfs.
pub const CONFIG: &str = "/etc/op-dbus/deploy.toml";

/// The three roots all paths derive from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The mounted store.
    pub store: PathBuf,
    /// `/run`.
    pub run: PathBuf,
    /// The host's root: `/`, or `/sysroot` in the initramfs.
    pub sysroot: PathBuf,
}

impl Layout {
    /// The layout of a running system, whose store is at `<run>/op-dbus/store`.
    pub fn new(run: impl Into<PathBuf>, sysroot: impl Into<PathBuf>) -> Self {
        let run = run.into();
        Self {
            store: run.join(RUN_DIR).join("store"),
            run,
            sysroot: sysroot.into(),
        }
    }

    /// The same with the store at another place.
    #[must_use]
    pub fn with_store(self, store: impl Into<PathBuf>) -> Self {
        Self {
            store: store.into(),
            ..self
        }
    }

    /// `<store>/deploy`: the published versions.
    pub fn deploy_dir(&self) -> PathBuf {
        self.store.join("deploy")
    }

    /// `<store>/deploy/<version>`: a read-only subvolume.
    pub fn deployment(&self, version: &Version) -> PathBuf {
        self.deploy_dir().join(version.as_str())
    }

    /// `<store>/overlays`
    pub fn overlays_dir(&self) -> PathBuf {
        self.store.join("overlays")
    }

    /// `<store>/overlays/<version>`: a subvolume with [`Layout::upper`] and [`Layout::work`].
    pub fn overlay(&self, version: &Version) -> PathBuf {
        self.overlays_dir().join(version.as_str())
    }

    /// The upper layer of a version's overlay.
    pub fn upper(&self, version: &Version) -> PathBuf {
        self.overlay(version).join("upper")
    }

    /// The work directory of a version's overlay.
    pub fn work(&self, version: &Version) -> PathBuf {
        self.overlay(version).join("work")
    }

    /// `<store>/plans`
    pub fn plans_dir(&self) -> PathBuf {
        self.store.join("plans")
    }

    /// `<store>/plans/<version>`: an encoded [`crate::overlay::plan::Plan`].
    pub fn plan(&self, version: &Version) -> PathBuf {
        self.plans_dir().join(version.as_str())
    }

    /// `<store>/shared`
    pub fn shared_dir(&self) -> PathBuf {
        self.store.join("shared")
    }

    /// `<store>/shared/<escaped path>`: the subvolume of a shared path.
    pub fn shared(&self, path: &str) -> PathBuf {
        self.shared_dir().join(escaped(path))
    }

    /// `<store>/incoming`: the private receive area.
    pub fn incoming_dir(&self) -> PathBuf {
        self.store.join("incoming")
    }

    /// `<store>/manifests`
    pub fn manifests_dir(&self) -> PathBuf {
        self.store.join("manifests")
    }

    /// `<store>/manifests/<version>.deployment.json`: a [`op_dbus_bootstate::receipt::Receipt`].
    pub fn receipt(&self, version: &Version) -> PathBuf {
        self.manifests_dir()
            .join(format!("{version}{RECEIPT_SUFFIX}"))
    }

    /// `<store>/manifests/<version>.json`: the manifest it was received by, byte for byte.
    pub fn manifest(&self, version: &Version) -> PathBuf {
        self.manifests_dir().join(format!("{version}.json"))
    }

    /// `<store>/manifests/<version>.json.asc`: the signature over the manifest.
    pub fn signature(&self, version: &Version) -> PathBuf {
        self.manifests_dir().join(format!("{version}.json.asc"))
    }

    /// `<store>/pins`: a symlink `<version>` for each version that is not to be deleted.
    pub fn pins_dir(&self) -> PathBuf {
        self.store.join("pins")
    }

    /// `<store>/reserve`: a [`crate::reserve::Reserve`].
    pub fn reserve_dir(&self) -> PathBuf {
        self.store.join("reserve")
    }

    /// `<store>/boot`
    pub fn boot_dir(&self) -> PathBuf {
        self.store.join("boot")
    }

    /// `<store>/boot/record.…`: one copy of the boot record.
    pub fn record(&self, copy: Copy) -> PathBuf {
        self.boot_dir().join(copy.file_name())
    }

    /// `<store>/audit`
    pub fn audit_dir(&self) -> PathBuf {
        self.store.join("audit")
    }

    /// `<store>/audit/log.jsonl`
    pub fn audit_log(&self) -> PathBuf {
        self.audit_dir().join("log.jsonl")
    }

    /// `<store>/audit/notified`: up to which line hooks have been told.
    pub fn notified(&self) -> PathBuf {
        self.audit_dir().join("notified")
    }

    /// `<store>/lock`: held by whoever changes the store.
    pub fn lock(&self) -> PathBuf {
        self.store.join("lock")
    }

    /// `<run>/op-dbus`
    pub fn run_dir(&self) -> PathBuf {
        self.run.join(RUN_DIR)
    }

    /// `<run>/op-dbus/activation.json`: what this boot activated.
    pub fn activation(&self) -> PathBuf {
        self.run_dir().join("activation.json")
    }

    /// The configuration below the host's root.
    pub fn config(&self) -> PathBuf {
        self.host(CONFIG)
    }

    /// An absolute path of the host, below the host's root.
    pub fn host(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.sysroot.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// A path as one file name, as systemd escapes it (systemd.unit(5)): `/` becomes
/// `-`; what is neither alphanumeric nor one of `:_.`, and a dot at the beginning,
/// becomes `\xNN`.
pub fn escaped(path: &str) -> String {
    const HEX: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let digit = |byte: u8| HEX.get(usize::from(byte)).copied().unwrap_or('0');
    let mut name = String::new();
    for byte in path.trim_matches('/').bytes() {
        match byte {
            b'/' => name.push('-'),
            b'.' if name.is_empty() => name.push_str("\\x2e"),
            _ if byte.is_ascii_alphanumeric() || b":_.".contains(&byte) => {
                name.push(char::from(byte));
            }
            _ => {
                name.push_str("\\x");
                name.push(digit(byte >> 4));
                name.push(digit(byte & 15));
            }
        }
    }
    name
}

/// How names in [`Layout::manifests_dir`] end that are receipts.
pub const RECEIPT_SUFFIX: &str = ".deployment.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_their_roots() {
        let layout = Layout::new("/run", "/sysroot");
        let version: Version = "v1.0.0".parse().unwrap();
        let is = |path: PathBuf, text: &str| assert_eq!(path, Path::new(text));
        is(
            layout.deployment(&version),
            "/run/op-dbus/store/deploy/v1.0.0",
        );
        is(
            layout.receipt(&version),
            "/run/op-dbus/store/manifests/v1.0.0.deployment.json",
        );
        is(
            layout.manifest(&version),
            "/run/op-dbus/store/manifests/v1.0.0.json",
        );
        is(
            layout.signature(&version),
            "/run/op-dbus/store/manifests/v1.0.0.json.asc",
        );
        is(layout.record(Copy::One), "/run/op-dbus/store/boot/record.1");
        is(layout.activation(), "/run/op-dbus/activation.json");
        is(layout.host("/opt/op-dbus"), "/sysroot/opt/op-dbus");
        is(layout.config(), "/sysroot/etc/op-dbus/deploy.toml");
        is(layout.plan(&version), "/run/op-dbus/store/plans/v1.0.0");
        is(
            layout.shared("var/lib/my-db"),
            "/run/op-dbus/store/shared/var-lib-my\\x2ddb",
        );
        let elsewhere = layout.with_store("/mnt/x");
        is(elsewhere.lock(), "/mnt/x/lock");
    }

    #[test]
    fn paths_are_escaped_as_systemd_does() {
        // As printed by systemd-escape --path of systemd 257.
        for (path, name) in [
            ("var/lib/db", "var-lib-db"),
            (".hidden/.x", "\\x2ehidden-.x"),
            ("a b", "a\\x20b"),
            ("a-b", "a\\x2db"),
            ("\u{fc}", "\\xc3\\xbc"),
        ] {
            assert_eq!(escaped(path), name);
        }
    }
}

//! The host around the store: directories that stand for the root and /run of a
//! device, in a mount namespace of this thread.
//!
//! Nothing of it is on the disk under test: what the initramfs and the root bring
//! is there in every boot.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount, umount};
use nix::sched::CloneFlags;

use crate::programs::{Programs, Ran};
use crate::story::TAKEN;

/// How often a busy mount is tried again, and how long is waited between.
const TRIES: u32 = 200;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

/// Gives this thread, and what it starts, a mount namespace whose mounts nobody
/// else sees. They are gone when the last process in it is.
pub fn enter_namespace() -> io::Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
    Ok(())
}

/// The host.
#[derive(Debug)]
pub struct Host {
    dir: PathBuf,
    programs: Programs,
    boots: u64,
    node: PathBuf,
    fresh: bool,
}

impl Host {
    /// A host in an existing directory, which is covered by one in memory. The
    /// thread must have entered a namespace. Boot ids are drawn from `first` on.
    pub fn new(dir: &Path, programs: &Programs, first: u64) -> io::Result<Self> {
        mount(
            Some("op-dbus-crash"),
            dir,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=0755"),
        )?;
        for path in [
            "root/etc/op-dbus/keys.d",
            "root/opt/op-dbus",
            "root/usr/local/op-dbus",
            "root/usr/lib/dracut/modules.d/50op-dbus",
            "run",
        ] {
            fs::create_dir_all(dir.join(path))?;
        }
        fs::write(dir.join("cmdline"), "")?;
        // The activator speaks to the kernel log. What a million boots have to
        // say is of interest only where one goes wrong.
        fs::write(dir.join("kmsg"), "")?;
        if Path::new("/dev/kmsg").exists() {
            let bind = MsFlags::MS_BIND;
            mount(
                Some(&dir.join("kmsg")),
                "/dev/kmsg",
                None::<&str>,
                bind,
                None::<&str>,
            )?;
        }
        let mut host = Self {
            dir: dir.to_owned(),
            programs: programs.clone(),
            boots: first,
            node: PathBuf::new(),
            fresh: false,
        };
        host.next_boot()?;
        Ok(host)
    }

    /// Says on which device the store is. By its path: clones of one file system
    /// have the same UUID.
    pub fn use_device(&mut self, node: &Path) -> io::Result<()> {
        node.clone_into(&mut self.node);
        self.configure()
    }

    /// Says whether versions on trial begin with an empty overlay.
    pub fn begin_trials_fresh(&mut self, fresh: bool) -> io::Result<()> {
        self.fresh = fresh;
        self.configure()
    }

    fn configure(&self) -> io::Result<()> {
        let node = self.node.display();
        let mode = if self.fresh { "fresh" } else { "carry" };
        let text = format!(
            "[store]\ndevice = \"{node}\"\nwait_seconds = 1\n\n[receive]\nheadroom_mib = 8\n\n\
             [overlay]\nmode = \"{mode}\"\n\n\
             [[lint.rule]]\npath = \"{TAKEN}/**\"\npolicy = \"take-new\"\n"
        );
        fs::write(self.config(), text)
    }

    /// Trusts a certificate for releases.
    pub fn trust(&self, certificate: &Path) -> io::Result<()> {
        let place = self.dir.join("root/etc/op-dbus/keys.d/release.asc");
        fs::copy(certificate, place).map(drop)
    }

    /// The configuration.
    fn config(&self) -> PathBuf {
        self.dir.join("root/etc/op-dbus/deploy.toml")
    }

    /// The mounted store.
    pub fn store(&self) -> PathBuf {
        self.dir.join("run/op-dbus/store")
    }

    /// Where a version is mounted as published.
    pub fn lower(&self) -> PathBuf {
        self.dir.join("root/opt/op-dbus")
    }

    /// Where it is mounted with the user's changes.
    pub fn overlay(&self) -> PathBuf {
        self.dir.join("root/usr/local/op-dbus")
    }

    /// Draws a new boot id: what comes is another boot.
    pub fn next_boot(&mut self) -> io::Result<()> {
        self.boots += 1;
        let id = format!("0b000000-0000-4000-8000-{:012x}\n", self.boots);
        fs::write(self.dir.join("boot_id"), id)?;
        match fs::remove_file(self.dir.join("run/op-dbus/activation.json")) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
            _ => Ok(()),
        }
    }

    /// No directory to run in is given: with one, a static program forks, which
    /// copies the tables of all pages of a log that is held in memory
    /// (`posix_spawn()` does not).
    fn program(program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    fn places(&self, command: &mut Command) {
        command
            .arg("--sysroot")
            .arg(self.dir.join("root"))
            .arg("--run")
            .arg(self.dir.join("run"))
            .arg("--config")
            .arg(self.config())
            .arg("--boot-id")
            .arg(self.dir.join("boot_id"));
    }

    /// Runs the boot role of the activator.
    pub fn boot(&self) -> io::Result<Ran> {
        let mut command = Self::program(&self.programs.activate);
        self.places(&mut command);
        command.arg("--cmdline").arg(self.dir.join("cmdline"));
        let kmsg = self.dir.join("kmsg");
        fs::write(&kmsg, "")?;
        let mut ran = Ran::of(command)?;
        // Lines of the kernel log have no ends: each write is one.
        let said = fs::read_to_string(kmsg)?;
        ran.stderr
            .push_str(&said.replace("op-dbus: ", "\nop-dbus: "));
        Ok(ran)
    }

    /// Runs `op-dbus-stage` for its JSON.
    pub fn stage<W: AsRef<std::ffi::OsStr>>(&self, words: &[W]) -> io::Result<Ran> {
        let mut command = Self::program(&self.programs.stage);
        command.args(words).arg("--json");
        self.places(&mut command);
        Ran::of(command)
    }

    /// What the last boot told, in full.
    pub fn activation(&self) -> io::Result<serde_json::Value> {
        let text = fs::read(self.dir.join("run/op-dbus/activation.json"))?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Role and version that the last boot activated.
    pub fn active(&self) -> io::Result<Option<(String, String)>> {
        let found = self.activation()?;
        let text = |key: &str| found[key].as_str().map(str::to_owned);
        Ok((found["outcome"] == "activated")
            .then(|| text("slot").zip(text("version")))
            .flatten())
    }

    /// Ends the host: its directory is as empty as it was.
    pub fn leave(self) -> io::Result<()> {
        self.down()?;
        unmount(Path::new("/dev/kmsg"))?;
        unmount(&self.dir)
    }

    /// Unmounts everything, as a shutdown does.
    pub fn down(&self) -> io::Result<()> {
        for path in [self.overlay(), self.lower(), self.store()] {
            unmount(&path)?;
        }
        Ok(())
    }
}

/// Unmounts whatever is on a directory, if anything is.
fn unmount(path: &Path) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match umount(path) {
            Ok(()) => tries = 0,
            // Not a mount point (any more), or not there.
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            // A program that is just ending may hold it for a moment.
            Err(Errno::EBUSY) if tries < TRIES => {
                tries += 1;
                std::thread::sleep(PAUSE);
            }
            Err(why) => {
                return Err(io::Error::other(format!(
                    "{}: unmount: {why}",
                    path.display()
                )));
            }
        }
    }
}

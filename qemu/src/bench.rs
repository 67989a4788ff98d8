//! A machine under test over all its boots: its disks, and how each boot is
//! set up.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::debian::disk::{self, Machine};
use crate::devices::{Devices, KEPT_BYTES};
use crate::error::{Context, Error, Result};
use crate::guest::Guest;
use crate::hardware::{Accelerator, Disk, Fault, Format, Hardware, Memory};
use crate::light::Light;
use crate::sandbox::Mounted;
use crate::scenario::{Boot, Fail, Store};
use crate::template::Template;
use crate::tool::Tool;
use crate::{faults, logwrites, powercut};

/// Most bytes a boot of the light guest can log; the file is sparse.
pub(crate) const LOG_BYTES: u64 = 8 << 30;

/// The memory that a machine keeps over a restart.
const KEPT: &str = "kept.mem";

/// What a machine is made of.
#[derive(Debug)]
pub enum Make<'a> {
    /// A Debian machine, forked copy-on-write.
    Debian(&'a Machine),
    /// A light one, with its own copy of a store disk.
    Light {
        /// Kernel and initramfs.
        light: &'a Light,
        /// The disk it starts with.
        disk: &'a Path,
    },
}

/// A machine's disks in its run directory.
#[derive(Debug)]
pub struct Bench<'a> {
    make: Make<'a>,
    directory: PathBuf,
    releases: PathBuf,
    disks: Vec<Disk>,
    accelerator: Accelerator,
    processors: u32,
    template: Option<Arc<Template>>,
}

impl<'a> Bench<'a> {
    /// A machine with fresh disks in `directory`, which is emptied first.
    pub fn new(make: Make<'a>, directory: &Path, releases: &Path) -> Result<Self> {
        if directory.exists() {
            fs::remove_dir_all(directory).at("remove", directory)?;
        }
        fs::create_dir_all(directory).at("make", directory)?;
        let disks = match &make {
            Make::Debian(machine) => {
                disk::fork(machine.profile().layout, machine.entry().path(), directory)?
            }
            Make::Light { disk, .. } => {
                let path = directory.join("store.img");
                copy_sparse(disk, &path)?;
                vec![Disk {
                    path,
                    format: Format::Raw,
                    read_only: false,
                    log: None,
                    faults: Vec::new(),
                }]
            }
        };
        Ok(Self {
            make,
            directory: directory.to_owned(),
            releases: releases.to_owned(),
            disks,
            accelerator: Accelerator::Tcg,
            processors: 1,
            template: None,
        })
    }

    /// The same with another emulation.
    #[must_use]
    pub fn with_accelerator(mut self, accelerator: Accelerator) -> Self {
        self.accelerator = accelerator;
        self
    }

    /// The same with so many virtual processors.
    #[must_use]
    pub fn with_processors(mut self, processors: u32) -> Self {
        self.processors = processors;
        self
    }

    /// The same, whose boots are copies of `template` wherever they can be.
    #[must_use]
    pub fn with_template(mut self, template: Arc<Template>) -> Self {
        self.template = Some(template);
        self
    }

    /// Switches the machine on.
    pub fn start(&self, boot: &Boot, console: &Path) -> Result<Guest> {
        let hardware = self.power_on(boot)?;
        // What the kernel's command line says, and how many disks there are, is the
        // same in every copy.
        let ours = |word: &str| word.starts_with("vm.");
        let options = options(boot);
        match &self.template {
            Some(template)
                if boot.store != Store::Missing && options.split_whitespace().all(ours) =>
            {
                template.boot(hardware.disks, &options, console)
            }
            _ => Guest::boot(&hardware, console),
        }
    }

    /// Its run directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether it is a Debian.
    pub fn is_debian(&self) -> bool {
        matches!(self.make, Make::Debian(_))
    }

    /// Prepares the next boot and says with which hardware it is done.
    pub fn power_on(&self, boot: &Boot) -> Result<Hardware> {
        let releases = Disk {
            path: self.releases.clone(),
            format: Format::Raw,
            read_only: true,
            log: None,
            faults: Vec::new(),
        };
        let (kernel, initrd, mut command_line, memory_mib) = match &self.make {
            Make::Debian(machine) => {
                if boot.store != Store::Normal {
                    return Err(Error::Scenario(
                        "only a light guest's store can be taken away".into(),
                    ));
                }
                (
                    machine.kernel(),
                    machine.initrd(),
                    machine.command_line(),
                    1024,
                )
            }
            Make::Light { light, .. } => {
                let slot = if boot.store == Store::Missing {
                    "vda"
                } else {
                    "vdb"
                };
                let line = format!("{} vm.releases=/dev/{slot}", crate::light::KERNEL_OPTIONS);
                (light.kernel(), light.initrd(), line, 512)
            }
        };
        let mut disks = self.disks.clone();
        match boot.store {
            Store::Normal => {}
            Store::Missing => disks.clear(),
            Store::ReadOnly => disks.iter_mut().for_each(|disk| disk.read_only = true),
        }
        let logged = !self.is_debian();
        if let Some(disk) = disks.first_mut().filter(|disk| logged && !disk.read_only) {
            copy_sparse(&disk.path, &self.before())?;
            let log = self.log();
            let file = fs::File::create(&log).at("create", &log)?;
            file.set_len(LOG_BYTES).at("size", &log)?;
            disk.log = Some(log);
        }
        disks.push(releases);
        let devices = self.devices(boot)?;
        let words = std::iter::once(options(boot)).chain(devices.options());
        let words: Vec<String> = words.filter(|word| !word.is_empty()).collect();
        let options = words.join(" ");
        if !options.is_empty() {
            command_line = format!("{command_line} {options}");
        }
        let at_once = boot.fail.as_ref().filter(|fail| fail.from.is_empty());
        if let (Some(fail), Some(disk)) = (at_once, disks.first_mut()) {
            disk.faults = self.faults(fail)?;
        }
        Ok(Hardware {
            accelerator: self.accelerator,
            processors: self.processors,
            memory_mib,
            memory: Memory::Own,
            kernel,
            initrd,
            command_line,
            disks,
            devices,
        })
    }

    /// What the machine has in this boot beyond its disks.
    fn devices(&self, boot: &Boot) -> Result<Devices> {
        let devices = Devices {
            network: boot.network,
            watchdog: boot.watchdog,
            kept: boot.pstore.then(|| self.directory.join(KEPT)),
        };
        if devices != Devices::default() && !self.is_debian() {
            return Err(Error::Scenario(
                "the light guest has no drivers for more devices".into(),
            ));
        }
        if let Some(path) = devices.kept.as_ref().filter(|path| !path.exists()) {
            let file = fs::File::create(path).at("create", path)?;
            file.set_len(KEPT_BYTES).at("size", path)?;
        }
        Ok(devices)
    }

    /// After a power cut: the light guest's disk becomes what it held at
    /// power-on and what was flushed since. (A Debian's image keeps all that
    /// reached it.) A sentence for the timeline.
    pub fn power_was_cut(&self) -> Result<String> {
        let (Some(disk), false) = (self.disks.first(), self.is_debian()) else {
            return Ok(String::new());
        };
        let entries = logwrites::read(&self.log())?;
        let (pieces, tally) = powercut::least(&entries);
        powercut::write(&pieces, &self.before())?;
        fs::rename(self.before(), &disk.path).at("replace", &disk.path)?;
        Ok(format!(
            "{} requests were durable, {} lost",
            tally.durable, tally.lost
        ))
    }

    /// The requests to the store's disk that `fail`; looked up while the machine is
    /// off.
    pub fn faults(&self, fail: &Fail) -> Result<Vec<Fault>> {
        match self.disks.first() {
            Some(disk) if !self.is_debian() => faults::find(fail, &disk.path),
            _ => Err(Error::Scenario(
                "only a light guest's disk can be made to fail".into(),
            )),
        }
    }

    /// Mounts the store while the machine is off, and changes it with `act`.
    pub fn with_store(&self, act: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        if self.is_debian() {
            return Err(Error::Scenario(
                "only a light guest's store can be damaged".into(),
            ));
        }
        let disk = self
            .disks
            .first()
            .ok_or_else(|| Error::Scenario("the machine has no store disk".into()))?;
        let mounted = Mounted::image(&disk.path, "subvol=@op-dbus")?;
        act(mounted.path())?;
        mounted.close()
    }

    /// Writes the store's disk, as it is now, as a raw image to `path`.
    pub fn export_store(&self, path: &Path) -> Result<()> {
        match &self.make {
            Make::Debian(machine) => {
                let name = disk::store_image(machine.profile().layout);
                disk::flatten(&self.directory.join(name).with_extension("qcow2"), path)
            }
            Make::Light { .. } => copy_sparse(&self.directory.join("store.img"), path),
        }
    }

    /// Removes the disks; console logs stay.
    pub fn remove_disks(&self) -> Result<()> {
        for path in self.disks.iter().map(|disk| disk.path.clone()).chain([
            self.before(),
            self.log(),
            self.directory.join(KEPT),
        ]) {
            if path.exists() {
                fs::remove_file(&path).at("remove", &path)?;
            }
        }
        Ok(())
    }

    fn before(&self) -> PathBuf {
        self.directory.join("start.img")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("writes.log")
    }
}

/// What a boot's command line has beyond the machine's own.
fn options(boot: &Boot) -> String {
    let held = boot.fail.as_ref().filter(|fail| !fail.from.is_empty());
    let key = held.map(|fail| format!("{}{}", op_dbus_vm_guest::init::HOLD_KEY, fail.from));
    let words = [
        Some(boot.options.clone()).filter(|options| !options.is_empty()),
        key,
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Copies a sparse file, sharing blocks where the file system can.
pub fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    Tool::new("cp")
        .args(["--sparse=always", "--reflink=auto", "--"])
        .args([from, to])
        .run()
        .map(drop)
}

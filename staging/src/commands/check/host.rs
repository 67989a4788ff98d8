//! What a check looks at: a running system, or an image that is being built.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::root::Root;
use crate::context::Context;

/// The system that is checked.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// How the command was called.
    pub(crate) context: Context,
    /// Its file system.
    pub(crate) root: Root,
    /// Its `/proc`; of no use unless it runs.
    pub(crate) proc: Root,
    /// Its `/sys`; likewise.
    pub(crate) sys: Root,
    /// Whether it is the system that runs here. If not, what the kernel tells is
    /// about the machine that builds the image.
    pub(crate) is_running: bool,
}

impl Host {
    /// By the command's options.
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            root: Root::new(&context.layout.sysroot),
            proc: Root::new("/proc"),
            sys: Root::new("/sys"),
            is_running: context.layout.sysroot == Path::new("/") && !is_chroot(),
            context: context.clone(),
        }
    }

    /// Whether systemd runs it (`sd_booted(3)`).
    pub(crate) fn has_systemd(&self) -> bool {
        self.is_running && self.context.layout.run.join("systemd/system").is_dir()
    }
}

/// Whether this process sees another root than the first one does.
fn is_chroot() -> bool {
    let of = |path: &str| fs::metadata(path).map(|root| (root.dev(), root.ino()));
    match (of("/"), of("/proc/1/root/")) {
        (Ok(own), Ok(first)) => own != first,
        _ => false,
    }
}

//! Which image belongs to which kernel.

use crate::commands::check::root::Root;

/// Where the usual systems have a kernel's image.
const PLACES: [&str; 8] = [
    "/boot/initrd.img-RELEASE",
    "/boot/initramfs-RELEASE.img",
    "/boot/initrd-RELEASE",
    "/boot/initrd-RELEASE.img",
    "/boot/MACHINE/RELEASE/initrd",
    "/boot/efi/MACHINE/RELEASE/initrd",
    "/efi/MACHINE/RELEASE/initrd",
    "/usr/lib/modules/RELEASE/initrd",
];
/// Where kernel and image are one file.
const UNIFIED: [&str; 3] = ["/boot/efi/EFI/Linux", "/efi/EFI/Linux", "/boot/EFI/Linux"];

/// The image of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Image {
    /// A file of its own.
    At(String),
    /// In one file with the kernel.
    Unified(String),
    /// None is where one is looked for.
    None,
}

/// Finds it.
pub(super) fn of(root: &Root, release: &str) -> Image {
    let machine = root.text("/etc/machine-id", 256).unwrap_or_default();
    let machine = machine.trim();
    for place in PLACES {
        let path = place.replace("RELEASE", release);
        if path.contains("MACHINE") && machine.is_empty() {
            continue;
        }
        let path = path.replace("MACHINE", machine);
        if root.is_file(&path) {
            return Image::At(path);
        }
    }
    for dir in UNIFIED {
        let mut files = root.parts(dir, ".efi", 256).into_iter();
        if let Some(path) = files.find(|path| path.contains(release)) {
            return Image::Unified(path);
        }
    }
    Image::None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::testing::put;

    #[test]
    fn images_are_found_where_systems_have_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        assert_eq!(of(&root, "6.1"), Image::None);
        put(dir.path(), "boot/efi/EFI/Linux/abc-6.1.efi", "");
        assert!(matches!(of(&root, "6.1"), Image::Unified(_)));
        put(dir.path(), "boot/mid/6.1/initrd", "");
        assert!(matches!(of(&root, "6.1"), Image::Unified(_)));
        put(dir.path(), "etc/machine-id", "mid\n");
        assert_eq!(
            of(&root, "6.1"),
            Image::At("/boot/mid/6.1/initrd".to_owned())
        );
        put(dir.path(), "boot/initrd.img-6.1", "");
        assert_eq!(
            of(&root, "6.1"),
            Image::At("/boot/initrd.img-6.1".to_owned())
        );
        assert_eq!(of(&root, "6.10"), Image::None);
    }
}

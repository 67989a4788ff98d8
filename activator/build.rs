//! Link options that keep the early-boot program small.
//!
//! It is position independent without a loader and relocates itself: in the
//! compact form (`DT_RELR`, glibc 2.36 and binutils 2.38 or later) that takes
//! 50 KiB less. The index for unwinding (20 KiB) is of no use where a panic aborts.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    if std::env::var("PROFILE").as_deref() == Ok("release") {
        println!("cargo:rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
    }
}

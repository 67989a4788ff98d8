//! Configurations of any text: a boot takes from it what is beyond doubt, and
//! every refusal is one printable line.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use op_dbus_activator::config::Config;

/// The boot's way reads a file; this one is in memory where /dev/shm is.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let shm = PathBuf::from("/dev/shm");
    let dir = if shm.is_dir() {
        shm
    } else {
        std::env::temp_dir()
    };
    dir.join(format!("op-dbus-fuzz-{}.toml", std::process::id()))
});

fuzz_target!(|data: &[u8]| {
    fs::write(&*FILE, data).expect("written");
    let boot = Config::load_for_boot(&FILE);
    let _ = fs::remove_file(&*FILE);
    let strict = std::str::from_utf8(data).map(Config::parse);
    match (&strict, &boot) {
        // A file without mistakes is the same to both.
        (Ok(Ok(config)), Ok((boot, None))) => assert_eq!(config, boot),
        (Ok(Ok(_)), other) => panic!("a mistake only at boot: {other:?}"),
        // What was salvaged has nothing of the part with the mistake.
        (_, Ok((salvaged, Some(_)))) => {
            assert!(salvaged.links.is_empty());
            let usual = Config::parse("[store]\ndevice = \"/dev/vda\"").expect("the least there is");
            assert_eq!(salvaged.limits(), usual.limits());
        }
        (_, Ok((_, None))) => panic!("no mistake only at boot"),
        (_, Err(_)) => {}
    }
    if let Ok(Err(why)) = &strict {
        assert!(!why.contains('\n'), "{why:?}");
    }
    for config in [
        strict.ok().and_then(Result::ok),
        boot.ok().map(|(config, _)| config),
    ] {
        for path in config
            .iter()
            .flat_map(|config| [&config.mounts.lower, &config.mounts.overlay])
        {
            assert!(path.is_absolute(), "{path:?}");
        }
    }
});

//! Where a command looks: the options that all of them have.

use std::ffi::OsString;
use std::path::PathBuf;

use op_dbus_activator::layout::Layout;

/// Where things are; the defaults are those of a device.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// Where the store is mounted [default: <RUN>/op-dbus/store]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// The host's root
    #[arg(long, value_name = "DIR", default_value = "/")]
    sysroot: PathBuf,
    /// Where what lasts one boot is
    #[arg(long, value_name = "DIR", default_value = "/run")]
    run: PathBuf,
}

impl Place {
    /// Every path, by these options.
    pub fn layout(&self) -> Layout {
        let layout = Layout::new(&self.run, &self.sysroot);
        match &self.store {
            Some(store) => layout.with_store(store),
            None => layout,
        }
    }

    /// The same options for op-dbus-stage, which knows them all.
    pub fn options(&self) -> Vec<OsString> {
        let mut options: Vec<OsString> = vec!["--run".into(), self.run.clone().into()];
        options.extend(["--sysroot".into(), self.sysroot.clone().into()]);
        if let Some(store) = &self.store {
            options.extend(["--store".into(), store.clone().into()]);
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        place: Place,
    }

    #[test]
    fn a_store_of_its_own_is_somewhere_else_and_is_passed_on() {
        let place = |words: &[&str]| {
            let line = ["x"].iter().chain(words);
            Line::try_parse_from(line).unwrap().place
        };
        let device = place(&[]);
        assert_eq!(device.layout(), Layout::new("/run", "/"));
        assert_eq!(device.options(), ["--run", "/run", "--sysroot", "/"]);
        let other = place(&["--store", "/s", "--sysroot", "/h", "--run", "/r"]);
        assert_eq!(other.layout(), Layout::new("/r", "/h").with_store("/s"));
        assert_eq!(
            other.options(),
            ["--run", "/r", "--sysroot", "/h", "--store", "/s"]
        );
    }
}

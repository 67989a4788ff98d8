//! The configuration file: written once, never over one that is there.

use std::fmt::Write as _;

use op_dbus_activator::config::{Config, ConfigError, Device, Link, Mounts, Way};
use op_dbus_activator::files::{self, Durable};
use op_dbus_health::settings::Settings as Health;

use super::device::FileSystem;
use super::{Made, make_dir, way};
use crate::cli::device as cli;
use crate::context::Context;
use crate::error::{Exit, Failure, Result};
use crate::settings::{PRODUCT, Settings};

/// The configuration that is there. A broken one must be corrected first.
pub(crate) fn existing(context: &Context) -> Result<Option<Config>> {
    if context.config_path().symlink_metadata().is_err() {
        return Ok(None);
    }
    let config = context.config()?;
    if let Err(ConfigError::Invalid { path, why }) = Health::load(context.config_path()) {
        let remedy = "correct the file";
        return Err(Failure::new(
            Exit::Configuration,
            path.display(),
            why,
            remedy,
        ));
    }
    Ok(Some(config))
}

/// The configuration to go by, and its text if it is to be written.
pub(crate) fn wanted(
    context: &Context,
    args: &cli::Prepare,
    existing: Option<&Config>,
    filesystem: &FileSystem,
) -> Result<(Config, String)> {
    if let Some(config) = existing {
        agree(context, args, config, filesystem)?;
        return Ok((config.clone(), String::new()));
    }
    let (fitting, why) = way::choose(context, &Mounts::default());
    let way = args.way.unwrap_or(fitting);
    if let Some(why) = why.filter(|_| args.way.is_none()) {
        context.warn(why);
    }
    let text = text(args, &Device::Uuid(filesystem.uuid), way);
    let parsed = Config::parse(&text).and_then(|config| Settings::parse(&text).map(|_| config));
    let config = parsed.map_err(|why| {
        Failure::new(
            Exit::Usage,
            "the options make no valid configuration",
            why,
            "see: op-dbus-stage prepare --help",
        )
    })?;
    Ok((config, text))
}

/// An existing file wins. A store elsewhere than it says would never be found,
/// so that is refused; of other differences the user is told.
fn agree(
    context: &Context,
    args: &cli::Prepare,
    config: &Config,
    filesystem: &FileSystem,
) -> Result<()> {
    let path = context.config_path().display();
    let refuse = |what: &str, says: &dyn std::fmt::Display| {
        Failure::new(
            Exit::Configuration,
            &path,
            format_args!("says {what} = \"{says}\", which differs from what was asked for"),
            "change the file, or leave the option out",
        )
    };
    let is_other_device = match &config.store.device {
        Device::Uuid(uuid) => *uuid != filesystem.uuid,
        Device::Path(path) => {
            !matches!(op_dbus_btrfs::Superblock::read(path), Ok(Some(found)) if found.fsid == filesystem.uuid.0)
        }
    };
    if args.device.is_some() && is_other_device {
        return Err(refuse("device", &config.store.device));
    }
    if args
        .subvolume
        .as_ref()
        .is_some_and(|name| *name != config.store.subvolume)
    {
        return Err(refuse("subvolume", &config.store.subvolume));
    }
    let mut differing = Vec::new();
    if args.way.is_some_and(|way| way != config.activation.way) {
        differing.push("--way");
    }
    if args.link.iter().any(|link| !config.links.contains(link)) {
        differing.push("--link");
    }
    if args
        .unit
        .iter()
        .any(|unit| !config.health.units.contains(unit))
    {
        differing.push("--unit");
    }
    if args
        .bus_name
        .iter()
        .any(|name| !config.health.bus_names.contains(name))
    {
        differing.push("--bus-name");
    }
    let product = Settings::load(context)?.product;
    if args.product.as_ref().is_some_and(|name| *name != product) {
        differing.push("--product");
    }
    if !differing.is_empty() {
        context.warn(format!(
            "{path} is there already and was left as it is; it differs in {}",
            differing.join(", ")
        ));
    }
    Ok(())
}

/// Writes the file if there was none.
pub(crate) fn write(
    context: &Context,
    existing: Option<&Config>,
    text: &str,
    made: &mut Made,
) -> Result<()> {
    if existing.is_some() {
        return Ok(());
    }
    let path = context.config_path();
    if let Some(dir) = path.parent() {
        make_dir(dir, 0o755)?;
    }
    files::replace(path, text.as_bytes(), 0o644, Durable::Yes)
        .map_err(|why| Failure::io(format_args!("{}: write", path.display()), why))?;
    made.push(format!("configuration {}", path.display()));
    Ok(())
}

fn text(args: &cli::Prepare, device: &Device, way: Way) -> String {
    let mut text = String::from(
        "# Where op-dbus keeps its versions and how it tries them. A copy of this file is\n\
         # in the initramfs: after a change, bring that up to date (dracut --force).\n\n[store]\n",
    );
    let way = match way {
        Way::Initrd => "initrd",
        Way::Generator => "generator",
    };
    let subvolume = args.subvolume.as_deref().unwrap_or("@op-dbus");
    // Writing to a string can't fail.
    let _ = writeln!(text, "device = {}", quote(&device.to_string()));
    let _ = writeln!(text, "subvolume = {}", quote(subvolume));
    let _ = writeln!(text, "\n[activation]\nway = {}", quote(way));
    let product = args.product.as_deref().unwrap_or(PRODUCT);
    let _ = writeln!(text, "\n[receive]\nproduct = {}", quote(product));
    for Link { path, target } in &args.link {
        let _ = writeln!(
            text,
            "\n[[link]]\npath = {}\ntarget = {}",
            quote(&path.to_string_lossy()),
            quote(&target.to_string_lossy())
        );
    }
    if !args.unit.is_empty() || !args.bus_name.is_empty() {
        let _ = writeln!(
            text,
            "\n[health]\nunits = {}\nbus_names = {}",
            list(&args.unit),
            list(&args.bus_name)
        );
    }
    text
}

fn list(items: &[String]) -> String {
    let items: Vec<_> = items.iter().map(|item| quote(item)).collect();
    format!("[{}]", items.join(", "))
}

/// A TOML basic string.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let args = cli::Prepare {
            device: None,
            subvolume: Some("@store".to_owned()),
            way: None,
            link: vec![Link {
                path: "/usr/local/bin/app".into(),
                target: "bin/a \"b\"".into(),
            }],
            unit: vec!["app.service".to_owned()],
            bus_name: vec!["org.example.App".to_owned()],
            key: Vec::new(),
            product: Some("gate".to_owned()),
            no_mount: false,
        };
        let device = Device::Uuid(op_dbus_bootstate::Uuid([7; 16]));
        let text = text(&args, &device, Way::Generator);
        assert_eq!(Settings::parse(&text).unwrap().product, "gate");
        let config = Config::parse(&text).unwrap();
        assert_eq!(config.store.device, device);
        assert_eq!(config.store.subvolume, "@store");
        assert_eq!(config.activation.way, Way::Generator);
        assert_eq!(config.links, args.link);
        assert_eq!(config.health.units, args.unit);
        assert_eq!(config.health.bus_names, args.bus_name);
    }

    #[test]
    fn strings_are_quoted() {
        assert_eq!(quote("a\"\\\n"), "\"a\\\"\\\\\\u000A\"");
    }
}

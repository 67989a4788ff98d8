//! `op-dbus-vm-guest`: see the library.

use std::path::Path;
use std::process::ExitCode;

use op_dbus_vm_guest::channel::Channel;
use op_dbus_vm_guest::power::{self, Manager};
use op_dbus_vm_guest::proto::Event;
use op_dbus_vm_guest::{init, serve, tracer};

const USAGE: &str = "\
usage: op-dbus-vm-guest serve --port DEVICE
       op-dbus-vm-guest init                   (as PID 1; also when called /init)
       op-dbus-vm-guest trace MOMENT PROGRAM [ARGUMENT…]
serve   answer requests that come as JSON lines over DEVICE
trace   run PROGRAM until MOMENT (NAME[@SUBSTRING]:NTH:entry|exit), print what
        happened as one JSON line, and kill it there";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        [_, "serve", "--port", device] => Channel::open(Path::new(device))
            .and_then(|mut it| serve::serve(&mut it, Manager::Systemd)),
        ["/init", ..] | [_, "init"] => {
            if let Err(error) = init::run() {
                init::say(&error.to_string());
            }
            power::off(Manager::Own)
        }
        [_, "trace", moment, _, ..] => trace(moment, arguments.get(3..).unwrap_or_default()),
        [_, word, ..] if *word == tracer::TRACED => Err(tracer::become_traced(
            arguments.get(2..).unwrap_or_default(),
        )),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("op-dbus-vm-guest: {error}");
            ExitCode::FAILURE
        }
    }
}

fn trace(moment: &str, argv: &[String]) -> std::io::Result<()> {
    let moment = moment.parse().map_err(std::io::Error::other)?;
    let event = match tracer::run_until(argv, &moment)? {
        tracer::Outcome::Paused(stop) => stop.event(&moment),
        tracer::Outcome::Missed(exit) => Event::Missed(exit),
    };
    println!("{}", serde_json::to_string(&event)?);
    // Whatever is still traced dies with this process (PTRACE_O_EXITKILL).
    Ok(())
}

//! The service the test releases carry.
//!
//! It owns `org.opdbus.Demo` on the system bus and says which version it is.
//! Some releases are meant to be bad: their unit asks the service to die, to stop
//! answering or to crash the kernel a while after it came up.

use std::fs;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use zbus::blocking::connection;

const USAGE: &str = "\
usage: op-dbus-demo --version-name VERSION
         [serve | die-after SECONDS | panic-after SECONDS | stop-after SECONDS]
Own org.opdbus.Demo on the system bus; property and method Version of interface
org.opdbus.Demo at /org/opdbus/Demo answer VERSION.
  serve          do so until stopped (the default)
  die-after      exit 1 after so many seconds
  panic-after    crash the kernel through /proc/sysrq-trigger after so many seconds
  stop-after     stop itself after so many seconds: the name stays owned, nobody answers";

/// What the service does once it is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Serve,
    Die(Duration),
    Panic(Duration),
    Stop(Duration),
}

struct Demo {
    version: String,
}

#[zbus::interface(name = "org.opdbus.Demo")]
impl Demo {
    #[zbus(property)]
    fn version(&self) -> &str {
        &self.version
    }

    fn get_version(&self) -> &str {
        &self.version
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Some((version, behaviour)) = parse(&words) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match serve(version, behaviour) {
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("op-dbus-demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse<'a>(words: &[&'a str]) -> Option<(&'a str, Behaviour)> {
    let seconds = |text: &str| text.parse().ok().map(Duration::from_secs);
    let ["--version-name", version, rest @ ..] = words else {
        return None;
    };
    let behaviour = match rest {
        [] | ["serve"] => Behaviour::Serve,
        ["die-after", after] => Behaviour::Die(seconds(after)?),
        ["panic-after", after] => Behaviour::Panic(seconds(after)?),
        ["stop-after", after] => Behaviour::Stop(seconds(after)?),
        _ => return None,
    };
    Some((version, behaviour))
}

/// Comes back only when the service is meant to die.
fn serve(version: &str, behaviour: Behaviour) -> Result<(), Box<dyn std::error::Error>> {
    let demo = Demo {
        version: version.to_owned(),
    };
    let _connection = connection::Builder::system()?
        .serve_at("/org/opdbus/Demo", demo)?
        .name("org.opdbus.Demo")?
        .build()?;
    match behaviour {
        Behaviour::Serve => loop {
            thread::park();
        },
        Behaviour::Die(after) => {
            thread::sleep(after);
            eprintln!("op-dbus-demo: {version} dies, as it was built to");
            Ok(())
        }
        Behaviour::Panic(after) => {
            thread::sleep(after);
            fs::write("/proc/sysrq-trigger", "c")?;
            Ok(())
        }
        Behaviour::Stop(after) => {
            thread::sleep(after);
            eprintln!("op-dbus-demo: {version} stops answering, as it was built to");
            // All its threads, until somebody sends SIGCONT: as hung as can be.
            kill_process(getpid(), Signal::STOP)?;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaviours_are_read() {
        let after = Duration::from_secs(3);
        assert_eq!(
            parse(&["--version-name", "v1.0.0"]),
            Some(("v1.0.0", Behaviour::Serve))
        );
        assert_eq!(
            parse(&["--version-name", "v1.2.0", "die-after", "3"]),
            Some(("v1.2.0", Behaviour::Die(after)))
        );
        assert_eq!(
            parse(&["--version-name", "v1.3.0", "panic-after", "3"]),
            Some(("v1.3.0", Behaviour::Panic(after)))
        );
        assert_eq!(
            parse(&["--version-name", "v1.3.0", "stop-after", "0"]),
            Some(("v1.3.0", Behaviour::Stop(Duration::ZERO)))
        );
        assert_eq!(parse(&["serve"]), None);
        assert_eq!(parse(&["--version-name", "v1", "die-after", "soon"]), None);
    }
}

//! Answers requests until the host goes away.

use std::io;
use std::path::Path;

use crate::channel::Channel;
use crate::moment::Moment;
use crate::power::{self, Manager};
use crate::proto::{Cut, Event, Exit, Request};
use crate::{exec, keep, listing, tracer};

/// Says ready, then serves one request after the other. Returns when the host
/// closes its end.
pub fn serve(channel: &mut Channel, manager: Manager) -> io::Result<()> {
    channel.send(&ready(Path::new("/proc")))?;
    while let Some(request) = channel.receive()? {
        let event = match request {
            Ok(request) => answer(channel, manager, request).unwrap_or_else(|error| Event::Error {
                message: error.to_string(),
            }),
            Err(message) => Event::Error { message },
        };
        channel.send(&event)?;
    }
    Ok(())
}

/// The event a guest greets with.
pub fn ready(proc: &Path) -> Event {
    let read = |name: &str| {
        std::fs::read_to_string(proc.join(name))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    Event::Ready {
        boot_id: read("sys/kernel/random/boot_id"),
        kernel: read("sys/kernel/osrelease"),
    }
}

fn answer(channel: &mut Channel, manager: Manager, request: Request) -> io::Result<Event> {
    match request {
        Request::Run(argv) => exec::run(&argv).map(Event::Exit),
        Request::Cut(cut) => trace(channel, &cut),
        Request::Write(write) => {
            std::fs::write(&write.path, &write.text).map_err(|error| {
                io::Error::new(error.kind(), format!("write {}: {error}", write.path))
            })?;
            Ok(Event::Exit(Exit::default()))
        }
        Request::Keep(write) => {
            keep::keep(Path::new(&write.path), &write.text)?;
            Ok(Event::Exit(Exit::default()))
        }
        Request::GoOn | Request::Start(_) => Err(io::Error::other("nothing waits for that")),
        Request::Read(path) => {
            let stdout = std::fs::read_to_string(&path)
                .map_err(|error| io::Error::new(error.kind(), format!("read {path}: {error}")))?;
            Ok(Event::Exit(Exit {
                stdout,
                ..Exit::default()
            }))
        }
        Request::List(roots) => {
            let stdout = listing::list(&roots)?;
            Ok(Event::Exit(Exit {
                stdout,
                ..Exit::default()
            }))
        }
        Request::Reboot => power::restart(manager).map(|()| Event::Exit(Exit::default())),
        Request::Poweroff => power::off(manager).map(|()| Event::Exit(Exit::default())),
        Request::Panic => power::panic().map(|()| Event::Exit(Exit::default())),
        Request::Bite => power::bite().map(|()| Event::Exit(Exit::default())),
    }
}

fn trace(channel: &mut Channel, cut: &Cut) -> io::Result<Event> {
    let moment: Moment = cut.at.parse().map_err(io::Error::other)?;
    match tracer::run_until(&cut.run, &moment)? {
        tracer::Outcome::Missed(exit) => Ok(Event::Missed(exit)),
        tracer::Outcome::Paused(stop) => {
            channel.send(&stop.event(&moment))?;
            tracer::freeze()
        }
    }
}

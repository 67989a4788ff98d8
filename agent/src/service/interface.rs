//! `org.opdbus.Deploy1` as callers see it. What stands in front of a method or
//! property here is its documentation on the bus, too.
#![allow(
    missing_docs,
    reason = "zbus makes methods of its own beside those here"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use op_dbus_bootstate::Version;
use zbus::Connection;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::zvariant::OwnedFd;

use super::authority::{Action, Caller, Pass};
use super::core::{Core, Kind, word};
use super::error::{Error, Result};
use super::files::{self, Given, Release};
use super::stage::Job;

const RECEIVE: Kind = Kind {
    name: "receive",
    phase: "checking",
    can_be_interrupted: true,
};
const STAGE: Kind = Kind {
    name: "stage",
    phase: "staging",
    can_be_interrupted: false,
};
const ROLLBACK: Kind = Kind {
    name: "rollback",
    phase: "rolling-back",
    can_be_interrupted: false,
};
const CANCEL: Kind = Kind {
    name: "cancel",
    phase: "cancelling",
    can_be_interrupted: false,
};

/// The object.
#[derive(Debug)]
pub struct Deploy(pub Arc<Core>);

/// A call that has begun and is not answered yet.
struct Call {
    caller: Caller,
    _pass: Pass<String>,
}

impl Deploy {
    /// Lets a call in, if its connection has not too many waiting.
    async fn call(&self, header: &Header<'_>, bus: &Connection) -> Result<Call> {
        self.0.touch();
        let sender = header.sender().map(ToString::to_string).unwrap_or_default();
        let pass = self.0.authority.calls.enter(sender)?;
        Ok(Call {
            caller: Caller::of(header, bus).await?,
            _pass: pass,
        })
    }

    /// Likewise one that changes something, and may.
    async fn leave(
        &self,
        header: &Header<'_>,
        bus: &Connection,
        action: Action,
        about: &[(&str, &str)],
    ) -> Result<Call> {
        let call = self.call(header, bus).await?;
        // Nobody is asked for a password in vain.
        self.0.slot.require_free()?;
        self.0
            .authority
            .require(bus, &call.caller, action, about)
            .await?;
        self.0.touch();
        Ok(call)
    }
}

/// A version's name: with anything else, nobody is asked and nothing is run.
fn version(name: &str) -> Result<Version> {
    name.parse()
        .map_err(|why| Error::invalid(format!("version: {why}")))
}

fn command(args: &[&str]) -> (Job, Option<Release>) {
    let job = Job {
        args: args.iter().map(Into::into).collect(),
        ..Job::default()
    };
    (job, None)
}

#[zbus::interface(name = "org.opdbus.Deploy1")]
impl Deploy {
    /// Receives a signed release: checks it, and puts its version into the store.
    /// The manifest and its signature are regular files, the stream is one or a
    /// pipe; all of them are passed open for reading. Returns the version, and
    /// "received" or "already-there". Property Operation tells how far it is.
    /// It takes as long as it takes: give the call no time limit. It goes on if
    /// the caller disappears, and Finished tells how it came out.
    #[zbus(out_args("version", "result"))]
    async fn receive(
        &self,
        manifest: OwnedFd,
        signature: OwnedFd,
        stream: OwnedFd,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] bus: &Connection,
    ) -> Result<(String, String)> {
        let call = self.leave(&header, bus, Action::Receive, &[]).await?;
        let job = move |private: &Path| {
            let given = Given {
                manifest: manifest.into(),
                signature: signature.into(),
                stream: stream.into(),
            };
            let (release, stream) = files::take(private, given)?;
            let args = ["receive", "--progress", "--manifest"].map(Into::into);
            let mut args = Vec::from(args);
            args.extend([release.manifest().into_os_string(), "-".into()]);
            let job = Job {
                args,
                stdin: Some(stream),
                limit: None,
            };
            Ok((job, Some(release)))
        };
        let said = self.0.operate(bus, &call.caller, RECEIVE, job).await?;
        Ok((word(&said, "version"), word(&said, "result")))
    }

    /// Puts a version of the store on trial: the next boot activates it. Returns
    /// "on-trial", "already-staged" or "already-good".
    #[zbus(out_args("result"))]
    async fn stage(
        &self,
        version: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] bus: &Connection,
    ) -> Result<String> {
        let name = self::version(version)?.to_string();
        let about = [("version", name.as_str())];
        let call = self.leave(&header, bus, Action::Stage, &about).await?;
        let job = move |_: &Path| Ok(command(&["stage", "--", &name]));
        let said = self.0.operate(bus, &call.caller, STAGE, job).await?;
        Ok(word(&said, "result"))
    }

    /// Goes back to a version of the store; with an empty name to the fallback
    /// version. Where one is on trial, that is only taken back. Returns the
    /// version it is about, and "on-trial", "cancelled-trial" or "already-good".
    #[zbus(out_args("target", "result"))]
    async fn rollback(
        &self,
        version: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] bus: &Connection,
    ) -> Result<(String, String)> {
        let name = match version {
            "" => None,
            name => Some(self::version(name)?.to_string()),
        };
        let about = [("version", name.as_deref().unwrap_or("fallback"))];
        let call = self.leave(&header, bus, Action::Rollback, &about).await?;
        let job = move |_: &Path| match &name {
            Some(name) => Ok(command(&["rollback", "--", name])),
            None => Ok(command(&["rollback"])),
        };
        let said = self.0.operate(bus, &call.caller, ROLLBACK, job).await?;
        Ok((word(&said, "version"), word(&said, "result")))
    }

    /// Takes the trial back; good stays. Returns the version that was on trial, and
    /// "cancelled" or "nothing-to-do".
    #[zbus(out_args("version", "result"))]
    async fn cancel(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] bus: &Connection,
    ) -> Result<(String, String)> {
        let call = self.leave(&header, bus, Action::Cancel, &[]).await?;
        let job = |_: &Path| Ok(command(&["cancel"]));
        let said = self.0.operate(bus, &call.caller, CANCEL, job).await?;
        Ok((word(&said, "version"), word(&said, "result")))
    }

    /// Ends the receive that is under way; nothing of it is kept. Whoever began it
    /// may do so, and whoever may receive.
    async fn interrupt(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] bus: &Connection,
    ) -> Result<()> {
        let call = self.call(&header, bus).await?;
        let slot = &self.0.slot;
        if slot.interruptible()? == call.caller.uid {
            // Unless somebody else's has begun meanwhile.
            return slot.interrupt(Some(call.caller.uid));
        }
        let authority = &self.0.authority;
        authority
            .require(bus, &call.caller, Action::Receive, &[])
            .await?;
        slot.interrupt(None)
    }

    /// Looks at the device again, and tells what changed and what happened since.
    /// For root only: the device's own programs call it.
    async fn refresh(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] bus: &Connection,
    ) -> Result<()> {
        let call = self.call(&header, bus).await?;
        if call.caller.uid != 0 {
            return Err(Error::denied("only root may do this"));
        }
        self.0.refresh(bus, Duration::ZERO).await;
        self.0.tell_events(bus).await;
        Ok(())
    }

    /// The version of this service.
    #[zbus(property(emits_changed_signal = "const"))]
    fn daemon_version(&self) -> &'static str {
        self.0.touch();
        env!("CARGO_PKG_VERSION")
    }

    /// "ok", "attention" (see Problems), or "unknown" if the device's status can't
    /// be read.
    #[zbus(property)]
    async fn state(&self, #[zbus(connection)] bus: &Connection) -> String {
        self.0.snapshot(bus).await.state
    }

    /// The version that runs; empty if none does.
    #[zbus(property)]
    async fn running(&self, #[zbus(connection)] bus: &Connection) -> String {
        self.0.snapshot(bus).await.running
    }

    /// As what it runs: "good", "fallback", "trial" or "named" (on the kernel
    /// command line). If none runs: "rescue", "off" or "failed". Empty: not known.
    #[zbus(property)]
    async fn running_slot(&self, #[zbus(connection)] bus: &Connection) -> String {
        self.0.snapshot(bus).await.running_slot
    }

    /// The version that proved itself last; empty if there is none.
    #[zbus(property)]
    async fn good(&self, #[zbus(connection)] bus: &Connection) -> String {
        self.0.snapshot(bus).await.good
    }

    /// The good version before it; empty if there is none.
    #[zbus(property)]
    async fn fallback(&self, #[zbus(connection)] bus: &Connection) -> String {
        self.0.snapshot(bus).await.fallback
    }

    /// The version on trial; empty if there is none.
    #[zbus(property)]
    async fn trial(&self, #[zbus(connection)] bus: &Connection) -> String {
        self.0.snapshot(bus).await.trial
    }

    /// How many boots the trial has left.
    #[zbus(property)]
    async fn tries_left(&self, #[zbus(connection)] bus: &Connection) -> u32 {
        self.0.snapshot(bus).await.tries_left
    }

    /// Versions in quarantine, oldest first, and why: "condemned",
    /// "tries-exhausted" or "activation-failed".
    #[zbus(property)]
    async fn quarantine(&self, #[zbus(connection)] bus: &Connection) -> Vec<(String, String)> {
        self.0.snapshot(bus).await.quarantine
    }

    /// The versions of the store, newest first.
    #[zbus(property)]
    async fn versions(&self, #[zbus(connection)] bus: &Connection) -> Vec<String> {
        self.0.snapshot(bus).await.versions
    }

    /// What is wrong, a sentence each, for people.
    #[zbus(property)]
    async fn problems(&self, #[zbus(connection)] bus: &Connection) -> Vec<String> {
        self.0.snapshot(bus).await.problems
    }

    /// What to do next, a sentence each, for people.
    #[zbus(property)]
    async fn next(&self, #[zbus(connection)] bus: &Connection) -> Vec<String> {
        self.0.snapshot(bus).await.next
    }

    /// What is under way, and how much of it is done in percent: "checking",
    /// "receiving", "writing", "reading-back" and "publishing" of a receive;
    /// "staging", "rolling-back", "cancelling". Empty and 0: nothing.
    #[zbus(property)]
    fn operation(&self) -> (String, u32) {
        self.0.touch();
        self.0.slot.progress()
    }

    /// A version was put on trial.
    #[zbus(signal)]
    pub async fn staged(emitter: &SignalEmitter<'_>, version: &str) -> zbus::Result<()>;

    /// A version proved itself, and is the good one.
    #[zbus(signal)]
    pub async fn blessed(emitter: &SignalEmitter<'_>, version: &str) -> zbus::Result<()>;

    /// A version was given up. What runs in its place; empty: none does (rescue).
    #[zbus(signal)]
    pub async fn fell_back(emitter: &SignalEmitter<'_>, to: &str, reason: &str)
    -> zbus::Result<()>;

    /// An operation ended: "receive", "stage", "rollback" or "cancel"; with which
    /// version; and the error's name, empty if it was done.
    #[zbus(signal)]
    pub async fn finished(
        emitter: &SignalEmitter<'_>,
        operation: &str,
        version: &str,
        error: &str,
    ) -> zbus::Result<()>;
}

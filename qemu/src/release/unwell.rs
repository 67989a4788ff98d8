//! Releases that come up and are not well, each in a way that takes some judging.
//!
//! What is wrong with them is wrong for good: no verdict on them depends on how
//! fast a host is.

use super::demo::{Demo, PLAIN};

/// Never ends, and what it started neither.
const HANGS: (&str, &str) = (
    "lib/op-dbus/health.d/required/hangs",
    "\
#!/bin/sh
echo this check hangs, and so does a child of it
trap '' TERM
setsid sleep infinity &
sleep infinity
",
);

/// Well at every seventh try: soon bad again, and too often in a row to be
/// overlooked.
const FLAPS: (&str, &str) = (
    "lib/op-dbus/health.d/required/flaps",
    "\
#!/bin/sh
count=/run/op-dbus-demo/flaps
tries=$(cat $count 2> /dev/null || echo 0)
echo $((tries + 1)) > $count
test $((tries % 7)) = 0 && exit 0
echo this check flaps
exit 1
",
);

/// Says for ever that it can't say.
const NEVER_KNOWN: (&str, &str) = (
    "lib/op-dbus/health.d/required/never-known",
    "\
#!/bin/sh
echo nobody knows yet
exit 75
",
);

/// The version's services have not been started before this one is done.
const BLOCKS: (&str, &str) = (
    "lib/systemd/system/op-dbus-demo-blocks.service",
    "\
[Unit]
Description=A unit that never finishes to start

[Service]
Type=oneshot
ExecStart=/usr/bin/sleep infinity
TimeoutStartSec=infinity
",
);

/// All of them.
pub(super) const UNWELL: &[Demo] = &[
    Demo {
        version: "v2.0.0-hangs",
        brings: &[HANGS],
        note: "a check of its own hangs, with a child",
        ..PLAIN
    },
    Demo {
        version: "v2.0.0-flaps",
        brings: &[FLAPS],
        note: "a check of its own is well now and then",
        ..PLAIN
    },
    Demo {
        version: "v2.0.0-mute",
        behaviour: "stop-after 0",
        note: "its service owns its name and answers nobody",
        ..PLAIN
    },
    Demo {
        version: "v2.0.0-restarts",
        behaviour: "die-after 1",
        service: "Restart=always\nRestartSec=100ms\nStartLimitIntervalSec=0\n",
        note: "its service restarts in a loop",
        ..PLAIN
    },
    Demo {
        version: "v2.0.0-unknown",
        brings: &[NEVER_KNOWN],
        note: "a check of its own never knows",
        ..PLAIN
    },
    Demo {
        version: "v2.0.0-blocks",
        brings: &[BLOCKS],
        note: "one of its units never finishes to start",
        ..PLAIN
    },
    Demo {
        version: "v2.0.0-unwell",
        behaviour: "stop-after 0",
        brings: &[HANGS, FLAPS],
        note: "mute, and two checks of its own hang and flap",
        ..PLAIN
    },
];

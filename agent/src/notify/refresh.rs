//! Has the D-Bus service look again, so that its signals follow at once.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use zbus::blocking::connection;

/// For everything: the connection, starting the service, its answer.
const LIMIT: Duration = Duration::from_secs(5);

/// Calls `Refresh`, and does not mind when nobody answers: a device may do
/// without the bus. A thread of its own, since a bus that takes a connection and
/// then says nothing would hold it for ever; it ends with the process.
pub(super) fn refresh() {
    let (done, wait) = mpsc::channel();
    thread::spawn(move || {
        done.send(call().is_ok()).ok();
    });
    wait.recv_timeout(LIMIT).ok();
}

fn call() -> zbus::Result<()> {
    let connection = connection::Builder::system()?
        .method_timeout(LIMIT)
        .build()?;
    connection.call_method(
        Some("org.opdbus.Deploy1"),
        "/org/opdbus/Deploy1",
        Some("org.opdbus.Deploy1"),
        "Refresh",
        &(),
    )?;
    Ok(())
}

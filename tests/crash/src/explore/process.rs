//! A worker's process, from the outside.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::Plan;
use crate::error::{At as _, Error, Result};
use crate::worker::{Answer, Order};

/// How long a worker may take to load its recording.
const START: Duration = Duration::from_secs(60);

/// A running worker.
pub(super) struct Process {
    child: Child,
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
}

/// Why there is no answer.
pub(super) enum Ended {
    /// It did not answer in time; where its threads are in the kernel.
    Hung(String),
    /// It ended, and how.
    Gone(String),
}

impl Process {
    /// Starts one, with its host in `place`, and waits until it is ready.
    pub(super) fn start(plan: &Plan, place: &Path) -> Result<Self> {
        fs::create_dir_all(place).at("create directory", place)?;
        let mut child = Command::new(&plan.program)
            .arg("worker")
            .args(&plan.arguments)
            .arg("--place")
            .arg(place)
            // Its children go with it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .at("start", &plan.program)?;
        let orders = child.stdin.take();
        let (sender, answers) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout)
                    .lines()
                    .map_while(std::result::Result::ok)
                {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        let mut process = Self {
            child,
            orders,
            answers,
        };
        match process.answer(START) {
            Ok(Answer::Ready) => Ok(process),
            _ => Err(Error::Other(format!(
                "{}: a worker could not start, see above; it needs root, /dev/fuse and /dev/loop-control",
                plan.program.display()
            ))),
        }
    }

    /// Gives an order and waits for its answer.
    pub(super) fn ask(
        &mut self,
        order: &Order,
        limit: Duration,
    ) -> std::result::Result<Answer, Ended> {
        let line = serde_json::to_vec(order).map_err(|why| Ended::Gone(why.to_string()))?;
        if let Some(orders) = &mut self.orders {
            let sent = orders
                .write_all(&line)
                .and_then(|()| orders.write_all(b"\n"))
                .and_then(|()| orders.flush());
            if sent.is_err() {
                return Err(self.gone());
            }
        }
        let answer = self.answer(limit);
        if let Err(Ended::Hung(stacks)) = &answer {
            // For whoever looks into it: the programs may still be there.
            let _ = fs::create_dir_all(&order.directory);
            let _ = fs::write(order.directory.join("stacks.txt"), stacks);
        }
        answer
    }

    fn answer(&mut self, limit: Duration) -> std::result::Result<Answer, Ended> {
        match self.answers.recv_timeout(limit) {
            Ok(line) => serde_json::from_str(&line)
                .map_err(|why| Ended::Gone(format!("an answer that is none: {why}: {line}"))),
            Err(RecvTimeoutError::Timeout) => Err(Ended::Hung(self.stacks())),
            Err(RecvTimeoutError::Disconnected) => Err(self.gone()),
        }
    }

    fn gone(&mut self) -> Ended {
        match self.child.wait() {
            Ok(status) => Ended::Gone(status.to_string()),
            Err(why) => Ended::Gone(why.to_string()),
        }
    }

    /// Where the threads of the worker's process group are in the kernel.
    fn stacks(&self) -> String {
        let mut text = String::new();
        let group = self.child.id().to_string();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // Fields after the name, which may hold anything: state, parent, group.
            let fields = stat.rsplit(')').next().unwrap_or_default();
            if fields.split_whitespace().nth(2) != Some(group.as_str()) {
                continue;
            }
            for task in fs::read_dir(entry.path().join("task"))
                .into_iter()
                .flatten()
                .flatten()
            {
                let read = |name| fs::read_to_string(task.path().join(name)).unwrap_or_default();
                let path = task.path();
                for part in [&path.to_string_lossy(), " ", &read("comm"), &read("stack")] {
                    text.push_str(part);
                }
            }
        }
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its orders is its end, with everything unmounted.
        self.orders = None;
        for _ in 0..200 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // One that hangs is left to the kernel.
        if let Ok(group) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        for _ in 0..200 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

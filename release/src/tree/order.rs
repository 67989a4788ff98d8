//! Batches go out to threads; what they found comes back in the order of the walk.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use op_dbus_bootstate::Digest;
use sha2::{Digest as _, Sha256};

use super::batch::{Failure, Item, Part, Reader, Reading};
use super::{PRIVILEGED_MAX, Privileged, refuse};

/// Batches under way, for each thread: enough that one large file does not keep
/// the others waiting.
const AHEAD: usize = 4;

enum Message {
    Part(Part),
    End(Result<(), Failure>),
}

struct Job {
    items: Vec<Item>,
    /// Room for one part: who is ahead of the order waits here, so memory is
    /// bounded whatever the tree holds.
    result: SyncSender<Message>,
}

/// The digest as it grows.
struct Sum {
    hash: Sha256,
    privileged: Vec<Privileged>,
}

impl Sum {
    fn add(&mut self, part: Part) -> Result<(), Failure> {
        self.hash.update(&part.bytes);
        self.privileged.extend(part.privileged);
        if self.privileged.len() > PRIVILEGED_MAX {
            let last = self.privileged.pop();
            let why = format!("the tree has more than {PRIVILEGED_MAX} privileged entries");
            return Err(Failure {
                path: last.map(|entry| entry.path).unwrap_or_default(),
                why: refuse(why),
            });
        }
        Ok(())
    }
}

enum Hands<'a> {
    /// This thread's own.
    Own(Box<Reader<'a>>),
    /// Other threads', with what is under way, in order.
    Others {
        jobs: Sender<Job>,
        pending: VecDeque<Receiver<Message>>,
        most: usize,
    },
}

/// Where the walk leaves its batches.
pub(super) struct Order<'a> {
    sum: Sum,
    hands: Hands<'a>,
}

impl Order<'_> {
    /// Takes the next batch of the walk. Waits while enough are under way.
    pub(super) fn push(&mut self, items: Vec<Item>) -> Result<(), Failure> {
        match &mut self.hands {
            Hands::Own(reader) => {
                let mut added = Ok(());
                let read = reader.batch(items, &mut |part| {
                    if added.is_ok() {
                        added = self.sum.add(part);
                    }
                });
                added.and(read)
            }
            Hands::Others {
                jobs,
                pending,
                most,
            } => {
                if pending.len() >= *most {
                    if let Some(first) = pending.pop_front() {
                        drain(&first, &mut self.sum)?;
                    }
                }
                let (result, receiver) = sync_channel(1);
                pending.push_back(receiver);
                // With all threads gone the receiver says so.
                let _ = jobs.send(Job { items, result });
                Ok(())
            }
        }
    }

    /// Waits for what is under way.
    fn finish(&mut self) -> Result<(), Failure> {
        if let Hands::Others { pending, .. } = &mut self.hands {
            while let Some(first) = pending.pop_front() {
                drain(&first, &mut self.sum)?;
            }
        }
        Ok(())
    }
}

fn drain(batch: &Receiver<Message>, sum: &mut Sum) -> Result<(), Failure> {
    loop {
        match batch.recv() {
            Ok(Message::Part(part)) => sum.add(part)?,
            Ok(Message::End(result)) => return result,
            Err(_) => {
                return Err(Failure {
                    path: Vec::new(),
                    why: io::Error::other("a reading thread ended unexpectedly"),
                });
            }
        }
    }
}

/// Runs a walk whose batches are read by that many threads: its own result, the
/// digest, and what needs permission.
pub(super) fn run<T>(
    reading: Reading,
    threads: usize,
    header: &[u8],
    walk: impl FnOnce(&mut Order<'_>) -> Result<T, Failure>,
) -> Result<(T, Digest, Vec<Privileged>), Failure> {
    let stop = AtomicBool::new(false);
    let sum = Sum {
        hash: Sha256::new_with_prefix(header),
        privileged: Vec::new(),
    };
    let (jobs, queue) = channel::<Job>();
    let queue = Mutex::new(queue);
    thread::scope(|scope| {
        let mut started = 0_usize;
        // One thread would only hand over to another.
        let wanted = if threads > 1 { threads } else { 0 };
        for _ in 0..wanted {
            let work = || work(&queue, Reader::new(reading, &stop));
            let thread = thread::Builder::new().name("tree".to_owned());
            // Fewer will do as well.
            started += usize::from(thread.spawn_scoped(scope, work).is_ok());
        }
        let hands = if started > 0 {
            Hands::Others {
                jobs,
                pending: VecDeque::new(),
                most: started.saturating_mul(AHEAD),
            }
        } else {
            Hands::Own(Box::new(Reader::new(reading, &stop)))
        };
        let mut order = Order { sum, hands };
        let result = walk(&mut order).and_then(|found| {
            order.finish()?;
            Ok(found)
        });
        // Ends the threads: nobody waits for them, no more jobs come.
        stop.store(true, Ordering::Relaxed);
        let Order { sum, hands } = order;
        drop(hands);
        Ok((result?, Digest(sum.hash.finalize().into()), sum.privileged))
    })
}

fn work(queue: &Mutex<Receiver<Job>>, mut reader: Reader<'_>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { items, result }) = next else {
            return;
        };
        // Without a receiver the walk has failed, and `stop` is set.
        let read = reader.batch(items, &mut |part| {
            let _ = result.send(Message::Part(part));
        });
        let _ = result.send(Message::End(read));
    }
}

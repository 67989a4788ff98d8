//! A file system with one file, of which every read, write and flush comes to
//! this process.
//!
//! It is mounted nowhere: the mount is only a descriptor, so that nothing stays
//! behind. Three things make sure that a process that is killed does not hang on
//! the disk it serves itself:
//!
//! - The descriptor of `/dev/fuse` is in a table that only the serving threads
//!   have. A thread that waits for the disk can't be killed, and keeps the table
//!   of its process alive; were the descriptor in there, the connection would
//!   stay, the wait would never end, and neither would the process. As it is,
//!   the connection ends with the serving threads, and whoever waits gets EIO.
//! - They have a mount namespace to themselves, with nothing in it. Otherwise one
//!   of them can be the last thread of its process to go, and so the one that
//!   unmounts what is mounted from the disk: before it has closed its
//!   descriptors, as both are work left for the end, first come, first served.
//! - Serving threads never touch what is mounted from the disk, not even to find
//!   memory (`PR_SET_IO_FLUSHER`): writing back its dirty pages needs them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, ReplyXattr, Request, Session, SessionACL, WriteFlags,
};
use nix::sys::socket;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use crate::sys;

const FILE: INodeNo = INodeNo(2);
/// Nothing but us changes what the kernel may remember.
const FOREVER: Duration = Duration::from_secs(1 << 30);
/// The kernel's own limit is 1 MiB (`fs.fuse.max_pages_limit`).
const MAX_REQUEST: u32 = 1 << 20;

/// What a disk does.
pub(crate) trait Medium: Send + 'static {
    /// In bytes.
    fn size(&self) -> u64;
    /// Fills `to` with what is at `offset`.
    fn read(&mut self, offset: u64, to: &mut [u8]);
    /// Takes `from` to `offset`.
    fn write(&mut self, offset: u64, from: &[u8]);
    /// Whatever was written is to be durable now.
    fn flush(&mut self);
}

/// Nothing that holds the lock can panic and leave a medium half changed.
pub(crate) fn lock<M>(medium: &Mutex<M>) -> MutexGuard<'_, M> {
    medium.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The serving threads.
#[derive(Debug)]
pub(crate) struct Server {
    ended: Receiver<io::Result<()>>,
}

impl Server {
    /// Starts to serve, and opens the file. The name is what `losetup` shows.
    pub(crate) fn start<M: Medium>(medium: Arc<Mutex<M>>, name: &str) -> io::Result<(Self, File)> {
        let (ours, theirs) = socket::socketpair(
            socket::AddressFamily::Unix,
            socket::SockType::SeqPacket,
            None,
            socket::SockFlag::SOCK_CLOEXEC,
        )?;
        let (end, ended) = channel();
        thread::Builder::new()
            .name("crash-disk".into())
            .spawn(move || {
                // Nobody listens any more once the disk was dropped.
                let _ = end.send(serve(medium, &theirs));
            })?;
        let server = Self { ended };
        let Some(mount) = receive(&ours)? else {
            let ended = server.ended.recv_timeout(Duration::from_secs(5));
            let error = match ended {
                Ok(Err(error)) => error,
                _ => io::ErrorKind::BrokenPipe.into(),
            };
            return Err(error);
        };
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&mount, name, flags, Mode::empty())?;
        Ok((server, file.into()))
    }

    /// Waits for the end of the file system, which comes with its last user.
    pub(crate) fn join(self, limit: Duration) -> io::Result<()> {
        self.ended
            .recv_timeout(limit)
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// On a thread of its own: mounts, hands the mount over and serves.
fn serve<M: Medium>(medium: Arc<Mutex<M>>, socket: &OwnedFd) -> io::Result<()> {
    // Both need privileges that root has; where they are missing, the disk works
    // all the same while memory lasts.
    let _ = rustix::process::configure_io_flusher_behavior(true);
    sys::own_descriptors(socket.as_fd())?;
    let fuse = File::options().read(true).write(true).open("/dev/fuse")?;
    sys::no_mounts()?;
    let filesystem = rustix::mount::fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [
        ("fd", fuse.as_raw_fd().to_string()),
        ("rootmode", "40000".into()),
        ("user_id", "0".into()),
        ("group_id", "0".into()),
    ] {
        rustix::mount::fsconfig_set_string(&filesystem, key, value)?;
    }
    rustix::mount::fsconfig_create(&filesystem)?;
    let mount = rustix::mount::fsmount(
        &filesystem,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )?;
    let size = lock(&medium).size();
    let session = Session::from_fd(
        OneFile { medium, size },
        fuse.into(),
        SessionACL::Owner,
        fuser::Config::default(),
    )?;
    send(socket, &mount)?;
    drop((mount, filesystem));
    match session.run() {
        // The last request was being read while the file system ended
        // (fuse_dev_do_read()); without one, fuser tells of a regular end.
        Err(why) if why.kind() == io::ErrorKind::ConnectionAborted => Ok(()),
        ended => ended,
    }
}

fn send(socket: &OwnedFd, descriptor: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    rustix::net::sendmsg(
        socket,
        &[IoSlice::new(b"m")],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// None if the other side is gone.
fn receive(socket: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(socket, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    }))
}

struct OneFile<M> {
    medium: Arc<Mutex<M>>,
    size: u64,
}

impl<M> OneFile<M> {
    fn attributes(&self, node: INodeNo) -> FileAttr {
        let is_file = node == FILE;
        FileAttr {
            ino: node,
            size: if is_file { self.size } else { 0 },
            blocks: if is_file { self.size / 512 } else { 0 },
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if is_file {
                FileType::RegularFile
            } else {
                FileType::Directory
            },
            perm: if is_file { 0o600 } else { 0o700 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl<M: Medium> fuser::Filesystem for OneFile<M> {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // What the kernel can't do stays at what it can.
        let _ = config.set_max_write(MAX_REQUEST);
        let _ = config.set_max_readahead(MAX_REQUEST);
        let _ = config.set_max_background(64);
        // Direct reads and writes need not wait for each other.
        let _ = config.add_capabilities(InitFlags::FUSE_ASYNC_DIO);
        Ok(())
    }

    /// It goes by any name.
    fn lookup(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.entry(&FOREVER, &self.attributes(FILE), Generation(0));
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attributes(node));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(
            FileHandle(0),
            FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH,
        );
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let left = self.size.saturating_sub(offset).min(u64::from(size));
        let mut data = vec![0; usize::try_from(left).unwrap_or_default()];
        lock(&self.medium).read(offset, &mut data);
        reply.data(&data);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        lock(&self.medium).write(offset, data);
        reply.written(u32::try_from(data.len()).unwrap_or_default());
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        lock(&self.medium).flush();
        reply.ok();
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EOPNOTSUPP);
    }

    /// Asked before every write, unless the answer is that there are none at all.
    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }
}
